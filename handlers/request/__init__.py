"""What every request has: the caller, the body and its budget, the answer's bytes, the log line."""
