"""A record of ended requests: one line of JSON for each, written in batches, and searched in a thread."""
