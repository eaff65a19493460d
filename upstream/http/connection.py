"""One HTTP/1.1 connection and the response on it, parsed by httptools.

state          event                              action                                next state
-------------  ---------------------------------  ------------------------------------  -----------------------------
IDLE, COMPLETE `send` is called                   send the request, set the timer       AWAITING_HEAD
               bytes arrive, the peer closes      never reuse the connection            unchanged
AWAITING_HEAD  an interim head (1xx except 101)   ignore it                             unchanged
               a final head, or 101               call `on_head`, wake the caller       BODY
               the deadline passes                the caller gets NoAnswerInTime        unchanged
               ... and the caller has left        fail the response                     BROKEN
               the peer closes                    the caller gets ConnectionBroke       BROKEN
               not HTTP, or over a bound          the caller gets NotHttp; abort        BROKEN
BODY           a piece of the body                keep it; pause above HELD_BYTES       unchanged
               the end of the message             wake the reader                       COMPLETE
               the peer closes, length unknown    wake the reader                       COMPLETE
               the peer closes too early          the reader gets ConnectionBroke       BROKEN
               not HTTP, or over a bound          the reader gets NotHttp; abort        BROKEN
               another protocol begins (101)      the reader gets ConnectionBroke       BROKEN
               the deadline passes                the reader gets NoAnswerInTime        BROKEN
BROKEN         anything                           ignore it                             unchanged

A connection is reused only in state COMPLETE, after its whole request has been sent.
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

#: How much one read from a socket returns at most, and how much of a body is buffered before reading pauses.
READ_BYTES: Final = 32 * 1024
HELD_BYTES: Final = 2 * READ_BYTES
#: A larger request body is sent in pieces, as the socket accepts them, instead of in one write.
WRITE_BYTES: Final = 128 * 1024
#: All headers of one response, including interim ones: a rotated session cookie can be longer than 8 KiB.
MAX_HEAD_BYTES: Final = 64 * 1024
#: The site sends some 40. A header of two bytes takes a hundred times as much memory after parsing.
MAX_HEADERS: Final = 256
#: How much may arrive after the head without any byte of the body: trailers, chunk extensions. The site sends none.
MAX_BYTES_WITHOUT_BODY: Final = 64 * 1024
#: How many connections are closed in one turn of the loop.
CLOSED_AT_ONCE: Final = 200

_NOTHING: Final = memoryview(b"")


class State(Enum):
    """The progress of the response; the table at the top of the module has the transitions."""

    IDLE = "idle"  # no request has been sent yet
    AWAITING_HEAD = "awaiting head"
    BODY = "body"
    COMPLETE = "complete"
    BROKEN = "broken"


# Accessing an Enum member takes two lookups, and these are compared on each read from a socket.
IDLE, AWAITING_HEAD, BODY, COMPLETE, BROKEN = State


class Head(NamedTuple):
    """The status line and headers of a response."""

    status: int
    headers: CIMultiDict[str]


class Connection(asyncio.BufferedProtocol):
    """One connection: `send` a request, `read` or `take` its response's body, then send the next request.

    The connection is in `opened` while it is open. `on_data` is called after each read from the socket, and at the end.
    `on_head` gets a response's headers as soon as they arrive, even if the caller has left, and must not raise. At
    `deadline`, on the loop's clock, the response fails. `error` says why the connection cannot be reused. All
    connections share `buffer` for reading.
    """

    __slots__ = (
        "_buffer",
        "_bytes_since_body",
        "_head_future",
        "_headers",
        "_held_bytes",
        "_keep_alive",
        "_loop",
        "_min_extension",
        "_opened",
        "_parser",
        "_paused",
        "_pieces",
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
        self._head_future: asyncio.Future[Head] | None = None
        self._pieces: list[bytes] = []  # of the body, not taken yet
        self.on_body = self._pieces.append  # the parser calls it for each chunk
        self._parser: HttpResponseParser | None = HttpResponseParser(self)  # it looks up the callbacks now
        self._held_bytes = 0  # of the head, or of the body and not taken yet
        self._bytes_since_body = 0  # received since the last byte of the body
        self._paused = False  # whether reading is paused
        self._to_send = _NOTHING  # the unsent rest of a large request body
        self._writing_paused = False
        self._keep_alive = False
        self._waiter: asyncio.Future[None] | None = None
        self._min_extension = math.inf
        self.deadline = math.inf
        self.transport: asyncio.Transport | None = None
        self.on_head: Callable[[CIMultiDict[str]], None] | None = None
        self.on_data: Callable[[], None] | None = None
        self.state = IDLE
        self.error: HttpError | None = None

    def send(
        self, head: bytes, body: bytes | None, deadline: float, min_extension: float = math.inf
    ) -> asyncio.Future[Head]:
        """Send a request; the head of its response must arrive by `deadline`, on the loop's clock.

        Later, `deadline` may be extended by at least `min_extension` seconds at a time, so that one timer serves the
        whole response and is not set again on each read. Raises HttpError, as does the future.
        """
        if self.error is not None:  # unsolicited bytes have arrived
            raise _copy(self.error)
        if self.transport is None:
            raise ConnectionBroke("The connection is closed.")
        self.state = AWAITING_HEAD
        self._pieces.clear()
        self._held_bytes = self._bytes_since_body = 0
        self._head_future = self._loop.create_future()
        self._min_extension = min_extension
        self.deadline = deadline
        self._timers.set(self, min(deadline, monotonic() + min_extension))
        if body is None or len(body) <= WRITE_BYTES:
            self.transport.write(head + body if body else head)
        else:
            self.transport.write(head)
            self._to_send = memoryview(body)
            self._send_more()
        return self._head_future

    def keep_waiting(self, until: float) -> bool:
        """Wait for the head until `until`, although its caller was cancelled or the deadline has passed.

        False if there is nothing to wait for: the head has arrived, the connection is broken, or the request has not
        been sent completely. Otherwise `on_data` is called when the wait is over, and the owner must close the
        connection.
        """
        if self.state is not AWAITING_HEAD or self.transport is None or self._unsent() > 0:
            return False
        self.deadline = until
        self._timers.set(self, until)
        return True

    async def read(self) -> bytes:
        """Wait for more of the body; b"" at its end. Raises HttpError."""
        while not self._pieces and self.state is not COMPLETE:
            if self.error is not None:
                raise _copy(self.error)
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.take()

    def take(self) -> bytes:
        """Return the part of the body that has arrived since the last call."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._held_bytes = 0
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return data

    def cancel_timer(self) -> None:
        """Cancel the deadline's timer: the response is no longer needed."""
        self._timers.cancel(self)

    def on_timer(self) -> None:
        """Fail if the deadline has passed, or else set the timer again."""
        now = monotonic()
        if now < self.deadline:
            self._timers.set(self, min(self.deadline, now + self._min_extension))
        elif self.state is not AWAITING_HEAD or not self._fail_head(NoAnswerInTime("No answer has begun in time.")):
            self._fail(NoAnswerInTime("The answer was not complete in time."))

    @property
    def awaits_head(self) -> bool:
        """Whether a response's head is still expected."""
        return self.state is AWAITING_HEAD

    @property
    def ended(self) -> bool:
        """Whether nothing more will arrive than can be taken now."""
        return self.state is COMPLETE or self.state is BROKEN

    @property
    def reusable(self) -> bool:
        """Whether another request may use the connection: unsolicited bytes would pass for its response."""
        transport = self.transport
        return (
            self.state is COMPLETE
            and self._keep_alive
            and self.error is None
            and not self._paused
            and transport is not None
            and not (transport.is_closing() or self._to_send or transport.get_write_buffer_size())
        )

    def is_connected(self) -> bool:
        """Whether the connection can be written to."""
        return self.transport is not None and not self.transport.is_closing()

    def close(self) -> None:
        """Close; abort if the request is not fully sent, since a peer that does not read would keep it open."""
        if self._unsent() > 0:
            self.abort()
        elif self.transport is not None and not self.transport.is_closing():  # closing TLS twice breaks in asyncio
            self.transport.close()

    def abort(self) -> None:
        """Close immediately, discarding unsent data."""
        self._to_send = _NOTHING
        if self.transport is not None:
            self.transport.abort()

    def detach(self) -> asyncio.Transport | None:
        """Return the transport for use by another protocol, such as TLS through a proxy; this connection is over.

        None if it is closed already, or bytes of a body have arrived.
        """
        transport, self.transport = self.transport, None
        self._opened.discard(self)
        self.cancel_timer()
        self._parser = None
        return None if transport is None or transport.is_closing() or self._pieces else transport

    def _unsent(self) -> int:
        """Bytes of the request not sent yet; over TLS, without those that the TLS layer buffers."""
        return len(self._to_send) + (self.transport.get_write_buffer_size() if self.transport is not None else 0)

    def _send_more(self) -> None:
        while self._to_send and not self._writing_paused and self.transport is not None:
            piece, self._to_send = self._to_send[:WRITE_BYTES], self._to_send[WRITE_BYTES:]
            self.transport.write(piece)

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection as open."""
        self.transport = cast("asyncio.Transport", transport)
        self._opened.add(self)

    def pause_writing(self) -> None:
        """Stop sending until the socket's buffer has drained."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Continue sending."""
        self._writing_paused = False
        self._send_more()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 — asyncio's
        """Return the buffer that the socket is read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse the bytes that have arrived."""
        if self._parser is None:
            return
        pieces = len(self._pieces)
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except HttpParserUpgrade:
            self._fail(ConnectionBroke("The peer has changed to another protocol."))
        except HttpParserError:  # not chained: its text quotes the peer's bytes
            self._fail_as_not_http()
        self._held_bytes += nbytes
        if len(self._pieces) > pieces:
            self._bytes_since_body = 0
        else:
            self._bytes_since_body += nbytes
            if self.state is AWAITING_HEAD:
                if self._held_bytes > MAX_HEAD_BYTES:
                    self._fail_as_not_http()
            elif self._bytes_since_body > MAX_BYTES_WITHOUT_BODY:
                self._fail_as_not_http()
        self._notify()
        if self._pieces and self._held_bytes > HELD_BYTES - READ_BYTES and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the response; without a declared length, closing is how the peer ends the body."""
        self._opened.discard(self)
        self.cancel_timer()
        self.transport = None
        self._parser = None  # breaks a reference cycle
        self._to_send = _NOTHING
        framed = bool({"Content-Length", "Transfer-Encoding"} & self._headers.keys())
        if self.state is BODY and exc is None and self.error is None and not framed:
            self.state = COMPLETE
        self._fail(ConnectionBroke("The peer closed the connection."))

    def _fail(self, error: HttpError) -> None:
        """Fail the response, and wake the tasks that wait for it."""
        self.error = self.error or error
        if self.state is AWAITING_HEAD or self.state is BODY:
            self.state = BROKEN
        self._fail_head(_copy(error))
        self._notify()

    def _fail_head(self, error: HttpError) -> bool:
        """Give an error to the caller that waits for the head; False if there is none."""
        future, self._head_future = self._head_future, None
        if future is None or future.done():
            return False
        future.set_exception(error)
        return True

    def _fail_as_not_http(self) -> None:
        """Fail a response that is not HTTP, and stop reading even if no caller is waiting."""
        self._fail(NotHttp("The response is not HTTP."))
        self.abort()

    def _notify(self) -> None:
        if self.on_data is not None:
            self.on_data()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Called by the parser. What these raise leaves `feed_data` as HttpParserError.

    def on_message_begin(self) -> None:
        """Begin a response, interim or final. Raises NotHttp if no request is waiting for one."""
        if self.state is not AWAITING_HEAD:
            raise NotHttp("A response arrived without a request.")
        self._headers = CIMultiDict()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; trailers are ignored. Raises NotHttp if there are too many."""
        if self.state is not AWAITING_HEAD:
            return
        if len(self._headers) >= MAX_HEADERS:
            raise NotHttp("The response has too many headers.")
        value = value.rstrip(b" \t")  # the parser removes white space before a value only
        self._headers.add(name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        """Hand the head to the caller; interim ones are ignored, except 101, after which no other follows."""
        status = self._parser.get_status_code() if self._parser is not None else 0
        if self.state is not AWAITING_HEAD or (status < 200 and status != 101):
            return
        self.state = BODY
        if self.on_head is not None:
            self.on_head(self._headers)
            self.on_head = None
        if self._head_future is not None and not self._head_future.done():  # or its caller was cancelled
            self._head_future.set_result(Head(status, self._headers))

    def on_message_complete(self) -> None:
        """End the body, unless the message was an interim response."""
        if self.state is BODY and self._parser is not None:
            self.state = COMPLETE
            self._keep_alive = self._parser.should_keep_alive()


def _copy(error: HttpError) -> HttpError:
    """A copy of a stored error, to be raised: the traceback of the original would refer back to where it is stored."""
    return type(error)(*error.args)


async def close_all(connections: set[Connection]) -> None:
    """Close all open connections, some at a time: thousands at once would block the loop."""
    while connections:
        for connection in tuple(islice(connections, CLOSED_AT_ONCE)):
            connections.discard(connection)
            connection.abort()  # over TLS, `close` would wait for the peer's close_notify
        await asyncio.sleep(0)
