"""One answer that others may join: the parts that have been sent of it, and its readers. `joinable.py` has the rules.

Parts are kept by reference as they are written. An answer longer than `MAX_ANSWER_BYTES` can no longer be joined: its
readers get the rest as it comes, and the answer waits for any that is further behind than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self

from bridge.config.schema import Config
from bridge.dialects.dialect import StreamOpening
from bridge.errors import ApiError, internal_error, overloaded
from handlers.request.record import RequestRecord
from upstream.protocol.errors import Reason

if TYPE_CHECKING:
    from handlers.request.joinable import JoinableAnswers, RequestIdentity  # which makes them

#: How much is kept of one answer.
MAX_ANSWER_BYTES: Final = 4 * 1024**2
#: The memory that a kept part takes besides its bytes.
_PART_BYTES: Final = 48


class Disconnectable(Protocol):
    """A caller's connection. `on_disconnect` is called when it is lost, and returns whether its handler goes on."""

    on_disconnect: Callable[[], bool] | None


class Opening:
    """The opening of a stream, encoded once for all who read the stream."""

    _start: bytes | None = None

    def __init__(self, encoder: StreamOpening) -> None:
        self._encoder = encoder
        self.keepalive = encoder.keepalive
        self.idle = encoder.idle

    def start(self) -> bytes:
        """The encoded opening."""
        if self._start is None:
            self._start = self._encoder.start()
        return self._start

    @property
    def encoded(self) -> bytes:
        """The opening if it has been encoded, else b''."""
        return self._start or b""


class StreamFailure(NamedTuple):
    """How a stream has broken off: the error event for its callers, and the reason."""

    event: bytes
    reason: Reason


class JoinableAnswer:
    """One answer, as a context within which it is made. `begun_by` is the record of the request that began it.

    When its own caller leaves, and when the last reader does after that, `may_go_on` is called with the number of
    callers that have joined, and decides whether the answer goes on.
    """

    #: What the stream begins with, once that is known.
    opening: Opening | None = None
    #: Whether an equal request ran at the same time, so that a retry could be of either.
    is_ambiguous = False
    ended = False
    #: Whether a caller has received the end.
    received = False
    #: After a failure: the error in place of an answer, or how its stream has broken off.
    error: ApiError | None = None
    failure: StreamFailure | None = None
    _first_kept = 0  # the number of the first of `_parts`
    _size = 0  # of the parts
    _caught_up: asyncio.Future[None] | None = None
    _goes_on = False

    def __init__(
        self,
        answers: JoinableAnswers,
        identity: RequestIdentity,
        config: Config,
        begun_by: RequestRecord,
        task: asyncio.Future[Any],
        connection: Disconnectable | None,
        may_go_on: Callable[[int], bool],
        *,
        may_be_retried: bool,
    ) -> None:
        """`may_be_retried` is whether a retry of the request could be recognised as one."""
        self._answers = answers
        #: Whether its own caller waits for it.
        self.attended = True
        self.identity = identity
        self.config = config
        self.begun_by = begun_by
        self.may_be_retried = may_be_retried
        self._task: asyncio.Future[Any] | None = task
        self._connection = connection
        self._may_go_on = may_go_on
        self._parts: list[bytes] | None = []  # None once they are dropped
        self._readers: list[Reader] = []
        self._waiting: list[asyncio.Future[None]] = []  # readers that have taken all parts

    def __enter__(self) -> Self:
        if self._connection is not None:
            self._connection.on_disconnect = self.disconnect
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
                self.error = _ended_error() if kind is asyncio.CancelledError else internal_error()
            self._end_failed()
        self._answers.settle(self)
        if left and isinstance(error, ApiError):
            raise ConnectionResetError("the caller has disconnected") from None

    # Methods for the task that makes the answer

    def add(self, data: bytes) -> bool:
        """Keep the next part for its readers; return whether they keep up: if not, await `wait_for_readers`."""
        parts = self._parts
        if parts is None or not data:
            return True
        parts.append(data)
        size = len(data) + _PART_BYTES
        self._size += size
        self._answers.kept_bytes += size
        if self._waiting:
            self._wake()
        if self._size <= MAX_ANSWER_BYTES and self._answers.has_room():
            return True
        self._answers.forget(self)
        if not self._readers:
            self.drop_parts()
            if not self.attended:
                self.cancel()
            return True
        self._drop_read_parts()
        return not self.is_ahead

    @property
    def is_ahead(self) -> bool:
        """Whether a reader is so far behind that no more may be kept for it."""
        return self._size > MAX_ANSWER_BYTES and bool(self._readers)

    async def wait_for_readers(self) -> None:
        """Wait until all readers have caught up."""
        while self.is_ahead:
            self._caught_up = asyncio.get_running_loop().create_future()
            await self._caught_up

    def complete(self) -> None:
        """Mark the end: all parts have been added."""
        self.ended = True
        self._wake()

    def fail_in_stream(self, event: bytes) -> None:
        """Mark the end of a stream that has broken off, with the error event for its readers."""
        self.failure = StreamFailure(event, self.begun_by.reason)  # the record's changes if its caller has left
        self._end_failed()

    def _end_failed(self) -> None:
        self.ended = True
        self._answers.forget(self)
        self._wake()

    def disconnect(self) -> bool:
        """Note that its own caller has left; return whether the answer goes on."""
        if not self.attended:
            return self._goes_on and not self.ended
        self.attended = False
        if self.ended or not self._continues():
            return False
        self._goes_on = True
        if self._task is not None:
            self._answers.own(self._task)
        if not self._readers:
            self._answers.add_unattended(self)
        return True

    def _continues(self) -> bool:
        """Decide whether it goes on after its own caller, or the last reader after that, has left."""
        if self._parts is None or not (self._answers.is_open or self._readers):
            return False
        return self._may_go_on(len(self._readers))

    # Methods for its readers

    def join(self) -> Reader:
        """Add a reader, which gets the answer from its beginning."""
        self._answers.cancel_expiry(self)
        reader = Reader(self)
        self._readers.append(reader)
        return reader

    def take(self, reader: Reader) -> bytes:
        """The parts that a reader has not taken yet, joined; b'' if there are none."""
        parts = self._parts
        if parts is None or not self.has_more(reader):
            return b""
        data = b"".join(parts[reader.at - self._first_kept :])
        reader.at = self._first_kept + len(parts)
        self._drop_read_parts()
        return data

    def has_more(self, reader: Reader) -> bool:
        """Whether there are parts that a reader has not taken yet."""
        return self._parts is not None and reader.at < self._first_kept + len(self._parts)

    async def wait_for_more(self) -> None:
        """Wait for the next part, or for the end."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def remove(self, reader: Reader) -> None:
        """Remove a reader that has gone."""
        self._readers.remove(reader)
        self._drop_read_parts()
        if not (self.attended or self._readers or self.ended):
            if self._continues():
                self._answers.add_unattended(self)
            else:
                self.cancel()
        elif self.ended and not (self.attended or self._readers):
            self._answers.settle(self)

    def _drop_read_parts(self) -> None:
        """Drop the parts that all readers have taken, if nobody else may join the answer."""
        if self._parts is None or self._answers.has_listed(self):
            return
        if not self._readers:
            self.drop_parts()
        else:
            count = min([reader.at for reader in self._readers]) - self._first_kept
            dropped = sum([len(part) + _PART_BYTES for part in self._parts[:count]])
            del self._parts[:count]
            self._first_kept += count
            self._size -= dropped
            self._answers.kept_bytes -= dropped
        if self._caught_up is not None and not self.is_ahead:
            if not self._caught_up.done():
                self._caught_up.set_result(None)
            self._caught_up = None

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)

    # Methods for JoinableAnswers

    @property
    def joined(self) -> int:
        """The number of its readers."""
        return len(self._readers)

    def drop_parts(self) -> None:
        """Drop what is kept of it."""
        self._answers.kept_bytes -= self._size
        self._parts, self._size = None, 0

    def cancel(self) -> None:
        """Cancel the task that makes it."""
        if self._task is not None:
            self._task.cancel()

    def on_timer(self) -> None:
        """Drop it: nobody has joined it in time."""
        self._answers.give_up(self)


class Reader:
    """One caller that has joined an answer, as a context that removes it."""

    __slots__ = ("_answer", "at")

    def __init__(self, answer: JoinableAnswer) -> None:
        self._answer = answer
        self.at = 0  # the number of the next part to take

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answer.remove(self)

    @property
    def begun_by(self) -> RequestRecord:
        """The record of the request that began the answer."""
        return self._answer.begun_by

    @property
    def opening(self) -> Opening | None:
        """What its stream begins with; None while that is not known."""
        return self._answer.opening

    @property
    def sent_opening(self) -> bytes:
        """The opening if it has been sent before the first part, else b''."""
        return b"" if self._answer.opening is None else self._answer.opening.encoded

    @property
    def failure(self) -> StreamFailure | None:
        """How the stream has broken off; None if it has not."""
        return self._answer.failure

    @property
    def at_end(self) -> bool:
        """Whether all parts have been taken, and no more will be added."""
        return self._answer.ended and not self._answer.has_more(self)

    def mark_received(self) -> None:
        """Note that this caller has received the end."""
        self._answer.received = True

    async def next(self) -> bytes:
        """Wait for the next parts; b'' at the end. Raises ApiError if there is no answer."""
        answer = self._answer
        while not (data := answer.take(self)):
            if answer.ended:
                if answer.error is not None:
                    raise answer.error.again()
                break
            await answer.wait_for_more()
        return data


def _ended_error() -> ApiError:
    return overloaded("The answer that this request had joined was ended: try again in a moment.")
