"""What the results say: functions of the results table."""
