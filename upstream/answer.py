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
from time import monotonic  # the loop's own clock, in a third of the time
from typing import Final, NamedTuple

import aiohttp

from upstream.documents import model_failed
from upstream.errors import EmptyAnswer, ModelFailed, SilentAnswer, TimedOut
from upstream.events import Event, Failure, Finish, Images, ReasoningDeltas, TextDeltas
from upstream.exchange import Response
from upstream.wire import Wire

#: How long a finished answer may take to end its transport before the connection is given up, in seconds.
LINGER_SECONDS: Final = 1.0

#: Finish reasons of an answer that may well be empty: there was something to say, and it was withheld or cut.
_MAY_BE_EMPTY: Final = frozenset({"content-filter", "length"})


class ArenaAnswer:
    """One answer being read.

    Its first event must come by `deadline`, on the loop's clock. Bytes that are none (heartbeats, bookkeeping) extend
    that, each time to the shorter of `idle_timeout` and `first_byte_timeout`. From the first event on `idle_timeout`
    is how long upstream may be silent. Both are in seconds.
    """

    def __init__(self, response: Response, deadline: float, idle_timeout: float, first_byte_timeout: float) -> None:
        self._response = response
        self._connection = response.connection
        self._begun = False  # an event has come
        self._wire = Wire()
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
        """What was skipped, by kind (`upstream.drift`); complete once the answer has ended."""
        return self._wire.unknown

    async def begin(self) -> None:
        """Wait until something is said, for `read`: a first delta that is empty (thinking models) is no answer yet.

        Raises what the answer breaks with before that. Where it ends without content, that is ModelFailed with the
        words that bookkeeping has for it, or EmptyAnswer if it has none.
        """
        batch: list[Event] = []
        while True:
            batch += await self.read()
            if any(map(_says_something, batch)):
                break
            match batch[-1]:
                case Failure(error=ModelFailed(detail="")) if explanation := self._wire.explanation:
                    raise model_failed(explanation)
                case Failure(error=error):
                    raise error
                case Finish(reason=reason) if reason not in _MAY_BE_EMPTY:
                    if explanation := self._wire.explanation:
                        raise model_failed(explanation)
                    raise EmptyAnswer("The model gave an empty answer.")
                case Finish():
                    break
        self._unread, self.ended = batch, False

    async def read(self) -> list[Event]:
        """Wait for upstream; return what one read held, never empty. Not to be called once `ended`.

        A transport that breaks is a `Failure`, like an answer that does. Cancellation leaves the answer readable.
        """
        batch, self._unread = self._unread, []
        while not batch:
            self._wait()
            try:
                data = await self._connection.read()
            except TimeoutError:
                batch = [Failure(self._silence())]
            except (aiohttp.ClientError, OSError):
                batch = self._wire.feed_eof()
            else:
                batch = self._wire.feed(data) if data else self._wire.feed_eof()
                if not self._begun:
                    self._note_life(batch)
            finally:
                self._connection.waiting_until = math.inf  # our own slowness is no silence of upstream's
        self.ended = isinstance(batch[-1], Finish | Failure)
        return batch

    async def flow(self, take: Callable[[list[Event]], bool]) -> None:
        """Hand each batch to `take` in the very callback that brought it, as long as that returns True.

        No task is woken for it: that makes a delta a sixth cheaper (`make bench`, natural). What needs more than that,
        such as the last batch, is left to `read`. Raises whatever `take` raises.
        """
        if self._unread:
            return
        flow = self._flow = _Flow(take, asyncio.get_running_loop().create_future())
        self._connection.on_data = self._pass_on
        self._wait()
        try:
            self._pass_on()  # what has come since the last read, or the end of it all
            await flow.over
        finally:
            self._stop_flow()
            self._connection.waiting_until = math.inf

    def _pass_on(self) -> None:
        """Hand on what one read from the socket has brought, if anything."""
        flow = self._flow
        if flow is None or flow.over.done():  # done: whoever awaits it was cancelled, and does not know it yet
            return
        if data := self._connection.take():
            batch = self._wire.feed(data)
            if not self._begun:
                self._note_life(batch)
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
        if self._connection.over:
            self._stop_flow()  # `read` says how

    def _stop_flow(self) -> None:
        """Let `flow` return, if it runs."""
        flow, self._flow = self._flow, None
        if flow is not None:
            self._connection.on_data = None
            if not flow.over.done():
                flow.over.set_result(None)

    async def aclose(self) -> None:
        """Let go of the connection: back to the pool if the answer is over, closed if it is not."""
        try:
            if self.ended and not self._connection.over:
                await self._linger()
        finally:
            self._response.release()

    async def _linger(self) -> None:
        """The end of the transport comes a packet behind the last line: wait for it, to keep the connection."""
        with suppress(aiohttp.ClientError, OSError):
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._connection.read():
                    pass

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
        self._connection.waiting_until = monotonic() + self._idle_timeout if self._begun else self._deadline


class _Flow(NamedTuple):
    """An answer being passed on: who takes the batches, and when that is over."""

    take: Callable[[list[Event]], bool]
    over: asyncio.Future[None]


def _says_something(event: Event) -> bool:
    match event:
        case TextDeltas(text=text) | ReasoningDeltas(text=text):
            return text != ""
        case Images(images=images):
            return bool(images)
        case _:
            return False
