"""Metric-learning methods, one file each; every file defines `class Method`."""
