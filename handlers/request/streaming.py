"""A streamed answer to a caller: first event before the status, keep-alive, backpressure, failure after the status."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from bridge.config.schema import Stream
from bridge.tasks import TaskOwner
from handlers.request.aiohttp_internals import LateHeadResponse
from handlers.request.writing import CallerWriter
from upstream.loop.timers import Alarms

_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would collect the deltas
}


class EventStream(CallerWriter):
    """One answer as server-sent events.

    Nothing is sent before the first `write`, so that an error until then has a true status; after
    `keepalive_seconds` of waiting the stream commits to 200 and says that it lives. `start` is the first chunk,
    `idle` makes an empty delta.
    """

    def __init__(
        self,
        request: web.Request,
        *,
        start: bytes,
        comment: bytes,
        idle: Callable[[], bytes],
        settings: Stream,
        write_timeout: float,
        tasks: TaskOwner,
        alarms: Alarms,
    ) -> None:
        super().__init__(request, LateHeadResponse(headers=_HEADERS), write_timeout)
        self._tasks = tasks
        self._alarms = alarms
        self._start: bytes | None = start
        self._settings = settings
        self._comment = comment
        self._idle = idle
        self._keeper: asyncio.Task[None] | None = None
        #: The status has been sent: from here on an error is an event.
        self.committed = False

    def __enter__(self) -> Self:
        if self._settings.keepalive != "off":
            self._alarms.set(self, self._written_at + self._settings.keepalive_seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hush()

    async def write(self, data: bytes) -> None:
        """Send what one read brought, in one write, and wait for a slow caller. Raises ConnectionResetError."""
        if self._start is not None:
            data = await self._begin(data)
        await super().write(data)

    async def end(self, data: bytes) -> None:
        """Send the last of the body, and end it in order."""
        if self._start is not None:
            data = await self._begin(data)
        self._hush()
        await self.write_eof(data)

    async def write_error(self, data: bytes) -> None:
        """Send the one event that ends a broken stream, and end the body."""
        self._start = None
        await self.end(data)

    async def _begin(self, data: bytes) -> bytes:
        """Commit to 200 before the first of the body, and put the first chunk before it."""
        if self._keeper is not None:  # it may be sending the headers
            await asyncio.wait((self._keeper,))
        await self._commit()
        return self._take_start() + data

    def _take_start(self) -> bytes:
        start, self._start = self._start or b"", None
        return start

    async def _commit(self) -> None:
        if not self.committed:
            self.committed = True
            await self.prepare()

    def _hush(self) -> None:
        self._alarms.clear(self)
        if self._keeper is not None:
            self._keeper.cancel()

    def ring(self) -> None:
        """Look whether there was silence; an alarm, since a task for each stream would cost it 3 KiB and 40 µs."""
        now, keepalive_seconds = monotonic(), self._settings.keepalive_seconds
        if now >= self._written_at + keepalive_seconds:
            self._keeper = self._tasks.spawn(self._say_alive(), name="keep-alive")
            self._written_at = now
        self._alarms.set(self, self._written_at + keepalive_seconds)

    async def _say_alive(self) -> None:
        """Say that the answer is still being waited for."""
        try:
            await self._commit()
            alive = self._comment
            if self._settings.keepalive == "chunk":
                alive = self._take_start() or self._idle()
            await super().write(alive)
        except ConnectionResetError:
            return  # the answer's own task learns of it by itself
