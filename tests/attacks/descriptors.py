"""Attacks that exhaust file descriptors: `OPEN_FILES=64 python tests/attacks/descriptors.py [name ...]`."""

from __future__ import annotations

import os

from stand import Target, hold, in_parallel, main

#: The limit of open files, as set by `ulimit -n` before the daemon starts.
OPEN_FILES = int(os.environ.get("OPEN_FILES", "64"))


async def _idle(target: Target) -> None:
    """Open more connections than there are descriptors, and send nothing."""
    await in_parallel(2 * OPEN_FILES, lambda _: hold(target, b""))


async def _half(target: Target) -> None:
    """Open more connections than there are descriptors, and send an incomplete head on each."""
    await in_parallel(2 * OPEN_FILES, lambda _: hold(target, b"GET / HTTP/1.1\r\nHost: x\r\n"))


async def _keys(target: Target) -> None:
    """Open more connections than there are descriptors; make a request with a key on each, then keep it open."""
    asked = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {target.key}\r\n\r\n".encode()
    await in_parallel(2 * OPEN_FILES, lambda _: hold(target, asked))


if __name__ == "__main__":
    main(__file__, {"idle": _idle, "half-heads": _half, "kept-by-a-key": _keys}, open_files=OPEN_FILES)
