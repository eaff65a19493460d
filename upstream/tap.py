"""A tap on the calls to the site: notes their bytes and times, for the calls of one request that is recorded.

    tape = Tape(room=16 * 1024 * 1024)
    with listening(tape):
        …                   # all calls that are made in here, and in tasks that are started in here, are noted

Whether a call is noted is decided once, when it is made. A call that is not noted goes on without the tap: its
response is the connection's own, so that its deltas cost nothing more than without this file.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, Literal, Protocol, TypeAlias

from multidict import CIMultiDict

from upstream.http.exchange import PooledResponse
from upstream.http.exchange_types import Exchanges, HttpError, NoAnswerInTime, NotHttp, NotSent, Response

#: How a call ended: as it should, broken off, in silence until the deadline, without a connection, with something that
#: is no HTTP, or closed by the bridge.
End: TypeAlias = Literal["complete", "broke", "silent", "not sent", "not http", "closed"]


#: What a piece takes in memory besides its bytes.
_PIECE_BYTES: Final = 100


class Taking(Protocol):
    """Takes what has arrived, or what somebody has taken already."""

    def __call__(self, data: bytes | None = None) -> bytes:
        """Return it."""


class Track:
    """Bytes in the order in which they came, each piece with its time; at most `room` bytes, as they lie in memory."""

    __slots__ = ("_pieces", "_room", "_times", "cut", "size")

    def __init__(self, room: int) -> None:
        self._room = room
        self._pieces: list[bytes] = []
        self._times: list[float] = []  # on the monotonic clock
        #: About how many bytes it takes in memory.
        self.size = 0
        #: Whether there was more than there was room for.
        self.cut = False

    def note(self, data: bytes, at: float | None = None) -> None:
        """Add a piece, which came now or `at` a time on the monotonic clock."""
        size = self.size + len(data) + _PIECE_BYTES
        if self.cut or size > self._room:
            self.cut = True
            return
        self.size = size
        self._pieces.append(data)
        self._times.append(monotonic() if at is None else at)

    def noting(self, take: Callable[[], bytes]) -> Taking:
        """`take`, with a note of what it returns. It is called for each delta: in as few steps as there can be."""
        note = self.note

        def taken(data: bytes | None = None) -> bytes:
            if data is None:
                data = take()
            if data:
                note(data)
            return data

        return taken

    def pieces(self, began: float) -> tuple[tuple[float, bytes], ...]:
        """The pieces with their times in seconds since `began`."""
        return tuple([(at - began, data) for at, data in zip(self._times, self._pieces, strict=True)])


@dataclass(slots=True)
class Heard:
    """One call: what was sent, and what came back; `track` has the body.

    All times are in seconds since the tape's beginning. `status` is None where no head came.
    """

    method: str
    origin: str
    target: str
    at: float
    sent_headers: tuple[tuple[str, str], ...] = field(repr=False)
    sent_body: bytes | None = field(repr=False)
    track: Track = field(repr=False)
    status: int | None = None
    head_at: float = 0.0
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    end: End = "closed"
    end_at: float = 0.0


class Tape:
    """What is noted of one request's calls: about `room` bytes; a call that begins has what others have left."""

    __slots__ = ("_room", "_sent_cut", "began", "calls")

    def __init__(self, room: int) -> None:
        self._room = room
        self._sent_cut = False
        #: The beginning, on the monotonic clock.
        self.began = monotonic()
        self.calls: list[Heard] = []

    def now(self) -> float:
        """Seconds since the beginning."""
        return monotonic() - self.began

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        return sum(len(call.sent_body or b"") + 2000 + call.track.size for call in self.calls)

    @property
    def cut(self) -> bool:
        """Whether there was more than there was room for."""
        return self._sent_cut or any(call.track.cut for call in self.calls)

    def begin(self, method: str, origin: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Heard:
        """Note a call that is about to be sent."""
        left = max(0, self._room - self.size)
        if body is not None and len(body) > left:
            self._sent_cut, body = True, None
        track = Track(left - len(body or b""))
        heard = Heard(method, origin, target, self.now(), tuple(headers.items()), body, track)
        self.calls.append(heard)
        return heard


_TAPE: Final[ContextVar[Tape | None]] = ContextVar("tape", default=None)


@contextmanager
def listening(tape: Tape) -> Iterator[None]:
    """Note the calls of this context on a tape."""
    token = _TAPE.set(tape)
    try:
        yield
    finally:
        _TAPE.reset(token)


class TappedExchanges:
    """Exchanges that can be listened to."""

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
        patience: float = math.inf,
        on_head: Callable[[CIMultiDict[str]], None] | None = None,
    ) -> Coroutine[Any, Any, Response]:
        """As `Exchanges.request`; noted if somebody listens."""
        tape = _TAPE.get()
        if tape is None:
            return self.exchanges.request(method, origin, target, headers, body, deadline, patience, on_head)
        heard = tape.begin(method, origin, target, headers, body)
        sent = self.exchanges.request(method, origin, target, headers, body, deadline, patience, on_head)
        return _noted(sent, tape, heard)


async def _noted(sent: Coroutine[Any, Any, Response], tape: Tape, heard: Heard) -> Response:
    try:
        response = await sent
    except HttpError as error:
        heard.end, heard.end_at = _end_of(error), tape.now()
        raise
    except asyncio.CancelledError:
        heard.end_at = tape.now()
        raise
    heard.status, heard.head_at = response.status, tape.now()
    heard.headers = tuple(response.headers.items())
    return TappedResponse(response, tape, heard)


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


class TappedResponse:
    """A `Response` that is listened to: what is taken of it is noted."""

    __slots__ = ("_direct", "_heard", "_response", "_tape", "take")

    def __init__(self, response: Response, tape: Tape, heard: Heard) -> None:
        self._response = response
        self._tape = tape
        self._heard = heard
        # What is called for each delta leaves out what is between it and the connection.
        self._direct = response.connection if isinstance(response, PooledResponse) else response
        #: As `Response.take`.
        self.take = heard.track.noting(self._direct.take)

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

    @property
    def on_data(self) -> Callable[[], None] | None:
        """The callback after each read from the socket."""
        return self._direct.on_data

    @on_data.setter
    def on_data(self, call: Callable[[], None] | None) -> None:
        self._direct.on_data = call

    @property
    def deadline(self) -> float:
        """When the response fails, on the loop's clock."""
        return self._direct.deadline

    @deadline.setter
    def deadline(self, at: float) -> None:
        self._direct.deadline = at

    @property
    def over(self) -> bool:
        """Whether nothing more will arrive than can be taken now."""
        return self._direct.over

    async def read(self) -> bytes:
        """As `Response.read`."""
        try:
            data = self.take(await self._response.read())
        except HttpError as error:
            self._heard.end, self._heard.end_at = _end_of(error), self._tape.now()
            raise
        if not data:
            self._heard.end, self._heard.end_at = "complete", self._tape.now()
        return data

    def release(self) -> None:
        """As `Response.release`."""
        self._ended()
        self._response.release()

    def close(self) -> None:
        """As `Response.close`."""
        self._ended()
        self._response.close()

    def _ended(self) -> None:
        if not self._heard.end_at:
            self._heard.end_at = self._tape.now()
            if self._response.over:
                self._heard.end = "complete"
