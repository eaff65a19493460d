"""Waits for the log lines of a bridge's requests."""

from __future__ import annotations

import asyncio
import logging
from typing import Any


class RequestLog(logging.Handler):
    """Records the fields of each line; a request's line is logged when it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []
        self._unread: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        """Record a line."""
        fields: dict[str, Any] = vars(record)["fields"]
        self.seen.append(fields)
        self._unread.put_nowait(fields)

    async def line(self, within: float = 1.0) -> dict[str, Any]:
        """Wait for the next line's fields, for `within` seconds. Raises TimeoutError."""
        return await asyncio.wait_for(self._unread.get(), within)
