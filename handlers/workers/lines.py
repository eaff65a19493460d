"""Messages between the parent and a worker: lines of JSON, `[kind, value]`, over a pair of connected sockets.

    worker → parent   notify      text      a change of state or a sign of life, as sd_notify(3) writes it
                      report      object    the worker's health, when it has changed
                      measures    list      [round, the worker's metrics]: on request, every few seconds, and at its end
                      gather      number    requests the metrics of all workers
                      reload      number    requests that all workers read the configuration again, as SIGHUP does
                      reread      boolean   whether the worker could use the configuration that it has read again
                      log         object    how all workers are to switch their logs; null ends that
    parent → worker   roster      list      all workers with their states and reports (`WorkerRow`), after a change
                      succeeded   null      the worker's successor serves; SIGTERM follows
                      measure     number    requests the worker's metrics, with the number of the round
                      gathered    list      [request, its own metrics, those of the others, counts of the ended ones]
                      reloaded    list      [request, [[worker, its `reread` or null], …]]
                      log         object    how the log is switched; null if it is as configured

The number of a request identifies it in the answer. Unknown kinds are skipped: after an upgrade the workers may be
newer than their parent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, cast

import orjson

from bridge.tasks import set_within

#: Far more than the metrics of a thousand models take: only a broken peer sends a longer line.
MAX_LINE_BYTES: Final = 32 * 1024 * 1024
_CLOSING_SECONDS: Final = 1.0


class WorkerState(StrEnum):
    """A worker's state. In the roster, `GONE` is a worker that has ended and has not been started again yet."""

    STARTING = "starting"
    READY = "ready"
    RELOADING = "reloading"
    DRAINING = "draining"
    GONE = "gone"


class Lines(asyncio.Protocol):
    """One end of the link. `on_message` gets each message's kind and value; `on_end` is called when the link closes."""

    _transport: asyncio.Transport

    def __init__(self, on_message: Callable[[str, Any], None], on_end: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._rest = bytearray()
        self._closed = asyncio.Event()

    def send(self, kind: str, value: object = None) -> None:
        """Send a message, unless the link is closed. Does not wait for the other end."""
        if not self._transport.is_closing():
            self._transport.write(orjson.dumps([kind, value]) + b"\n")

    async def aclose(self) -> None:
        """Close this end once all messages are written, or after _CLOSING_SECONDS."""
        self._transport.close()
        if not await set_within(self._closed, _CLOSING_SECONDS):
            self._transport.abort()
            await self._closed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio: the link is open."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 — the link is closed, whatever the reason
        """Called by asyncio: the link is closed."""
        self._closed.set()
        self._on_end()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: hand on the message of each complete line."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest = bytearray(rest)
        else:
            self._rest += rest
        if len(self._rest) > MAX_LINE_BYTES:
            self._transport.abort()
        for line in lines:
            match orjson.loads(line):
                case [str(kind), value]:
                    self._on_message(kind, value)
