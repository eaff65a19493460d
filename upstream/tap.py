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
from typing import Any, Final, Literal, TypeAlias

from multidict import CIMultiDict

from upstream.http.exchange_types import Exchanges, HttpError, NoAnswerInTime, NotHttp, NotSent, Response

#: How a call ended: as it should, broken off, in silence until the deadline, without a connection, with something that
#: is no HTTP, or closed by the bridge.
End: TypeAlias = Literal["complete", "broke", "silent", "not sent", "not http", "closed"]

#: What one piece costs besides its bytes.
_PIECE_BYTES: Final = 100


@dataclass(slots=True)
class Heard:
    """One call: what was sent, and what came back. `pieces` are parts of the body, each with its time.

    All times are in seconds since the tape's beginning. `status` is None where no head came.
    """

    method: str
    origin: str
    target: str
    at: float
    sent_headers: tuple[tuple[str, str], ...] = field(repr=False)
    sent_body: bytes | None = field(repr=False)
    status: int | None = None
    head_at: float = 0.0
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    pieces: list[tuple[float, bytes]] = field(default_factory=list, repr=False)
    end: End = "closed"
    end_at: float = 0.0


class Tape:
    """What is noted of one request's calls: at most `room` bytes; `cut` says that there was more."""

    __slots__ = ("_room", "began", "calls", "cut")

    def __init__(self, room: int) -> None:
        self._room = room
        #: The beginning, on the monotonic clock.
        self.began = monotonic()
        self.calls: list[Heard] = []
        self.cut = False

    def now(self) -> float:
        """Seconds since the beginning."""
        return monotonic() - self.began

    def has_room(self, size: int) -> bool:
        """Take room for one piece of so many bytes; False if there is none."""
        self._room -= size + _PIECE_BYTES
        if self._room < 0:
            self.cut = True
        return not self.cut


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
        kept = body if body is not None and tape.has_room(len(body)) else None
        heard = Heard(method, origin, target, tape.now(), tuple(headers.items()), kept)
        tape.calls.append(heard)
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

    __slots__ = ("_heard", "_response", "_tape")

    def __init__(self, response: Response, tape: Tape, heard: Heard) -> None:
        self._response = response
        self._tape = tape
        self._heard = heard

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
        return self._response.on_data

    @on_data.setter
    def on_data(self, call: Callable[[], None] | None) -> None:
        self._response.on_data = call

    @property
    def deadline(self) -> float:
        """When the response fails, on the loop's clock."""
        return self._response.deadline

    @deadline.setter
    def deadline(self, at: float) -> None:
        self._response.deadline = at

    @property
    def over(self) -> bool:
        """Whether nothing more will arrive than can be taken now."""
        return self._response.over

    async def read(self) -> bytes:
        """As `Response.read`."""
        try:
            data = await self._response.read()
        except HttpError as error:
            self._heard.end, self._heard.end_at = _end_of(error), self._tape.now()
            raise
        if not data:
            self._heard.end, self._heard.end_at = "complete", self._tape.now()
        self._note(data)
        return data

    def take(self) -> bytes:
        """As `Response.take`."""
        data = self._response.take()
        self._note(data)
        return data

    def _note(self, data: bytes) -> None:
        if data and self._tape.has_room(len(data)):
            self._heard.pieces.append((self._tape.now(), data))

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
