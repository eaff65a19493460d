"""A streamed answer to a caller: first event before the status, keep-alive, backpressure, failure after the status."""

from __future__ import annotations

import asyncio
from time import monotonic
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from bridge.config.schema import StreamSection
from bridge.dialects.dialect import StreamOpening
from bridge.tasks import TaskOwner
from handlers.request.aiohttp_internals import CallerResponse
from handlers.request.writing import CallerWriter
from upstream.loop.timers import Timers

_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would collect the deltas
}


class EventStream(CallerWriter):
    """One answer as server-sent events.

    Nothing is sent before the first `write`, so that an error until then has a true status; after
    `keepalive_seconds` of waiting the stream commits to 200 and says that it lives.
    """

    def __init__(
        self,
        request: web.Request,
        *,
        encoder: StreamOpening,
        settings: StreamSection,
        write_timeout: float,
        tasks: TaskOwner,
        timers: Timers,
    ) -> None:
        super().__init__(request, CallerResponse(headers=_HEADERS), write_timeout)
        self._tasks = tasks
        self._timers = timers
        self._encoder = encoder
        #: The encoder's start has been written, or is to be.
        self.started = False
        self._settings = settings
        self._keeper: asyncio.Task[None] | None = None
        #: The status has been sent: from here on an error is an event.
        self.committed = False

    def __enter__(self) -> Self:
        if self._settings.keepalive != "off":
            self._timers.set(self, self._written_at + self._settings.keepalive_seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hush()

    async def write(self, data: bytes) -> None:
        """Send what one read brought, in one write, and wait for a slow caller. Raises ConnectionResetError."""
        if not self.started:
            data = await self._begin(data)
        await super().write(data)

    async def end(self, data: bytes) -> None:
        """Send the last of the body, and end it in order."""
        if not self.started:
            data = await self._begin(data)
        self._hush()
        await self.write_eof(data)

    async def write_error(self, data: bytes) -> None:
        """Send the one event that ends a broken stream, and end the body."""
        self.started = True
        await self.end(data)

    async def _begin(self, data: bytes) -> bytes:
        """Commit to 200 before the first of the body, and put the first chunk before it."""
        if self._keeper is not None:  # it may be sending the headers
            await asyncio.wait((self._keeper,))
        await self._commit()
        return self._take_start() + data

    def _take_start(self) -> bytes:
        if self.started:
            return b""
        self.started = True
        return self._encoder.start()

    async def _commit(self) -> None:
        if not self.committed:
            self.committed = True
            await self.prepare()

    def _hush(self) -> None:
        self._timers.cancel(self)
        if self._keeper is not None:
            self._keeper.cancel()

    def on_timer(self) -> None:
        """Send a keep-alive if nothing was sent for long enough. A task for each stream would cost memory and time."""
        now, keepalive_seconds = monotonic(), self._settings.keepalive_seconds
        if now >= self._written_at + keepalive_seconds:
            self._keeper = self._tasks.spawn(self._say_alive(), name="keep-alive")
            self._written_at = now
        self._timers.set(self, self._written_at + keepalive_seconds)

    async def _say_alive(self) -> None:
        """Say that the answer is still being waited for."""
        try:
            await self._commit()
            alive = self._encoder.keepalive
            if self._settings.keepalive == "chunk":
                alive = self._take_start() or self._encoder.idle()
            await super().write(alive)
        except ConnectionResetError:
            return  # the answer's own task learns of it by itself
