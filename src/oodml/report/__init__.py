"""The answer of a study: figures, tables, and one page."""
