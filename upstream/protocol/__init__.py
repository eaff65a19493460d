"""LMArena's protocol as pure functions over bytes and values: no socket, no loop."""
