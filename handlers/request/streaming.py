"""Streaming of an answer: a status that waits for the first event, keep-alives, backpressure, errors as events."""

from __future__ import annotations

import asyncio
from time import monotonic
from types import TracebackType
from typing import Final, Self

from aiohttp import hdrs

from bridge.dialects.dialect import StreamOpening
from bridge.headers import BUFFERING
from handlers.request.aiohttp_internals import CallerResponse
from handlers.request.appkeys import TASKS, TIMERS
from handlers.request.model_call import ModelCall
from handlers.request.writing import CallerWriter

_HEADERS: Final = {
    hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
    hdrs.CACHE_CONTROL: "no-store",
    BUFFERING: "no",  # or nginx would buffer the deltas
}


class EventStream(CallerWriter):
    """One answer as server-sent events.

    Nothing is sent before the first `write`, so that an earlier error has its own status. After `keepalive_seconds`
    without a write, the stream commits to status 200 and sends a keep-alive.
    """

    #: Whether the encoder's opening has been written, or is never to be.
    started = False
    #: Whether the status has been sent, so that an error must be an event.
    committed = False
    _keepalive_task: asyncio.Task[None] | None = None

    def __init__(self, call: ModelCall, encoder: StreamOpening) -> None:
        super().__init__(call.request, CallerResponse(headers=_HEADERS), call.config.server.write_timeout)
        self._tasks, self._timers = call.app[TASKS], call.app[TIMERS]
        self._encoder = encoder
        self._settings = call.config.stream

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
        await self.end(await self._begin(data))

    async def _begin(self, data: bytes) -> bytes:
        """Commit to status 200, and return `data` after the opening, if that is still to be written."""
        if self._keepalive_task is not None:  # which may be sending the headers
            await asyncio.wait((self._keepalive_task,))
        await self._commit()
        return self._take_opening() + data

    def _take_opening(self) -> bytes:
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
        if self._keepalive_task is not None:
            self._keepalive_task.cancel()

    def on_timer(self) -> None:
        """Send a keep-alive if nothing was sent for long enough. A timer is cheaper than a task for each stream."""
        now, keepalive_seconds = monotonic(), self._settings.keepalive_seconds
        if now >= self._written_at + keepalive_seconds:
            self._keepalive_task = self._tasks.spawn(self._send_keepalive(), name="keep-alive")
            self._written_at = now
        self._timers.set(self, self._written_at + keepalive_seconds)

    async def _send_keepalive(self) -> None:
        try:
            await self._commit()
            data = self._encoder.keepalive
            if self._settings.keepalive == "chunk":
                data = self._take_opening() or self._encoder.idle()
            await super().write(data)
        except ConnectionResetError:
            return  # the task that makes the answer will notice it
