"""One answer that others may join: what has been told of it, and who reads that (`joinable.py` has the rule).

Parts are kept by reference as they are written. An answer that is longer than `MOST_BYTES` is joined no more: those who
have joined it are told the rest as it comes, and none of them may be further behind than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from bridge.config.schema import Config
from bridge.dialects.dialect import StreamOpening
from bridge.errors import ApiError, internal_error, overloaded
from handlers.request.record import RequestRecord

if TYPE_CHECKING:
    from handlers.request.joinable import JoinableAnswers, Place  # which makes them

#: How much is kept of one answer.
MOST_BYTES: Final = 4 * 1024**2
#: What a kept part takes besides its bytes.
_PART_BYTES: Final = 48


class Leaving(Protocol):
    """A caller's connection; `on_disconnect` is called when it is lost, and says whether its handler goes on."""

    on_disconnect: Callable[[], bool] | None


class Opening:
    """An encoder's opening, which is the same for all who are told its stream."""

    __slots__ = ("_encoder", "_start", "idle", "keepalive")

    def __init__(self, encoder: StreamOpening) -> None:
        self._encoder = encoder
        self._start: bytes | None = None
        self.keepalive = encoder.keepalive
        self.idle = encoder.idle

    def start(self) -> bytes:
        """Encode it, the first time."""
        if self._start is None:
            self._start = self._encoder.start()
        return self._start

    @property
    def begun(self) -> bytes:
        """What has been encoded of it."""
        return self._start or b""


class JoinableAnswer:
    """One answer, as a context within which it is made; `about` is the record of the request that began it.

    `may_go_on` is asked when its own caller has left, and told how many have joined.
    """

    __slots__ = (
        "_all",
        "_connection",
        "_goes_on",
        "_may_go_on",
        "_parts",
        "_readers",
        "_room",
        "_size",
        "_taken",
        "_task",
        "_waiting",
        "about",
        "attended",
        "config",
        "ended",
        "error",
        "failure",
        "is_separate",
        "may_be_retried",
        "opening",
        "place",
        "received",
    )

    def __init__(
        self,
        answers: JoinableAnswers,
        place: Place,
        config: Config,
        about: RequestRecord,
        task: asyncio.Future[Any],
        connection: Leaving | None,
        may_go_on: Callable[[int], bool],
        *,
        may_be_retried: bool,
    ) -> None:
        """`may_be_retried`: its client would mark a retry."""
        self._all = answers
        self.place = place
        self.config = config
        self.about = about
        self.may_be_retried = may_be_retried
        self._task: asyncio.Future[Any] | None = task
        self._connection = connection
        self._may_go_on = may_go_on
        #: What a stream begins with, once it is known.
        self.opening: Opening | None = None
        self._parts: list[bytes] | None = []  # from part number `_taken` on; None: nobody can join it
        self._taken = 0
        self._size = 0  # of the parts
        self._readers: list[Reader] = []
        self._waiting: list[asyncio.Future[None]] = []  # readers that have taken all
        self._room: asyncio.Future[None] | None = None
        #: Whether its own caller waits for it.
        self.attended = True
        self._goes_on = False
        #: Whether it has run beside another of the same place.
        self.is_separate = False
        self.ended = False
        #: Whether a caller was given the end.
        self.received = False
        #: Why there is no answer, and how its stream told why it broke off; None while it has not failed so.
        self.error: ApiError | None = None
        self.failure: bytes | None = None

    def __enter__(self) -> Self:
        if self._connection is not None:
            self._connection.on_disconnect = self.leave
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.on_disconnect = None
        self._connection = self._task = None
        left, self.attended = not self.attended, False
        if not self.ended:
            if isinstance(error, ApiError):
                self.error = error.again()
            else:
                self.error = _ended() if kind is asyncio.CancelledError else internal_error()
            self._end_failed()
        self._all.settle(self)
        if left and isinstance(error, ApiError):
            raise ConnectionResetError("the caller has disconnected") from None

    # Its own caller's part

    def add(self, data: bytes) -> bool:
        """Keep the next part, for those who join; return whether those who have joined keep up: else await `room`."""
        parts = self._parts
        if parts is None or not data:
            return True
        parts.append(data)
        size = len(data) + _PART_BYTES
        self._size += size
        self._all.kept += size
        if self._waiting:
            self._wake()
        if self._size <= MOST_BYTES and self._all.has_room():
            return True
        self._all.forget(self)
        if not self._readers:
            self.drop()
            if not self.attended:
                self.stop()
            return True
        self._drop_taken()
        return not self.is_ahead

    @property
    def is_ahead(self) -> bool:
        """Whether one who has joined is so far behind that no more must be kept for it."""
        return self._size > MOST_BYTES and bool(self._readers)

    async def room(self) -> None:
        """Wait until all who have joined keep up."""
        while self.is_ahead:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def complete(self) -> None:
        """All parts have been added."""
        self.ended = True
        self._wake()

    def fail_within(self, told: bytes) -> None:
        """The stream has broken off; its own caller is told so by these bytes."""
        self.failure = told
        self._end_failed()

    def _end_failed(self) -> None:
        self.ended = True
        self._all.forget(self)
        self._wake()

    def leave(self) -> bool:
        """Its own caller has left; return whether the answer goes on."""
        if not self.attended:
            return self._goes_on and not self.ended
        self.attended = False
        if self.ended or self._parts is None or not (self._all.open and self._may_go_on(len(self._readers))):
            return False
        self._goes_on = True
        if self._task is not None:
            self._all.own(self._task)
        if not self._readers:
            self._all.add_unattended(self)
        return True

    # The others' part

    def join(self) -> Reader:
        """Add a caller that is told the answer from its beginning."""
        self._all.attend(self)
        reader = Reader(self)
        self._readers.append(reader)
        return reader

    def take(self, reader: Reader) -> bytes:
        """The parts that a reader has not been given yet."""
        parts = self._parts
        if parts is None or not self.has_more(reader):
            return b""
        data = b"".join(parts[reader.at - self._taken :])
        reader.at = self._taken + len(parts)
        self._drop_taken()
        return data

    def has_more(self, reader: Reader) -> bool:
        """Whether there are parts that a reader has not been given yet."""
        return self._parts is not None and reader.at < self._taken + len(self._parts)

    async def more(self) -> None:
        """Wait for a part, or for the end."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def let_go(self, reader: Reader) -> None:
        """A caller that had joined is gone."""
        self._readers.remove(reader)
        self._drop_taken()
        if not (self.attended or self._readers or self.ended):
            if self._parts is None or not self._all.holds(self):  # too long by now for anybody else
                self.stop()
            else:
                self._all.add_unattended(self)
        elif self.ended and not (self.attended or self._readers):
            self._all.settle(self)

    def _drop_taken(self) -> None:
        """Of an answer that nobody else may join, drop the parts that all who have joined it were given."""
        if self._parts is None or self._all.holds(self):
            return
        if not self._readers:
            self.drop()
        else:
            taken = min([reader.at for reader in self._readers]) - self._taken
            dropped = sum([len(part) + _PART_BYTES for part in self._parts[:taken]])
            del self._parts[:taken]
            self._taken += taken
            self._size -= dropped
            self._all.kept -= dropped
        if self._room is not None and not self.is_ahead:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)

    # The table's part

    @property
    def joined(self) -> int:
        """How many callers have joined it that are still there."""
        return len(self._readers)

    def drop(self) -> None:
        """Keep nothing of it any more."""
        self._all.kept -= self._size
        self._parts, self._size = None, 0

    def stop(self) -> None:
        """End the making of it."""
        if self._task is not None:
            self._task.cancel()

    def on_timer(self) -> None:
        """Nobody has joined it in time."""
        self._all.give_up(self)


class Reader:
    """One caller that has joined an answer, as a context."""

    __slots__ = ("_answer", "at")

    def __init__(self, answer: JoinableAnswer) -> None:
        self._answer = answer
        self.at = 0  # the number of the next part

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answer.let_go(self)

    @property
    def about(self) -> RequestRecord:
        """The record of the request that began the answer."""
        return self._answer.about

    @property
    def opening(self) -> Opening | None:
        """What its stream begins with; None while that is not known."""
        return self._answer.opening

    @property
    def begun(self) -> bytes:
        """The opening if the stream has begun with it before anything else, else b''."""
        return b"" if self._answer.opening is None else self._answer.opening.begun

    @property
    def failure(self) -> bytes | None:
        """How the stream told that it broke off; None where it did not."""
        return self._answer.failure

    @property
    def at_end(self) -> bool:
        """Whether nothing more comes."""
        return self._answer.ended and not self._answer.has_more(self)

    def receive(self) -> None:
        """This caller has been given the end."""
        self._answer.received = True

    async def next(self) -> bytes:
        """Wait for what comes next; b'' at the end. Raises ApiError where there is no answer."""
        answer = self._answer
        while not (data := answer.take(self)):
            if answer.ended:
                if answer.error is not None:
                    raise answer.error.again()
                break
            await answer.more()
        return data


def _ended() -> ApiError:
    return overloaded("The answer that this request had joined was ended: try again in a moment.")
