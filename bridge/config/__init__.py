"""The configuration: its keys, its sources, and how their values are read."""
