"""Distance between train and test classes, and class splits with a chosen distance."""
