"""A streamed answer to a caller: first event before the status, keep-alive, backpressure, failure after the status."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from bridge.config import Stream
from bridge.tasks import TaskOwner
from handlers.writing import CallerWriter

_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would collect the deltas
}


class EventStream:
    """One answer as server-sent events.

    Nothing is sent before the first `write`, so that an error until then has a true status; after
    `keepalive_seconds` of waiting the stream commits to 200 and says that it lives. `start` is the first chunk,
    `idle_chunk` an empty delta.
    """

    def __init__(
        self,
        request: web.Request,
        *,
        start: bytes,
        comment: bytes,
        idle_chunk: bytes,
        settings: Stream,
        write_timeout: float,
        tasks: TaskOwner,
    ) -> None:
        self.response = web.StreamResponse(headers=_HEADERS)
        self._writer = CallerWriter(request, self.response, write_timeout)
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks
        self._start: bytes | None = start
        self._settings = settings
        self._comment = comment
        self._idle_chunk = idle_chunk
        self._turn = asyncio.Lock()  # the keep-alive may be sending the headers when the first event comes
        self._written_at = self._loop.time()
        self._keeper: asyncio.Task[None] | None = None
        #: The status has been sent: from here on an error is an event.
        self.committed = False

    async def __aenter__(self) -> Self:
        if self._settings.keepalive != "off":
            self._keeper = self._tasks.spawn(self._keep_alive(), name="keep-alive")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is not None:
            self._keeper.cancel()

    async def write(self, data: bytes) -> None:
        """Send what one read brought, in one write. Raises ConnectionResetError when the caller has gone."""
        if self._start is not None:
            async with self._turn:
                await self._commit()
                data = self._take_start() + data
        self._written_at = self._loop.time()
        await self._writer.write(data)

    async def end(self) -> None:
        """End the body in order."""
        if self._keeper is not None:
            self._keeper.cancel()
        await self._writer.write_eof()

    async def write_error(self, data: bytes) -> None:
        """Send the one event that ends a broken stream, and end the body."""
        self._start = None
        await self.write(data)
        await self.end()

    def _take_start(self) -> bytes:
        start, self._start = self._start or b"", None
        return start

    async def _commit(self) -> None:
        if not self.committed:
            self.committed = True
            await self._writer.prepare()

    async def _keep_alive(self) -> None:
        """Say that the answer is still being waited for, whenever nothing was written for a while."""
        seconds = self._settings.keepalive_seconds
        while True:
            wait = self._written_at + seconds - self._loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            self._written_at = self._loop.time()
            try:
                async with self._turn:
                    await self._commit()
                    alive = self._comment
                    if self._settings.keepalive == "chunk":
                        alive = self._take_start() or self._idle_chunk
                await self._writer.write(alive)
            except ConnectionResetError:
                return  # the answer's own task learns of it by itself
