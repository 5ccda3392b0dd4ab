"""Choosing triplets from a batch, one file each: `class Miner`."""
