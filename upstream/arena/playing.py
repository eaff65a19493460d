"""Sends the steps of an answer to a socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import aclosing
from typing import Final, assert_never

from aiohttp import web

from upstream.arena.calls import Call
from upstream.arena.steps import Abort, Close, Eof, Line, Open, Pause, Raw, Received, Step, Unframed, Until
from upstream.arena.streams import Stream

_BURST_LINES: Final = 256  # the most lines in one write: some 5 KB, below any read buffer


class Player:
    """Sends one answer, and records its progress in `call`. `response` is what the handler returns to aiohttp."""

    def __init__(self, request: web.Request, call: Call, stream: Stream) -> None:
        self._request = request
        self._call = call
        self._stream = stream
        self.response = web.StreamResponse()
        self._held: list[bytes] = []

    async def play(self) -> None:
        """Perform the steps until the answer ends.

        Raises:
            ConnectionError: a write failed because the caller has left.
            asyncio.CancelledError: the caller has left, or the arena stops.
        """
        recorder = self._stream.recorder
        try:
            async with aclosing(self._stream.source), aclosing(self._stream.steps) as steps:
                try:
                    async for step in steps:
                        if not await self._perform(step):
                            return
                    await self._flush()
                finally:
                    await self._read_rest()
        finally:
            if recorder is not None:
                recorder.feed_eof()

    async def _read_rest(self) -> None:
        """Let the model finish although the transport broke, unless its source may wait."""
        recorder = self._stream.recorder
        if recorder is not None and recorder.needs_rest and self._stream.bursts:
            async for _ in self._stream.source:
                pass

    async def _perform(self, step: Step) -> bool:
        """Perform one step; False for one that ends the answer."""
        if isinstance(step, Line):
            self._held.append(step.encode())
            if not self._stream.bursts or len(self._held) >= _BURST_LINES:
                await self._flush()
            return True
        await self._flush()
        match step:
            case Open(status, headers):
                await self._open(status, headers)
            case Raw(data):
                await self._write(data)
                await asyncio.sleep(0)  # a reader in the same event loop sees each write separately
            case Received():
                pass
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Until(event):
                await event.wait()
            case Unframed(data):
                self._transport().write(data)
            case Eof():
                return False
            case Close():
                self._transport().close()
                return False
            case Abort():
                self._reset()
                return False
            case _:
                assert_never(step)
        return True

    async def _open(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        self.response.set_status(status)
        for name, value in headers:
            self.response.headers.add(name, value)
        self._call.status = status
        await self.response.prepare(self._request)

    async def _flush(self) -> None:
        if not self._held:
            return
        lines, self._held = self._held, []
        await self._write(b"".join(lines))
        self._call.lines_sent += len(lines)

    async def _write(self, data: bytes) -> None:
        if self._stream.recorder is not None:
            self._stream.recorder.feed(data)
        await self.response.write(data)

    def _transport(self) -> asyncio.Transport:
        transport = self._request.transport
        if not isinstance(transport, asyncio.Transport):  # None once the caller has left
            raise ConnectionResetError("the caller has left")
        return transport

    def _reset(self) -> None:
        """Send a RST: with a linger time of 0, closing discards unsent data and resets the connection."""
        transport = self._transport()
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
