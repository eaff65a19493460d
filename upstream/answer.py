"""One answer being read, off a response that has begun: batches of events, the last of which ends it.

answer = await client.open(…)
try:
    while not answer.ended:
        batch = await answer.read()
        …
        await answer.flow(pass_on)      # if that can be done without waiting
finally:
    await answer.aclose()
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic  # the loop's own clock
from typing import Final, NamedTuple

from upstream.http.exchange_types import HttpError, NoAnswerInTime, Response
from upstream.protocol.errors import EmptyAnswer, ModelFailed, ProtocolViolated, SilentAnswer, TimedOut
from upstream.protocol.events import Event, Failure, Finish, Images, ReasoningDeltas, TextDeltas
from upstream.protocol.held import Held
from upstream.protocol.line_values import model_failed
from upstream.protocol.secrets import Secrets
from upstream.protocol.wire import Wire

#: How long a finished answer may take to end its transport before the connection is given up, in seconds.
LINGER_SECONDS: Final = 1.0
#: And how much more it may send meanwhile.
LINGER_BYTES: Final = 64 * 1024

#: What may come before an answer says something, in bytes of whole lines: bookkeeping, sources, heartbeats.
MAX_UNSAID_BYTES: Final = 4 * 1024 * 1024

#: A read with more lines than this is taken in pieces of so many bytes, a turn of the loop for each: short lines of
#: changing kinds are slow to read.
MANY_LINES: Final = 500
PIECE_BYTES: Final = 4096

#: Finish reasons of an answer that may well be empty: there was something to say, and it was withheld or cut.
_MAY_BE_EMPTY: Final = frozenset({"content-filter", "length"})


class ArenaAnswer:
    """One answer being read.

    Its first event must come by `deadline`, on the loop's clock. Bytes that are none (heartbeats, bookkeeping) extend
    that, each time to the shorter of `idle_timeout` and `first_byte_timeout`. From the first event on `idle_timeout`
    is how long upstream may be silent. Both are in seconds. `held` is what it shares with other answers; `secrets` are
    not quoted, whatever the answer's failures say.
    """

    def __init__(
        self,
        response: Response,
        deadline: float,
        idle_timeout: float,
        first_byte_timeout: float,
        *,
        held: Held | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self._response = response
        self._begun = False  # an event has come
        self._wire = Wire(held=held)
        self._secrets = secrets or Secrets()
        self._share = (held or Held()).share()  # of what answers that are collected may hold
        self._bytes = 0  # read so far
        self._unsaid_limit = math.inf  # of them, as long as nothing is said
        self._data = b""  # what has come and is still to be fed to `_wire`, in pieces
        self._unread: list[Event] = []  # a batch that has come, for the next `read`
        self._flow: _Flow | None = None
        self._idle_timeout = idle_timeout
        self._extension = min(idle_timeout, first_byte_timeout)
        self._deadline = deadline
        #: Where the answer comes from, after redirects.
        self.origin = response.origin
        #: The last batch has been read.
        self.ended = False

    @property
    def unknown(self) -> Mapping[str, int]:
        """What was skipped, by kind (`upstream.protocol.drift`); complete once the answer has ended."""
        return self._wire.unknown

    async def begin(self) -> None:
        """Wait until something is said, for `read`: a first delta that is empty (thinking models) is no answer yet.

        Raises what the answer breaks with before that. Where it ends without content, that is ModelFailed with the
        words that bookkeeping has for it, or EmptyAnswer if it has none.
        """
        before: list[Event] = []
        self._unsaid_limit = MAX_UNSAID_BYTES
        while True:
            batch = await self.read()
            if any(map(_says_something, batch)):
                break
            match batch[-1]:
                case Failure(error=ModelFailed(detail="")) if explanation := self._explanation():
                    raise model_failed(explanation)
                case Failure(error=error):
                    raise error
                case Finish(reason=reason) if reason not in _MAY_BE_EMPTY:
                    if explanation := self._explanation():
                        raise model_failed(explanation)
                    raise EmptyAnswer("The model gave an empty answer.")
                case Finish():
                    break
            before += batch if not before else filter(_is_no_delta, batch)
        self._unread, self.ended = before + batch, False
        self._unsaid_limit = math.inf

    def _explanation(self) -> str:
        return self._secrets.redacted(self._wire.explanation)

    async def read(self) -> list[Event]:
        """Wait for upstream; return what one read held, never empty. Not to be called once `ended`.

        A transport that breaks is a `Failure`, like an answer that does. Cancellation leaves the answer readable.
        """
        batch, self._unread = self._unread, []
        while not batch:
            if self._bytes - self._wire.open_bytes > self._unsaid_limit:
                batch = [Failure(ProtocolViolated("LMArena sent megabytes in which the model says nothing."))]
                break
            if self._data:
                await asyncio.sleep(0)
                batch = self._feed()
                continue
            self._wait()
            try:
                data = await self._response.read()
            except NoAnswerInTime:
                batch = [Failure(self._silence())]
            except HttpError:
                batch = self._wire.feed_eof()
            else:
                self._data = data
                batch = self._feed() if data else self._wire.feed_eof()
            finally:
                self._response.deadline = math.inf  # our own slowness is no silence of upstream's
        last = batch[-1]
        self.ended = isinstance(last, Finish | Failure)
        if self.ended and isinstance(last, Failure):
            self._secrets.redact(last.error)
        return batch

    def _feed(self) -> list[Event]:
        """Read what has come, or a piece of it: the rest is for the next turn of the loop."""
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
            self._note_life(batch)
        return batch

    async def flow(self, take: Callable[[list[Event]], bool]) -> None:
        """Hand each batch to `take` in the very callback that brought it, as long as that returns True.

        No task is woken for it, which makes a delta cheaper. What needs more than that, such as the last batch, is left
        to `read`. Raises what `take` raises.
        """
        if self._unread or self._data:
            return
        flow = self._flow = _Flow(take, asyncio.get_running_loop().create_future())
        self._response.on_data = self._pass_on
        self._wait()
        try:
            self._pass_on()  # what has come since the last read, or the end of it all
            await flow.over
        finally:
            self._stop_flow()
            self._response.deadline = math.inf

    def _pass_on(self) -> None:
        """Hand on what one read from the socket has brought, if anything."""
        flow = self._flow
        if flow is None or flow.over.done():  # done: the task that awaits it was cancelled, and does not know it yet
            return
        if data := self._response.take():
            self._data = data
            batch = self._feed()
            self._wait()
            if self._wire.ended:
                self._unread = batch
                self._stop_flow()
                return
            try:
                if batch and not flow.take(batch):
                    self._stop_flow()
            except Exception as error:  # noqa: BLE001 — it is raised again, where `flow` is awaited
                flow.over.set_exception(error)
        if self._data or self._response.over:
            self._stop_flow()  # `read` takes the rest, and says how it ends

    def _stop_flow(self) -> None:
        """Let `flow` return, if it runs."""
        flow, self._flow = self._flow, None
        if flow is not None:
            self._response.on_data = None
            if not flow.over.done():
                flow.over.set_result(None)

    def keep(self, size: int) -> bool:
        """Say how many bytes of this answer somebody keeps until its end; False if that is too much for all answers."""
        return self._share.set(size)

    async def aclose(self) -> None:
        """Let go of the connection: back to the pool if the answer is over, closed if it is not."""
        self._wire.close()
        self._share.set(0)
        try:
            if self.ended and not self._response.over:
                await self._linger()
        finally:
            self._response.release()

    async def _linger(self) -> None:
        """The end of the transport comes a packet behind the last line: wait for it, to keep the connection."""
        with suppress(HttpError, TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                left = LINGER_BYTES
                while left > 0 and (data := await self._response.read()):
                    left -= len(data)

    def _note_life(self, batch: list[Event]) -> None:
        """Bytes have come before the first event: it is among them, or may take a little longer."""
        if batch:
            self._begun = True
        else:
            self._deadline = max(self._deadline, monotonic() + self._extension)

    def _silence(self) -> TimedOut:
        if self._begun:
            return TimedOut(f"LMArena fell silent for {self._idle_timeout:g} s.")
        return SilentAnswer("LMArena accepted the call and then sent no answer.")

    def _wait(self) -> None:
        """From now on it is upstream's time that passes."""
        self._response.deadline = monotonic() + self._idle_timeout if self._begun else self._deadline


class _Flow(NamedTuple):
    """An answer being passed on: who takes the batches, and when that is over."""

    take: Callable[[list[Event]], bool]
    over: asyncio.Future[None]


def _is_no_delta(event: Event) -> bool:
    """Whether an event that says nothing yet matters later; one empty delta is as good as many."""
    return not isinstance(event, TextDeltas | ReasoningDeltas)


def _says_something(event: Event) -> bool:
    match event:
        case TextDeltas(text=text) | ReasoningDeltas(text=text):
            return text != ""
        case Images(images=images):
            return bool(images)
        case _:
            return False
