"""Forecasts of what a study's methods will score on unlabeled images, and how good they are."""
