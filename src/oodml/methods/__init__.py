"""Metric-learning methods, one file each: `class Method`."""
