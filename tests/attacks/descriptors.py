"""Descriptors run out: `python tests/attacks/descriptors.py [--files N]`. A stream's gaps are the bystander's p99."""

from __future__ import annotations

import os

from stand import Target, hold, in_parallel, main

#: As `ulimit -n` before the daemon starts.
OPEN_FILES = int(os.environ.get("OPEN_FILES", "64"))


async def _idle(target: Target) -> None:
    """More connections than there are descriptors, none of which says a word."""
    await in_parallel(2 * OPEN_FILES, lambda _: hold(target, b""))


async def _half(target: Target) -> None:
    """The same with half a request each."""
    await in_parallel(2 * OPEN_FILES, lambda _: hold(target, b"GET / HTTP/1.1\r\nHost: x\r\n"))


async def _keys(target: Target) -> None:
    """The same by somebody who has a key, between two requests."""
    asked = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {target.key}\r\n\r\n".encode()
    await in_parallel(2 * OPEN_FILES, lambda _: hold(target, asked))


if __name__ == "__main__":
    main(__file__, {"idle": _idle, "half-heads": _half, "kept-by-a-key": _keys}, open_files=OPEN_FILES)
