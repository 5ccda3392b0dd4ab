"""What a result, a metric, and a planned run are."""
