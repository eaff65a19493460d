"""Answers that a repetition of their request may join: what has been told of each, and who still waits for it.

| an answer         | its own caller      | joined | upstream            | who may join it                       |
|-------------------|---------------------|--------|---------------------|---------------------------------------|
| attended          | waits               | any    | goes on             | the same request, unless marked FIRST |
| followed          | has left            | some   | goes on             | the same request, unless marked FIRST |
| unattended        | has left            | none   | for 10 s, then shut | the same request                      |
| ended, unreceived | left before the end | none   | has ended           | the same request, for 10 s            |
| ended, received   | was given the end   | any    | has ended           | a retry, where marked as one, for 10 s |

SDKs mark their requests: a first try is a request of its own even beside one that is equal (samples are drawn so), and
a retry says that the end of the first was not received. Where equal first tries have run side by side, nobody can say
whose a retry is: it joins only what has been left. An answer that becomes too long is joined no more
(`joinable_answer.py`).

No socket and no clock of its own. All methods belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol

from bridge.config.schema import Config
from handlers.request.joinable_answer import JoinableAnswer, Leaving
from handlers.request.record import RequestRecord

#: How much is kept of all answers together.
MOST_BYTES_OF_ALL: Final = 32 * 1024**2
#: How long an answer is kept without a caller, in seconds.
GRACE_SECONDS: Final = 10.0
#: How many calls upstream go on without a caller, of a key and in all; the oldest is closed for a further one.
MOST_UNATTENDED_OF_KEY: Final = 100
MOST_UNATTENDED: Final = 500


class Mark(Enum):
    """What a request says of itself; one with an idempotency key is told apart by that, and is unmarked."""

    NONE = "none"
    FIRST = "first"
    RETRY = "retry"


class Place(NamedTuple):
    """What equal requests have in common; `sent` is the body, or its digest."""

    dialect: str
    key_id: str
    idempotency_key: str
    sent: bytes


class Timers(Protocol):
    """Timers by object (`upstream.loop.timers`)."""

    def set(self, timer: JoinableAnswer, at: float) -> None:
        """Call `timer.on_timer` at this time."""

    def cancel(self, timer: JoinableAnswer) -> None:
        """Do not."""


class JoinableAnswers:
    """All answers that can be joined, by their place. `clock` is that of `timers`."""

    def __init__(self, timers: Timers, clock: Callable[[], float]) -> None:
        self._timers = timers
        self._clock = clock
        self._by_place: dict[Place, list[JoinableAnswer]] = {}
        self._unattended: OrderedDict[JoinableAnswer, None] = OrderedDict()  # the oldest first
        self._unattended_of: Counter[str] = Counter()
        self._ended: OrderedDict[JoinableAnswer, None] = OrderedDict()  # kept without a caller, the oldest first
        self._tasks: set[asyncio.Future[Any]] = set()  # that go on, or went on, without their caller
        #: Bytes of all that are kept.
        self.kept = 0
        #: Whether an answer may go on without its caller: until the daemon stops.
        self.open = True

    def __iter__(self) -> Iterator[JoinableAnswer]:
        """All that can be joined."""
        return chain.from_iterable(tuple(self._by_place.values()))

    def find(self, place: Place, mark: Mark, config: Config) -> JoinableAnswer | None:
        """The answer that a request is to join. One that began under another configuration is not the same."""
        same = self._by_place.get(place)
        if same is None:
            return None
        fitting = [each for each in reversed(same) if each.config is config]
        for each in fitting:
            if not (each.attended or each.joined or each.received):
                return each
        if mark is Mark.FIRST:
            return None
        for each in fitting:
            if not each.ended and (mark is Mark.NONE or not each.is_separate):
                return each
        if mark is Mark.RETRY or place.idempotency_key:
            return next((each for each in fitting if each.ended and not each.is_separate), None)
        return None

    def begin(
        self,
        place: Place,
        mark: Mark,
        config: Config,
        about: RequestRecord,
        task: asyncio.Future[Any],
        connection: Leaving | None,
        may_go_on: Callable[[int], bool],
    ) -> JoinableAnswer:
        """Begin an answer to a request that joins none; a received one of its place is done with."""
        marks = mark is not Mark.NONE or place.idempotency_key != ""
        answer = JoinableAnswer(self, place, config, about, task, connection, may_go_on, may_be_retried=marks)
        same = self._by_place.get(place)
        if same is None:
            self._by_place[place] = [answer]
            return answer
        for each in tuple(same):
            if each.ended and each.received:
                self.give_up(each)
            elif not each.ended:
                each.is_separate = answer.is_separate = True
        self._by_place.setdefault(place, []).append(answer)
        return answer

    def holds(self, answer: JoinableAnswer) -> bool:
        """Whether it can still be found."""
        return answer in self._by_place.get(answer.place, ())

    def forget(self, answer: JoinableAnswer) -> None:
        """Let nobody join it from now on."""
        same = self._by_place.get(answer.place)
        if same is not None and answer in same:
            same.remove(answer)
            if not same:
                del self._by_place[answer.place]

    def settle(self, answer: JoinableAnswer) -> None:
        """A caller of an answer that has ended is gone: keep the answer for a while, or no longer."""
        if answer.joined:
            return
        if (answer.may_be_retried or not answer.received) and self.open and self.holds(answer):
            self.attend(answer)
            self._ended[answer] = None
            self._timers.set(answer, self._clock() + GRACE_SECONDS)
        else:
            self.give_up(answer)

    def add_unattended(self, answer: JoinableAnswer) -> None:
        """Let an answer that nobody waits for go on for a while."""
        key_id = answer.place.key_id
        if self._unattended_of[key_id] >= MOST_UNATTENDED_OF_KEY:
            self.give_up(next(each for each in self._unattended if each.place.key_id == key_id))
        elif len(self._unattended) >= MOST_UNATTENDED:
            self.give_up(next(iter(self._unattended)))
        self._unattended[answer] = None
        self._unattended_of[key_id] += 1
        self._timers.set(answer, self._clock() + GRACE_SECONDS)

    def attend(self, answer: JoinableAnswer) -> None:
        """It is no longer one without a caller, or is about to be kept anew."""
        if answer not in self._ended and answer not in self._unattended:  # as nearly all are
            return
        self._timers.cancel(answer)
        self._ended.pop(answer, None)
        if answer in self._unattended:
            del self._unattended[answer]
            self._unattended_of[answer.place.key_id] -= 1
            if not self._unattended_of[answer.place.key_id]:
                del self._unattended_of[answer.place.key_id]

    def give_up(self, answer: JoinableAnswer) -> None:
        """Keep an answer without a caller no longer; end what is still being made."""
        self.attend(answer)
        self.forget(answer)
        if not answer.joined:
            answer.drop()
        if not answer.ended:
            answer.stop()

    def has_room(self) -> bool:
        """Give up answers that have ended until the bytes of all are within their bound; say whether they are."""
        while self.kept > MOST_BYTES_OF_ALL and self._ended:
            self.give_up(next(iter(self._ended)))
        return self.kept <= MOST_BYTES_OF_ALL

    def own(self, task: asyncio.Future[Any]) -> None:
        """A task goes on whose caller's connection is gone: nobody else owns it."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Give up all that nobody waits for, and let nothing go on without its caller from now on."""
        self.open = False
        for each in (*self._unattended, *self._ended):
            self.give_up(each)

    async def aclose(self) -> None:
        """End all that goes on without its caller, and wait for that."""
        self.close()
        tasks = tuple(self._tasks)
        for each in tasks:
            each.cancel()
        if tasks:
            await asyncio.wait(tasks)
