"""`bridge.toml`: its keys, where it is found, how its values are read."""
