"""Waits for what sets no event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], object], within: float = 20.0) -> None:
    """Wait until something holds. Raises TimeoutError if it does not within so many seconds."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 — what is waited for sets no event
            await asyncio.sleep(0.001)
