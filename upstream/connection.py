"""aiohttp's connection, except that an answer can hear of its data in the moment in which it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Final

from aiohttp import ClientPayloadError
from aiohttp.client_proto import ResponseHandler

#: How many connections are closed in one turn of the loop, which takes some 3 ms.
CLOSED_AT_ONCE: Final = 200


class Connection(ResponseHandler):
    """One connection, among the open ones. `on_data` is called behind each read from the socket, and at the end.

    `used` says that a request has gone over it.
    """

    __slots__ = ("_open", "on_data", "used")

    def __init__(self, loop: asyncio.AbstractEventLoop, open_ones: set[Connection]) -> None:
        super().__init__(loop)
        self._open = open_ones
        self.on_data: Callable[[], None] | None = None
        self.used = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, as aiohttp does."""
        super().connection_made(transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, as aiohttp does."""
        super().data_received(data)
        if self._payload is not None and self.exception() is not None and not self._payload.is_eof():
            self._payload.set_exception(ClientPayloadError("what came is no HTTP"))  # or its reader would wait for ever
        if self.on_data is not None and data:  # without any it goes on behind a pause, amid a read of the body
            self.on_data()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the body, as aiohttp does."""
        self._open.discard(self)
        super().connection_lost(exc)
        if self.on_data is not None:
            self.on_data()

    @property
    def should_close(self) -> bool:
        """Whether the next request must not use it: nor may it where a request has not wholly left."""
        return super().should_close or self._unsent() > 0

    def close(self) -> None:
        """Close, at once where a request has not wholly left: whoever does not read would keep the socket open."""
        if self._unsent() > 0:
            self.abort()
        else:
            super().close()

    def _unsent(self) -> int:
        """Bytes of a request that wait here; over TLS not those that wait below it."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on after a pause. Each read of a body asks for it, and aiohttp parses anew though nothing was paused."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)


async def close_all(connections: set[Connection]) -> None:
    """Close the open ones, some at a time: thousands at once would hold the loop for 70 ms."""
    while connections:
        for connection in tuple(islice(connections, CLOSED_AT_ONCE)):
            connections.discard(connection)
            connection.abort()  # over TLS, `close` would wait 30 s for a peer that does not answer it
        await asyncio.sleep(0)
