"""Statistics of requests, by time, key, model and outcome."""
