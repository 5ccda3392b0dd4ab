"""Hyperparameter search over a study's ranges."""
