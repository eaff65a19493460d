"""What monitoring reads: health, probes and metrics."""
