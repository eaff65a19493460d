"""Endpoints for monitoring: health, probes and metrics."""
