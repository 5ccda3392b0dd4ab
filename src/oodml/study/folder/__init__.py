"""The study folder: the only interface between processes."""
