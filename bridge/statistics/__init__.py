"""What happened, counted by hour, key, model and outcome."""
