"""Tools for the event loop: timers, tasks side by side, threads."""
