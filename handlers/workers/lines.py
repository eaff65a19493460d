"""Messages between the parent and a worker: over a pair of connected sockets, a line of JSON each, `[kind, value]`.

    worker → parent   notify      text      a change of state or a sign of life, as sd_notify(3) writes it
                      report      object    the worker's health, when it has changed
                      measures    list      [round, the worker's metrics]: when asked, every few seconds, at its end
                      gather      number    asks for everybody's metrics
                      reload      number    asks that all read the configuration again, as SIGHUP does
                      reread      boolean   whether the worker could use the configuration that it read again
                      log         object    how all are to switch their logs; null ends that
    parent → worker   roster      list      all workers with their states and reports (`WorkerRow`), after a change
                      succeeded   null      its successor serves; SIGTERM follows
                      measure     number    asks for the worker's metrics, by the number of a round
                      gathered    list      [number, metrics of the others, counts of those that have ended]
                      reloaded    list      [number, [[worker, what it said by `reread`, else null], …]]
                      log         object    how the log is switched; null where it is as configured

A kind that the receiver does not know is skipped: after an upgrade the workers may be newer than their parent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, cast

import orjson

from bridge.tasks import set_within

#: Far more than the metrics of a thousand models: only a broken peer sends a longer line.
MAX_LINE_BYTES: Final = 32 * 1024 * 1024
_CLOSING_SECONDS: Final = 1.0


class WorkerState(StrEnum):
    """What a worker does; `GONE` also stands for a place whose worker has not been started again yet."""

    STARTING = "starting"
    READY = "ready"
    RELOADING = "reloading"
    DRAINING = "draining"
    GONE = "gone"


class Lines(asyncio.Protocol):
    """One end. `on_message` gets each message's kind and value, `on_end` is called once the other end is closed."""

    _transport: asyncio.Transport

    def __init__(self, on_message: Callable[[str, Any], None], on_end: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._rest = bytearray()
        self._closed = asyncio.Event()

    def send(self, kind: str, value: object = None) -> None:
        """Send a message, or nothing once the connection has ended. Does not wait for the other end."""
        if not self._transport.is_closing():
            self._transport.write(orjson.dumps([kind, value]) + b"\n")

    async def aclose(self) -> None:
        """Close this end once all messages are written, if the other end reads them within a moment."""
        self._transport.close()
        if not await set_within(self._closed, _CLOSING_SECONDS):
            self._transport.abort()
            await self._closed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 — the other process has ended, all the same
        """Report the end."""
        self._closed.set()
        self._on_end()

    def data_received(self, data: bytes) -> None:
        """Hand each whole line on."""
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
