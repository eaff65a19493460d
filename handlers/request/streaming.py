"""Streaming of an answer: status only after the first event, keep-alives, backpressure, errors after the status."""

from __future__ import annotations

import asyncio
from time import monotonic
from types import TracebackType
from typing import Final, Self

from aiohttp import hdrs, web

from bridge.config.schema import StreamSection
from bridge.dialects.dialect import StreamOpening
from bridge.headers import BUFFERING
from bridge.tasks import TaskOwner
from handlers.request.aiohttp_internals import CallerResponse
from handlers.request.writing import CallerWriter
from upstream.loop.timers import Timers

_HEADERS: Final = {
    hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
    hdrs.CACHE_CONTROL: "no-store",
    BUFFERING: "no",  # or nginx would buffer the deltas
}


class EventStream(CallerWriter):
    """One answer as server-sent events.

    Nothing is sent before the first `write`, so that an earlier error has its own status; after `keepalive_seconds` of
    waiting the stream commits to 200 and sends a keep-alive.
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
        #: Whether the encoder's opening chunk has been taken to be written.
        self.started = False
        self._settings = settings
        self._keeper: asyncio.Task[None] | None = None
        #: Whether the status has been sent, so that an error must be an event.
        self.committed = False

    def __enter__(self) -> Self:
        if self._settings.keepalive != "off":
            self._timers.set(self, self._written_at + self._settings.keepalive_seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_keepalive()

    async def write(self, data: bytes) -> None:
        """Send `data` in one write, and wait for a slow caller. Raises ConnectionResetError."""
        if not self.started:
            data = await self._begin(data)
        await super().write(data)

    async def end(self, data: bytes) -> None:
        """Send the last part of the body, and complete it."""
        if not self.started:
            data = await self._begin(data)
        self._stop_keepalive()
        await self.write_eof(data)

    async def write_error(self, data: bytes) -> None:
        """Send the error event that ends a broken stream, and complete the body."""
        self.started = True
        await self._commit_in_turn()
        await self.end(data)

    async def _begin(self, data: bytes) -> bytes:
        """Commit to 200, and return `data` with the opening chunk before it."""
        await self._commit_in_turn()
        return self._take_start() + data

    async def _commit_in_turn(self) -> None:
        if self._keeper is not None:  # it may be sending the headers
            await asyncio.wait((self._keeper,))
        await self._commit()

    def _take_start(self) -> bytes:
        if self.started:
            return b""
        self.started = True
        return self._encoder.start()

    async def _commit(self) -> None:
        if not self.committed:
            self.committed = True
            await self.prepare()

    def _stop_keepalive(self) -> None:
        self._timers.cancel(self)
        if self._keeper is not None:
            self._keeper.cancel()

    def on_timer(self) -> None:
        """Send a keep-alive if nothing was sent for long enough. A timer is cheaper than a task for each stream."""
        now, keepalive_seconds = monotonic(), self._settings.keepalive_seconds
        if now >= self._written_at + keepalive_seconds:
            self._keeper = self._tasks.spawn(self._send_keepalive(), name="keep-alive")
            self._written_at = now
        self._timers.set(self, self._written_at + keepalive_seconds)

    async def _send_keepalive(self) -> None:
        try:
            await self._commit()
            alive = self._encoder.keepalive
            if self._settings.keepalive == "chunk":
                alive = self._take_start() or self._encoder.idle()
            await super().write(alive)
        except ConnectionResetError:
            return  # the answer's own task will notice it
