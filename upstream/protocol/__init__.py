"""LMArena's protocol as pure functions over bytes and values: no sockets, no event loop."""
