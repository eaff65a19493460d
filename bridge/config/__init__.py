"""`bridge.toml`: what may stand in it, where it is found, how its values are read."""
