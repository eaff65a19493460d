"""Captures calls to the site, with their bytes and times, for a request that is being recorded.

    capture = Capture(max_bytes=16 * 1024 * 1024)
    with capturing(capture):
        …                   # captures the calls that are made here, and in tasks that are started here

Whether a call is captured is decided once, when it is made. Any other call returns the connection's own response, so
capturing costs its deltas nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, Literal, TypeAlias

from multidict import CIMultiDict

from upstream.http.exchange_types import Exchanges, HttpError, NoAnswerInTime, NotHttp, NotSent, Response

#: How a call ended: as it should, with a broken connection, at a deadline, without a connection, with something that is
#: not HTTP, or closed by the bridge.
End: TypeAlias = Literal["complete", "broke", "silent", "not sent", "not http", "closed"]

#: The memory that a piece takes besides its bytes, and a call besides its bodies.
_PIECE_BYTES: Final = 100
_CALL_BYTES: Final = 2000


class CapturedBody:
    """A body in pieces as they came, each with its time. Memory is limited to `max_bytes`: the rest is left out."""

    __slots__ = ("_left", "_max_bytes", "_pieces", "_times")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._left = max_bytes  # negative once something was left out
        self._pieces: list[bytes] = []
        self._times: list[float] = []  # on the monotonic clock

    def add(self, data: bytes, at: float | None = None) -> None:
        """Add a piece, which came now, or at the time `at` on the monotonic clock."""
        self._left = left = self._left - len(data) - _PIECE_BYTES
        if left >= 0:
            self._pieces.append(data)
            self._times.append(monotonic() if at is None else at)

    def taking(self, take: Callable[[], bytes]) -> Callable[[], bytes]:
        """`take`, which also adds what it returns: a closure that does not call `add`, since it runs for each delta."""
        add_piece, add_time = self._pieces.append, self._times.append

        def take_and_add() -> bytes:
            if data := take():
                self._left = left = self._left - len(data) - _PIECE_BYTES
                if left >= 0:
                    add_piece(data)
                    add_time(monotonic())
            return data

        return take_and_add

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        return self._max_bytes - max(0, self._left)

    @property
    def cut(self) -> bool:
        """Whether something was left out."""
        return self._left < 0

    def pieces(self, began: float) -> tuple[tuple[float, bytes], ...]:
        """The pieces with their times in seconds since `began`."""
        return tuple([(at - began, data) for at, data in zip(self._times, self._pieces, strict=True)])


@dataclass(slots=True)
class CapturedCall:
    """One call: what was sent, and what came back.

    All times are in seconds since `Capture.began`. `status` is None if no head arrived.
    """

    method: str
    origin: str
    target: str
    at: float
    sent_headers: tuple[tuple[str, str], ...] = field(repr=False)
    sent_body: bytes | None = field(repr=False)
    body: CapturedBody = field(repr=False)
    status: int | None = None
    head_at: float = 0.0
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    end: End = "closed"
    end_at: float = 0.0


class Capture:
    """The calls of one request, in about `max_bytes` of memory; a call may use what earlier ones have left of it."""

    __slots__ = ("_max_bytes", "_sent_cut", "began", "calls")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._sent_cut = False
        #: When it began, on the monotonic clock.
        self.began = monotonic()
        self.calls: list[CapturedCall] = []

    def now(self) -> float:
        """Seconds since the beginning."""
        return monotonic() - self.began

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        return sum(_CALL_BYTES + len(call.sent_body or b"") + call.body.size for call in self.calls)

    @property
    def cut(self) -> bool:
        """Whether something was left out because it exceeded `max_bytes`."""
        return self._sent_cut or any(call.body.cut for call in self.calls)

    def begin(
        self, method: str, origin: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> CapturedCall:
        """Add a call that is about to be sent."""
        left = max(0, self._max_bytes - self.size)
        if body is not None and len(body) > left:
            self._sent_cut, body = True, None
        answer = CapturedBody(left - len(body or b""))
        call = CapturedCall(method, origin, target, self.now(), tuple(headers.items()), body, answer)
        self.calls.append(call)
        return call


_CAPTURE: Final[ContextVar[Capture | None]] = ContextVar("capture", default=None)


@contextmanager
def capturing(capture: Capture) -> Iterator[None]:
    """Add the calls that are made in this context to `capture`."""
    token = _CAPTURE.set(capture)
    try:
        yield
    finally:
        _CAPTURE.reset(token)


class CapturingExchanges:
    """Sends requests by other `exchanges`, and captures those that are made in a `capturing` context."""

    def __init__(self, exchanges: Exchanges) -> None:
        self.exchanges = exchanges

    def request(
        self,
        method: str,
        origin: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        deadline: float = math.inf,
        min_extension: float = math.inf,
        on_head: Callable[[CIMultiDict[str]], None] | None = None,
    ) -> Coroutine[Any, Any, Response]:
        """As `Exchanges.request`."""
        capture = _CAPTURE.get()
        if capture is None:
            return self.exchanges.request(method, origin, target, headers, body, deadline, min_extension, on_head)
        call = capture.begin(method, origin, target, headers, body)
        sending = self.exchanges.request(method, origin, target, headers, body, deadline, min_extension, on_head)
        return _captured(sending, capture, call)

    def awaited_heads(self) -> Iterator[Callable[[CIMultiDict[str]], None]]:
        """As `Exchanges.awaited_heads`."""
        return self.exchanges.awaited_heads()


async def _captured(sending: Coroutine[Any, Any, Response], capture: Capture, call: CapturedCall) -> Response:
    try:
        response = await sending
    except HttpError as error:
        call.end, call.end_at = _end_of(error), capture.now()
        raise
    except asyncio.CancelledError:
        call.end_at = capture.now()
        raise
    call.status, call.head_at = response.status, capture.now()
    call.headers = tuple(response.headers.items())
    return CapturedResponse(response, capture, call)


def _end_of(error: HttpError) -> End:
    match error:
        case NoAnswerInTime():
            return "silent"
        case NotSent():
            return "not sent"
        case NotHttp():
            return "not http"
        case _:
            return "broke"


class CapturedResponse:
    """A `Response` that adds what is read of it to a captured call."""

    __slots__ = ("_call", "_capture", "_response", "connection", "take")

    def __init__(self, response: Response, capture: Capture, call: CapturedCall) -> None:
        self._response = response
        self._capture = capture
        self._call = call
        self.connection = response.connection
        #: As `Response.take`.
        self.take = call.body.taking(response.take)

    @property
    def status(self) -> int:
        """The status code."""
        return self._response.status

    @property
    def headers(self) -> CIMultiDict[str]:
        """The headers."""
        return self._response.headers

    @property
    def origin(self) -> str:
        """Where the request was sent."""
        return self._response.origin

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self._response.content_type

    async def read(self) -> bytes:
        """As `Response.read`."""
        try:
            data = await self._response.read()
        except HttpError as error:
            self._call.end, self._call.end_at = _end_of(error), self._capture.now()
            raise
        if data:
            self._call.body.add(data)
        else:
            self._call.end, self._call.end_at = "complete", self._capture.now()
        return data

    def release(self) -> None:
        """As `Response.release`."""
        self._end()
        self._response.release()

    def close(self) -> None:
        """As `Response.close`."""
        self._end()
        self._response.close()

    def _end(self) -> None:
        if not self._call.end_at:
            self._call.end_at = self._capture.now()
            if self.connection.ended:
                self._call.end = "complete"
