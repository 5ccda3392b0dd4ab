"""Losses, one file each: `class Loss`."""
