"""Figures and the page: the only place that draws."""
