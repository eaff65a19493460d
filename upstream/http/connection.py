"""A connection, made by aiohttp's connector, whose answers httptools parses.

aiohttp's own calls five functions for each chunk of a body: 29 µs for an answer of 20 deltas and its head, which take 5
here (`make bench`: short, natural).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from itertools import islice
from time import monotonic  # the loop's own clock, in a third of the time
from typing import Final, NamedTuple, cast

import aiohttp
from aiohttp.http import HttpProcessingError
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from multidict import CIMultiDict

from upstream.loop.timers import Timers

#: How much one read from a socket brings at most, and how much of a body waits to be taken.
READ_BYTES: Final = 32 * 1024
HELD_BYTES: Final = 2 * READ_BYTES
#: All headers of one answer, interim ones included: a session cookie that rotates can be longer than 8 KiB.
MAX_HEAD_BYTES: Final = 64 * 1024
#: The site sends some 40. The parser's objects for a header of two bytes take a hundred times as much.
MAX_HEADERS: Final = 256
#: What may come behind the head without a byte of the body: trailers, chunk extensions. The site sends none.
MAX_BODILESS_BYTES: Final = 64 * 1024
#: How many connections are closed in one turn of the loop, which takes some 3 ms.
CLOSED_AT_ONCE: Final = 200


class Head(NamedTuple):
    """How an answer begins."""

    status: int
    headers: CIMultiDict[str]


class Connection(asyncio.BufferedProtocol):
    """One connection, among the open ones: `ask`, then `read` or `take` the body, then `rest`, then ask again.

    `whole` says that the answer has come to its end, `error` why no more of it will come. `on_data` is called behind
    each read from the socket, and at the end. `awaits_head` says that an answer's headers have not come yet; `on_head`
    is told them in the moment in which they come, whether or not somebody waits for them, and must not raise. At
    `waiting_until`, on the loop's clock, the answer fails. `buffer` is what all connections read into.
    """

    __slots__ = (
        "_asked",
        "_bodiless",
        "_buffer",
        "_headers",
        "_held",
        "_loop",
        "_open",
        "_parser",
        "_patience",
        "_paused",
        "_pieces",
        "_reusable",
        "_timers",
        "_waiter",
        "awaits_head",
        "closed",
        "error",
        "on_body",
        "on_data",
        "on_head",
        "transport",
        "used",
        "waiting_until",
        "whole",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timers: Timers, open_ones: set[Connection], buffer: memoryview
    ) -> None:
        self._loop = loop
        self._timers = timers
        self._open = open_ones
        self._buffer = buffer
        self._headers: CIMultiDict[str] = CIMultiDict()
        self._asked: asyncio.Future[Head] | None = None
        self._pieces: list[bytes] = []  # of the body, still to be taken
        self.on_body = self._pieces.append  # which the parser calls for each chunk
        self._held = 0  # bytes of the head or body that nobody has taken
        self._bodiless = 0  # bytes since the last of the body
        self._paused = False
        self._reusable = False
        self._waiter: asyncio.Future[None] | None = None
        self._patience = math.inf
        self.waiting_until = math.inf
        self.transport: asyncio.Transport | None = None
        self.closed = None  # the connector would wait for it
        self.awaits_head = False
        self.on_head: Callable[[CIMultiDict[str]], None] | None = None
        self.on_data: Callable[[], None] | None = None
        self.used = False
        self.whole = False
        self.error: Exception | None = None

    def ask(self, request: bytes, until: float, patience: float = math.inf) -> asyncio.Future[Head]:
        """Send a request; the head of its answer comes `until` then, on the loop's clock.

        Whoever moves `waiting_until` later moves it by `patience` (seconds) or more: so one timer does for the whole
        answer, and is not set anew with each read. Raises ClientError, OSError (TimeoutError) or HttpProcessingError.
        """
        if self.error is not None:  # something came that nobody had asked for
            raise self.error
        if self.transport is None:
            raise aiohttp.ServerDisconnectedError
        self.used = True
        self.whole = False
        self._pieces.clear()
        self._held = self._bodiless = 0
        self._asked = self._loop.create_future()
        self.awaits_head = True
        self._patience = patience
        self.waiting_until = until
        self._timers.set(self, min(until, monotonic() + patience))
        self.transport.write(request)
        return self._asked

    def outlive(self, until: float) -> bool:
        """Wait for the head `until` then, although whoever has asked has left, or its time was over.

        False where none can come: it has come, the connection is broken, or the request has not wholly left. In the end
        `on_data` is called, and the connection is to be closed.
        """
        if not self.awaits_head or self.transport is None or self._unsent() > 0:
            return False
        if isinstance(self.error, TimeoutError):  # what could be read is still to be read
            self.error = None
        if self.error is not None:
            return False
        self.waiting_until = until
        self._timers.set(self, until)
        return True

    async def read(self) -> bytes:
        """Wait for more of the body; b"" at its end. Raises ClientError, OSError or what `fail` was given."""
        while not self._pieces and not self.whole:
            if self.error is not None:
                raise self.error
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.take()

    def take(self) -> bytes:
        """What of the body has come and was not taken yet."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return data

    def rest(self) -> None:
        """Nobody waits for anything any more."""
        self._timers.cancel(self)

    def on_timer(self) -> None:
        """End the answer if it has been waited for long enough, or look again later."""
        now = monotonic()
        if now < self.waiting_until:
            self._timers.set(self, min(self.waiting_until, now + self._patience))
        else:
            self.fail(TimeoutError())

    @property
    def over(self) -> bool:
        """Whether no more will come than can be taken now."""
        return self.whole or self.error is not None

    def fail(self, error: Exception) -> None:
        """End the answer, for whoever waits for it."""
        self.error = self.error or error
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(error)
        self._tell()

    # What the connector asks of a connection, as it does of aiohttp's own, and our pool.

    def is_connected(self) -> bool:
        """Whether it can be written to."""
        return self.transport is not None and not self.transport.is_closing()

    @property
    def should_close(self) -> bool:
        """Whether the next request must not use it: nor may it where a request has not wholly left."""
        return not self._reusable or not self.whole or self.error is not None or self._paused or self._unsent() > 0

    def close(self) -> None:
        """Close, at once where a request has not wholly left: whoever does not read would keep the socket open."""
        if self._unsent() > 0:
            self.abort()
        elif self.transport is not None and not self.transport.is_closing():  # twice breaks one of asyncio's over TLS
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    def _unsent(self) -> int:
        """Bytes of a request that wait here; over TLS not those that wait below it."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self._parser = HttpResponseParser(self)
        self._open.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 — asyncio's
        """Where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what has come."""
        pieces = len(self._pieces)
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except HttpParserUpgrade:
            self.error = aiohttp.ClientPayloadError("another protocol")
        except HttpParserError:  # its text quotes what came
            self._break(in_head=self.awaits_head)
        self._held += nbytes
        if len(self._pieces) > pieces:
            self._bodiless = 0
        else:
            self._bodiless += nbytes
            if self.awaits_head:
                if self._held > MAX_HEAD_BYTES:
                    self._break(in_head=True)
            elif self._bodiless > MAX_BODILESS_BYTES:
                self._break(in_head=False)
        self._tell()
        if self._pieces and self._held > HELD_BYTES - READ_BYTES and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the body, which a server may do so where it has not said how long it is."""
        self._open.discard(self)
        self.rest()
        self.transport = None
        del self._parser  # it refers to us
        begun = self._asked is not None and not self.awaits_head
        framed = bool({"Content-Length", "Transfer-Encoding"} & self._headers.keys())
        if begun and exc is None and self.error is None and not framed:
            self.whole = True
        if isinstance(exc, OSError):
            exc = aiohttp.ClientOSError(*exc.args)  # as aiohttp has it: ETIMEDOUT would pass for `waiting_until`'s end
        self.fail(exc or aiohttp.ServerDisconnectedError())

    def _break(self, *, in_head: bool) -> None:
        """End the answer that is no HTTP. Nothing more of it is read, whether or not somebody waits for it."""
        self.fail(HttpProcessingError(message="no HTTP") if in_head else aiohttp.ClientPayloadError("no HTTP"))
        self.abort()

    def _tell(self) -> None:
        if self.on_data is not None:
            self.on_data()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Begin an answer, or an interim one before it. Raises HttpProcessingError where nobody has asked."""
        if not self.awaits_head:
            raise HttpProcessingError(message="unasked")
        self._headers = CIMultiDict()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer, behind the body, means nothing. Raises HttpProcessingError where they are many."""
        if not self.awaits_head:
            return
        if len(self._headers) >= MAX_HEADERS:
            raise HttpProcessingError(message="too many headers")
        self._headers.add(name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        """Give the head to whoever has asked; 101 is the last that comes, other interim ones are none."""
        status = self._parser.get_status_code()
        if not self.awaits_head or (status < 200 and status != 101):
            return
        self.awaits_head = False
        if self.on_head is not None:
            self.on_head(self._headers)
            self.on_head = None
        if self._asked is not None and not self._asked.done():  # or its caller has left
            self._asked.set_result(Head(status, self._headers))

    def on_message_complete(self) -> None:
        """End the body, if it is not an interim answer that has come."""
        if self._asked is not None and not self.awaits_head:
            self.whole = True
            self._reusable = self._parser.should_keep_alive()


async def close_all(connections: set[Connection]) -> None:
    """Close the open ones, some at a time: thousands at once would hold the loop for 70 ms."""
    while connections:
        for connection in tuple(islice(connections, CLOSED_AT_ONCE)):
            connections.discard(connection)
            connection.abort()  # over TLS, `close` would wait 30 s for a peer that does not answer it
        await asyncio.sleep(0)
