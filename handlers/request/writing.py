"""Writing to a caller with backpressure, and a timeout for one that does not read.

aiohttp has no such timeout; here the connection is aborted after `write_timeout` without progress.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from aiohttp import ClientConnectionResetError, HttpVersion11, web
from aiohttp.http import StreamWriter

from handlers.request.aiohttp_internals import CallerResponse, ServerConnection
from handlers.request.appkeys import RECORD

#: With at most this many unsent bytes the transport is not paused, so a write cannot block: asyncio's low-water mark.
_NEVER_BLOCKS_BYTES: Final = 16 * 1024
#: A long body is written in slices, so that the transport does not buffer a copy of it.
_SLICE_BYTES: Final = 64 * 1024


class CallerWriter:
    """Writes the body of one answer; call `prepare` first."""

    _chunked = False
    _transport: asyncio.Transport | None = None

    def __init__(self, request: web.Request, response: CallerResponse, write_timeout: float) -> None:
        self._request = request
        self.response = response
        self._write_timeout = write_timeout
        self._written_at = monotonic()
        record = request.get(RECORD)
        self._recording = None if record is None else record.recording

    async def prepare(self) -> None:
        """Prepare the status and headers, which are sent with the first write."""
        if self._request.version < HttpVersion11 and self.response.content_length is None:
            self.response.force_close()  # the end of the connection marks the end of the body
        writer = await self.response.prepare(self._request)
        self._chunked = isinstance(writer, StreamWriter) and writer.chunked
        self._transport = self._request.transport
        if self._recording is not None:
            self._recording.note_head(self.response)

    def send(self, data: bytes) -> bool:
        """Write without waiting; return whether the caller keeps up: if not, call `drain`. It must follow a `write`.

        It bypasses aiohttp's writer, whose coroutine would cost time for every delta.
        Raises ConnectionResetError if the caller has disconnected.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("the caller has disconnected")
        self._written_at = now = monotonic()
        if self._recording is not None:
            self._recording.answer.add(data, now)
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        return transport.get_write_buffer_size() <= _NEVER_BLOCKS_BYTES

    async def drain(self) -> None:
        """Wait until the caller has read enough. Raises ConnectionResetError if it has disconnected."""
        transport = self._request.transport
        if transport is not None and transport.get_write_buffer_size() > _NEVER_BLOCKS_BYTES:
            with _StallWatch(transport, 0, self._write_timeout):
                await self._request.writer.drain()

    async def write(self, data: bytes) -> None:
        """Write, and wait until the caller has read enough. Raises ConnectionResetError if it has disconnected."""
        self._written_at = monotonic()
        await self._write_watched(self.response.write, data)

    async def write_whole(self, body: bytes) -> None:
        """Write a whole body and its end."""
        view = memoryview(body)
        for start in range(0, len(body), _SLICE_BYTES):
            await self.write(bytes(view[start : start + _SLICE_BYTES]))
        await self.write_eof()

    async def write_eof(self, data: bytes = b"") -> None:
        """Write the last part of the body and its end together, and wait until the caller has read enough."""
        await self._write_watched(self.response.write_eof, data)
        connection = self._request.protocol
        if isinstance(connection, ServerConnection):
            connection.answer_written = True

    async def _write_watched(self, write: Callable[[bytes], Awaitable[None]], data: bytes) -> None:
        """Write, and abort the connection if it makes no progress for `write_timeout`."""
        transport = self._request.transport
        if transport is None:
            raise ClientConnectionResetError("the caller has disconnected")
        if data and self._recording is not None:
            self._recording.answer.add(data)
        if len(data) + transport.get_write_buffer_size() <= _NEVER_BLOCKS_BYTES:
            await write(data)
            return
        with _StallWatch(transport, len(data), self._write_timeout):
            await write(data)


class _StallWatch:
    """A context that aborts a transport whose number of unsent bytes has not decreased for `timeout` seconds.

    `upcoming` bytes are about to be written within it.
    """

    def __init__(self, transport: asyncio.WriteTransport, upcoming: int, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._timeout = timeout
        self._unsent = transport.get_write_buffer_size() + upcoming
        self._handle = self._loop.call_later(timeout, self._check)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._handle.cancel()

    def _check(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        if unsent >= self._unsent:
            self._transport.abort()
            return
        self._unsent = unsent
        self._handle = self._loop.call_later(self._timeout, self._check)
