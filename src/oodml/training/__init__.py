"""Training: one loop for every method, its settings, and where batches come from."""
