"""Recordings of single calls: both sides with their bytes and times, without secrets (docs/recordings.md)."""
