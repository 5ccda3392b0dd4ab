"""Training: one loop for all methods, its settings, and the sources of batches."""
