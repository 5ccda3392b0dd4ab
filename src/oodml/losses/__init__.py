"""Losses, one file each; every file defines `class Loss`."""
