"""The study file: parsing, variants, ranges, and consistency checks."""
