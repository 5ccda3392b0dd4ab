"""Studies: plan, execute, and store many runs."""
