"""The report of a study: the page, figures and tables for a paper, and forecasts."""
