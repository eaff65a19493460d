"""Waits by polling for conditions that set no event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], object], within: float = 20.0) -> None:
    """Wait until `holds` returns something true. Raises TimeoutError after `within` seconds."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 — what is waited for sets no event
            await asyncio.sleep(0.001)
