"""Statistics of the results table: scores, rankings, intervals, findings, and forecasts."""
