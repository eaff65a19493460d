"""What outlives the process: JSON documents in one folder, and all of them together."""
