"""Retrieval, clustering and the structure of an embedding."""
