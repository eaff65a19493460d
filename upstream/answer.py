"""Reads one answer from a response that has begun, as batches of events; the last event ends it.

answer = await client.open(…)
try:
    while not answer.ended:
        batch = await answer.read()     # waits: the first batch, the last one, and after each return of `flow`
        …
        await answer.flow(on_batch)     # hands on batches without waking a task, as long as that is possible
finally:
    await answer.aclose()

A batch takes one of two paths:

    bytes from the socket
      │
      ├─ while the task awaits `flow`:  `_on_data`, in the callback of the read itself ──► `on_batch(batch)`
      │                                   │ `on_batch` returns False, the answer ends,
      │                                   │ a large read is taken in pieces, or the transport ends
      │                                   ▼
      │                                 `flow` returns; what is left waits for `read`
      │
      └─ while the task awaits `read`:  the response wakes the task ──► `read` returns the batch

Both paths feed the same `Wire`, and only one is active at a time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic  # the loop's own clock
from typing import Final, NamedTuple

from upstream.http.exchange_types import HttpError, NoAnswerInTime, Response
from upstream.protocol.errors import EmptyAnswer, ModelFailed, ProtocolViolated, SilentAnswer, TimedOut, UpstreamError
from upstream.protocol.events import Event, Failure, Finish, Images, ReasoningDeltas, TextDeltas
from upstream.protocol.line_values import model_failed
from upstream.protocol.memory_budget import MemoryBudget
from upstream.protocol.secrets import Secrets
from upstream.protocol.wire import Wire

#: How long to wait for the end of a finished answer's transport before the connection is closed, in seconds.
LINGER_SECONDS: Final = 1.0
#: How many bytes it may still send meanwhile.
LINGER_BYTES: Final = 64 * 1024

#: The most bytes of complete lines before an answer has content: bookkeeping, sources, heartbeats.
MAX_BYTES_BEFORE_CONTENT: Final = 4 * 1024 * 1024

#: A read with more lines than MANY_LINES is parsed in pieces of PIECE_BYTES, one in each iteration of the event loop:
#: short lines of alternating kinds are slow to parse.
MANY_LINES: Final = 500
PIECE_BYTES: Final = 4096

#: Finish reasons with which an empty answer is not an error: the content was withheld or cut off.
_MAY_BE_EMPTY: Final = frozenset({"content-filter", "length"})


class ArenaAnswer:
    """One answer that is being read.

    The first event must arrive by `deadline`, on the loop's clock. Bytes without an event (heartbeats, bookkeeping)
    extend it, each time by the shorter of `idle_timeout` and `first_byte_timeout`. After the first event, upstream may
    be silent for `idle_timeout`. Both are in seconds. All answers share `memory_budget`; `secrets` are removed from the
    texts of failures.
    """

    #: Whether the last batch has been read.
    ended = False
    _begun = False  # whether an event has arrived
    _bytes = 0  # fed to `_wire` so far
    _limit_before_content = math.inf  # for `_bytes`
    _data = b""  # received but not fed to `_wire` yet
    _flow: _Flow | None = None
    _closed = False

    def __init__(
        self,
        response: Response,
        deadline: float,
        idle_timeout: float,
        first_byte_timeout: float,
        *,
        memory_budget: MemoryBudget | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self._response = response
        self._connection = response.connection
        self._take = response.take
        self._wire = Wire(memory_budget=memory_budget)
        self._secrets = secrets or Secrets()
        self._memory = (memory_budget or MemoryBudget()).share()  # for an answer that is collected as a whole
        self._unread: list[Event] = []  # a batch for the next `read`
        self._idle_timeout = idle_timeout
        self._extension = min(idle_timeout, first_byte_timeout)
        self._deadline = deadline
        #: The origin that the answer comes from, after redirects.
        self.origin = response.origin

    @property
    def unknown(self) -> Mapping[str, int]:
        """Counts of what was skipped, by kind (`upstream.protocol.drift`); final once the answer has ended."""
        return self._wire.unknown

    @property
    def unknown_lines(self) -> Sequence[bytes]:
        """The first lines in which something was unknown."""
        return self._wire.unknown_lines

    async def begin(self) -> None:
        """Wait for the first content, which `read` then returns; empty deltas (thinking models) are not content.

        Raises the error with which the answer fails before that. If it ends without content, that is ModelFailed with
        the explanation from bookkeeping lines, or EmptyAnswer without one.
        """
        before: list[Event] = []
        self._limit_before_content = MAX_BYTES_BEFORE_CONTENT
        while True:
            batch = await self.read()
            if any(map(_has_content, batch)):
                break
            match batch[-1]:
                case Finish(reason=reason) if reason in _MAY_BE_EMPTY:
                    break
                case Failure() | Finish():
                    raise self._why_empty(batch.pop())  # out of the batch, which the error's traceback refers to
            before += batch if not before else filter(_is_not_delta, batch)
        self._unread, self.ended = before + batch, False
        self._limit_before_content = math.inf

    def _why_empty(self, last: Event) -> UpstreamError:
        explanation = self._explanation()
        match last:
            case Finish() | Failure(error=ModelFailed(detail="")) if explanation:
                return model_failed(explanation)
            case Failure(error=error):
                return error
        return EmptyAnswer("The model returned an empty answer.")

    def _explanation(self) -> str:
        return self._secrets.redacted(self._wire.explanation)

    async def read(self) -> list[Event]:
        """Wait for the next batch, which is never empty. Must not be called once `ended`.

        A broken transport is a `Failure` event, like a failed answer. After a cancellation, reading can continue.
        """
        batch, self._unread = self._unread, []
        while not batch:
            if self._bytes - self._wire.open_bytes > self._limit_before_content:
                batch = [Failure(ProtocolViolated("LMArena sent megabytes without any content from the model."))]
                break
            if self._data:
                await asyncio.sleep(0)
                batch = self._feed()
                continue
            self._start_deadline()
            try:
                data = await self._response.read()
            except NoAnswerInTime:
                batch = [Failure(self._timeout_error())]
            except HttpError:
                batch = self._wire.feed_eof()
            else:
                self._data = data
                batch = self._feed() if data else self._wire.feed_eof()
            finally:
                self._connection.deadline = math.inf  # our own time does not count as upstream's silence
        last = batch[-1]
        self.ended = isinstance(last, Finish | Failure)
        if isinstance(last, Failure):
            self._secrets.redact(last.error)
        return batch

    def _feed(self) -> list[Event]:
        """Parse the received bytes, or a piece of them: the rest waits for the next iteration of the loop."""
        data = self._data
        if len(data) > PIECE_BYTES and data.count(b"\n") > MANY_LINES:
            data, self._data = data[:PIECE_BYTES], data[PIECE_BYTES:]
        else:
            self._data = b""
        self._bytes += len(data)
        batch = self._wire.feed(data)
        if self._wire.ended:
            self._data = b""
        if not self._begun:
            self._note_progress(batch)
        return batch

    async def flow(self, on_batch: Callable[[list[Event]], bool]) -> None:
        """Pass each batch to `on_batch` within the callback of the socket read, as long as that returns True.

        This wakes no task, which makes a delta cheaper. What cannot be handled like this, such as the last batch, is
        left to `read`. Raises what `on_batch` raises.
        """
        if self.ended or self._unread or self._data:
            return
        flow = self._flow = _Flow(on_batch, asyncio.get_running_loop().create_future())
        self._connection.on_data = self._on_data
        self._start_deadline()
        try:
            self._on_data()  # bytes that have arrived since the last read, or the end
            await flow.done
        finally:
            self._stop_flow()
            self._connection.deadline = math.inf
            del flow  # the traceback of an error from `on_batch` refers to this frame

    def _on_data(self) -> None:
        """Pass on the bytes of one read from the socket, if any."""
        flow = self._flow
        if flow is None or flow.done.done():  # done: the task that awaits it was cancelled, but has not run yet
            return
        if data := self._take():
            self._data = data
            batch = self._feed()
            self._start_deadline()
            if self._wire.ended:
                self._unread = batch
                self._stop_flow()
                return
            try:
                if batch and not flow.on_batch(batch):
                    self._stop_flow()
            except Exception as error:  # noqa: BLE001 — re-raised where `flow` is awaited
                flow.done.set_exception(error)
        if self._data or self._connection.ended:
            self._stop_flow()  # `read` handles the rest

    def _stop_flow(self) -> None:
        """Make `flow` return, if it is active."""
        flow, self._flow = self._flow, None
        if flow is not None:
            self._connection.on_data = None
            if not flow.done.done():
                flow.done.set_result(None)

    def keep(self, size: int) -> bool:
        """Account for `size` bytes of this answer that are buffered until its end; False if that exceeds the budget."""
        return self._memory.set(size)

    async def aclose(self) -> None:
        """Return the connection to the pool if the answer is complete, or else close it. May be called again."""
        self._wire.close()
        self._memory.set(0)
        if self._closed:  # the connection may serve another answer by now
            return
        self._closed = True
        try:
            if self.ended and not self._connection.ended:
                await self._linger()
        finally:
            self._response.release()

    async def _linger(self) -> None:
        """Wait for the end of the transport, a packet after the last line, so that the connection can be reused."""
        with suppress(HttpError, TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                left = LINGER_BYTES
                while left > 0 and (data := await self._response.read()):
                    left -= len(data)

    def _note_progress(self, batch: list[Event]) -> None:
        """Note the first event, or extend the deadline for it."""
        if batch:
            self._begun = True
        else:
            self._deadline = max(self._deadline, monotonic() + self._extension)

    def _timeout_error(self) -> TimedOut:
        if self._begun:
            return TimedOut(f"LMArena fell silent for {self._idle_timeout:g} s.")
        return SilentAnswer("LMArena accepted the call and then sent no answer.")

    def _start_deadline(self) -> None:
        """Set the response's deadline: from now on we wait for upstream."""
        self._connection.deadline = monotonic() + self._idle_timeout if self._begun else self._deadline


class _Flow(NamedTuple):
    """An active `flow`: the callback for batches, and the future that ends it."""

    on_batch: Callable[[list[Event]], bool]
    done: asyncio.Future[None]


def _is_not_delta(event: Event) -> bool:
    """Whether an event without content must be kept; of empty deltas, one is enough."""
    return not isinstance(event, TextDeltas | ReasoningDeltas)


def _has_content(event: Event) -> bool:
    match event:
        case TextDeltas(text=text) | ReasoningDeltas(text=text):
            return text != ""
        case Images(urls=urls):
            return bool(urls)
        case _:
            return False
