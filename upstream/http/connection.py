"""One connection to a peer, and the response that comes over it, parsed by httptools.

state          event                              action                                next state
-------------  ---------------------------------  ------------------------------------  -----------------------------
IDLE, WHOLE    `ask`                              send the request, set the timer       AWAITING_HEAD
               bytes come, the peer closes        never use the connection again        unchanged
AWAITING_HEAD  an interim head (1xx but 101)      ignore it                             unchanged
               a head                             call `on_head`, wake the caller       BODY
               the deadline passes                the caller gets NoAnswerInTime        unchanged (alone: BROKEN)
               the peer closes                    the caller gets ConnectionBroke       BROKEN
               not HTTP, or over a bound          the caller gets NotHttp; abort        BROKEN
BODY           a piece of the body                keep it; pause above HELD_BYTES       unchanged
               the end of the message             wake the reader                       WHOLE
               the peer closes, length unknown    wake the reader                       WHOLE
               the peer closes too early          the reader gets ConnectionBroke       BROKEN
               not HTTP, or over a bound          the reader gets NotHttp; abort        BROKEN
               another protocol begins (101)      the reader gets ConnectionBroke       BROKEN
               the deadline passes                the reader gets NoAnswerInTime        BROKEN
BROKEN         anything                           ignore it                             unchanged

Only a connection in WHOLE whose request has left completely is used again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from enum import Enum
from itertools import islice
from time import monotonic  # the loop's own clock
from typing import Final, NamedTuple, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from multidict import CIMultiDict

from upstream.http.exchange_types import ConnectionBroke, HttpError, NoAnswerInTime, NotHttp
from upstream.loop.timers import Timers

#: How much one read from a socket brings at most, and how much of a body waits to be taken.
READ_BYTES: Final = 32 * 1024
HELD_BYTES: Final = 2 * READ_BYTES
#: A request's body above this is sent piece by piece, as the socket takes it, instead of in one write.
WRITE_BYTES: Final = 128 * 1024
#: All headers of one answer, interim ones included: a session cookie that rotates can be longer than 8 KiB.
MAX_HEAD_BYTES: Final = 64 * 1024
#: The site sends some 40. The parser's objects for a header of two bytes take a hundred times as much.
MAX_HEADERS: Final = 256
#: What may come behind the head without a byte of the body: trailers, chunk extensions. The site sends none.
MAX_BODILESS_BYTES: Final = 64 * 1024
#: How many connections are closed in one turn of the loop.
CLOSED_AT_ONCE: Final = 200

_NOTHING: Final = memoryview(b"")


class State(Enum):
    """How far the response has come; the module's table has what leads from one to another."""

    IDLE = "idle"  # nothing has been asked yet
    AWAITING_HEAD = "awaiting head"
    BODY = "body"
    WHOLE = "whole"
    BROKEN = "broken"


# A member of an Enum takes two look-ups, and these are compared for each read from a socket.
IDLE, AWAITING_HEAD, BODY, WHOLE, BROKEN = State


class Head(NamedTuple):
    """How a response begins."""

    status: int
    headers: CIMultiDict[str]


class Connection(asyncio.BufferedProtocol):
    """One connection, a member of `opened` while it is open: `ask`, `read` or `take` the body, then ask again.

    `on_data` is called after each read from the socket, and at the end. `on_head` gets a response's headers in the
    moment in which they come, whether or not a caller waits for them, and must not raise. At `deadline`, on the loop's
    clock, the response fails. `error` says why the connection cannot be used again. All connections read into `buffer`.
    """

    __slots__ = (
        "_asked",
        "_bodiless",
        "_buffer",
        "_headers",
        "_held",
        "_loop",
        "_opened",
        "_parser",
        "_patience",
        "_paused",
        "_pieces",
        "_reusable",
        "_timers",
        "_to_send",
        "_waiter",
        "_writing_paused",
        "deadline",
        "error",
        "on_body",
        "on_data",
        "on_head",
        "state",
        "transport",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timers: Timers, opened: set[Connection], buffer: memoryview
    ) -> None:
        self._loop = loop
        self._timers = timers
        self._opened = opened
        self._buffer = buffer
        self._headers: CIMultiDict[str] = CIMultiDict()
        self._asked: asyncio.Future[Head] | None = None
        self._pieces: list[bytes] = []  # of the body, still to be taken
        self.on_body = self._pieces.append  # which the parser calls for each chunk
        self._parser: HttpResponseParser | None = HttpResponseParser(self)  # it looks for the callbacks now
        self._held = 0  # bytes of the head or body that nobody has taken
        self._bodiless = 0  # bytes since the last of the body
        self._paused = False  # reading
        self._to_send = _NOTHING  # the rest of a large request body
        self._writing_paused = False
        self._reusable = False
        self._waiter: asyncio.Future[None] | None = None
        self._patience = math.inf
        self.deadline = math.inf
        self.transport: asyncio.Transport | None = None
        self.on_head: Callable[[CIMultiDict[str]], None] | None = None
        self.on_data: Callable[[], None] | None = None
        self.state = IDLE
        self.error: HttpError | None = None

    def ask(self, head: bytes, body: bytes | None, deadline: float, patience: float = math.inf) -> asyncio.Future[Head]:
        """Send a request, whose response's head must come by `deadline`, on the loop's clock.

        Later, `deadline` may be moved by `patience` seconds or more at a time: so one timer serves the whole response,
        and is not set again with each read. Raises HttpError; the future raises that too.
        """
        if self.error is not None:  # something came that nobody had asked for
            raise self.error
        if self.transport is None:
            raise ConnectionBroke("The connection is closed.")
        self.state = AWAITING_HEAD
        self._pieces.clear()
        self._held = self._bodiless = 0
        self._asked = self._loop.create_future()
        self._patience = patience
        self.deadline = deadline
        self._timers.set(self, min(deadline, monotonic() + patience))
        if body is None or len(body) <= WRITE_BYTES:
            self.transport.write(head + body if body else head)
        else:
            self.transport.write(head)
            self._to_send = memoryview(body)
            self._send_more()
        return self._asked

    def outlive(self, until: float) -> bool:
        """Wait for the head `until` then, although its caller was cancelled, or the deadline has passed.

        False where none can come: it has come, the connection is broken, or the request has not left completely. In the
        end `on_data` is called, and the connection is to be closed.
        """
        if self.state is not AWAITING_HEAD or self.transport is None or self._unsent() > 0:
            return False
        self.deadline = until
        self._timers.set(self, until)
        return True

    async def read(self) -> bytes:
        """Wait for more of the body; b"" at its end. Raises HttpError."""
        while not self._pieces and self.state is not WHOLE:
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

    def cancel_timer(self) -> None:
        """Cancel the timer of the deadline: nobody waits for the response any more."""
        self._timers.cancel(self)

    def on_timer(self) -> None:
        """Fail if the deadline has passed, or look again later."""
        now = monotonic()
        if now < self.deadline:
            self._timers.set(self, min(self.deadline, now + self._patience))
        elif self.state is AWAITING_HEAD and self._asked is not None and not self._asked.done():
            self._asked.set_exception(NoAnswerInTime("No answer has begun in time."))
        else:
            self._fail(NoAnswerInTime("The answer was not complete in time."))

    @property
    def awaits_head(self) -> bool:
        """Whether the head of a response has not come yet, but may."""
        return self.state is AWAITING_HEAD

    @property
    def over(self) -> bool:
        """Whether no more will come than can be taken now."""
        return self.state is WHOLE or self.state is BROKEN

    @property
    def fit(self) -> bool:
        """Whether another request may use it: what has come unasked would pass for the next response."""
        return (
            self.state is WHOLE
            and self._reusable
            and self.error is None
            and not self._paused
            and self.is_connected()
            and self._unsent() == 0
        )

    def is_connected(self) -> bool:
        """Whether it can be written to."""
        return self.transport is not None and not self.transport.is_closing()

    def close(self) -> None:
        """Close, at once where a request has not left completely: a peer that does not read would keep it open."""
        if self._unsent() > 0:
            self.abort()
        elif self.transport is not None and not self.transport.is_closing():  # twice breaks one of asyncio's over TLS
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._to_send = _NOTHING
        if self.transport is not None:
            self.transport.abort()

    def hand_over(self) -> asyncio.Transport | None:
        """Give the transport to another protocol, such as TLS through a proxy; this connection is over.

        None where it is closed already, or bytes of a body have come.
        """
        transport, self.transport = self.transport, None
        self._opened.discard(self)
        self.cancel_timer()
        self._parser = None
        return None if transport is None or transport.is_closing() or self._pieces else transport

    def _unsent(self) -> int:
        """Bytes of a request that wait here; over TLS not those that wait below it."""
        return len(self._to_send) + (self.transport.get_write_buffer_size() if self.transport is not None else 0)

    def _send_more(self) -> None:
        while self._to_send and not self._writing_paused and self.transport is not None:
            piece, self._to_send = self._to_send[:WRITE_BYTES], self._to_send[WRITE_BYTES:]
            self.transport.write(piece)

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self._opened.add(self)

    def pause_writing(self) -> None:
        """Send no more until the socket has taken what waits."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Send on."""
        self._writing_paused = False
        self._send_more()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 — asyncio's
        """Where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what has come."""
        if self._parser is None:
            return
        pieces = len(self._pieces)
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except HttpParserUpgrade:
            self._fail(ConnectionBroke("The peer has changed to another protocol."))
        except HttpParserError:  # its text quotes what came
            self._break()
        self._held += nbytes
        if len(self._pieces) > pieces:
            self._bodiless = 0
        else:
            self._bodiless += nbytes
            if self.state is AWAITING_HEAD:
                if self._held > MAX_HEAD_BYTES:
                    self._break()
            elif self._bodiless > MAX_BODILESS_BYTES:
                self._break()
        self._tell()
        if self._pieces and self._held > HELD_BYTES - READ_BYTES and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the body, which a peer may do so where it has not said how long it is."""
        self._opened.discard(self)
        self.cancel_timer()
        self.transport = None
        self._parser = None  # it refers to us
        self._to_send = _NOTHING
        framed = bool({"Content-Length", "Transfer-Encoding"} & self._headers.keys())
        if self.state is BODY and exc is None and self.error is None and not framed:
            self.state = WHOLE
        self._fail(ConnectionBroke("The peer closed the connection."))

    def _fail(self, error: HttpError) -> None:
        """End the response, for all that wait for it."""
        self.error = self.error or error
        if self.state is AWAITING_HEAD or self.state is BODY:
            self.state = BROKEN
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(error)
        self._tell()

    def _break(self) -> None:
        """End the response that is not HTTP. Nothing more of it is read, whether or not a caller waits for it."""
        self._fail(NotHttp("What came is not HTTP."))
        self.abort()

    def _tell(self) -> None:
        if self.on_data is not None:
            self.on_data()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the parser calls. What these raise comes out of `feed_data` as HttpParserError.

    def on_message_begin(self) -> None:
        """Begin a response, or an interim one before it. Raises NotHttp where nothing was asked."""
        if self.state is not AWAITING_HEAD:
            raise NotHttp("A response came that nobody had asked for.")
        self._headers = CIMultiDict()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer, behind the body, means nothing. Raises NotHttp where there are too many."""
        if self.state is not AWAITING_HEAD:
            return
        if len(self._headers) >= MAX_HEADERS:
            raise NotHttp("The response has too many headers.")
        self._headers.add(name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        """Give the head to the caller; 101 is the last that comes, other interim ones are ignored."""
        status = self._parser.get_status_code() if self._parser is not None else 0
        if self.state is not AWAITING_HEAD or (status < 200 and status != 101):
            return
        self.state = BODY
        if self.on_head is not None:
            self.on_head(self._headers)
            self.on_head = None
        if self._asked is not None and not self._asked.done():  # or its caller was cancelled
            self._asked.set_result(Head(status, self._headers))

    def on_message_complete(self) -> None:
        """End the body, if it is not an interim response that has come."""
        if self.state is BODY and self._parser is not None:
            self.state = WHOLE
            self._reusable = self._parser.should_keep_alive()


async def close_all(connections: set[Connection]) -> None:
    """Close the open ones, some at a time: thousands at once would hold the loop."""
    while connections:
        for connection in tuple(islice(connections, CLOSED_AT_ONCE)):
            connections.discard(connection)
            connection.abort()  # over TLS, `close` would wait for a peer that does not answer it
        await asyncio.sleep(0)
