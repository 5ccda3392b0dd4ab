"""Embedding of collections that are too large for one process, in shards."""
