"""Event-loop utilities: timers, bounded concurrency, thread pools."""
