"""Ended requests as they are kept: a line of JSON each, written in batches, searched off the event loop."""
