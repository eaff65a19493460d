"""Front APIs, one file each: bytes → request, batches of events → bytes. No I/O."""
