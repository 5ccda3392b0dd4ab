"""Studies as single files that others can open, join, and check."""
