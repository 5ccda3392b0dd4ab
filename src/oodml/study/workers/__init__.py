"""Executing runs: local processes, Ray, Slurm, torchrun."""
