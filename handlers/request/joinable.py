"""Answers that a repetition of their request may join: what has been sent of each, and who still waits for it.

| an answer         | its own caller      | joined | upstream            | who may join it                       |
|-------------------|---------------------|--------|---------------------|---------------------------------------|
| attended          | waits               | any    | goes on             | the same request, unless marked FIRST |
| followed          | has left            | some   | goes on             | the same request, unless marked FIRST |
| unattended        | has left            | none   | for 10 s, then ends | the same request                      |
| ended, unreceived | left before the end | none   | has ended           | the same request, for 10 s            |
| ended, received   | received the end    | any    | has ended           | a request marked RETRY, for 10 s       |

SDKs mark their requests. A first try gets an answer of its own even while an equal one runs, since that is how callers
draw samples; a retry means that the end of the first answer was not received. If equal first tries have run at the same
time, a retry could be of either, and joins only one whose caller has left. An answer that becomes too long cannot be
joined any more (`joinable_answer.py`).

No I/O; timers and clock are given. Not thread-safe: use it in the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol

from bridge.config.schema import Config
from handlers.request.joinable_answer import Disconnectable, JoinableAnswer
from handlers.request.record import RequestRecord

#: How much is kept of all answers together.
MAX_TOTAL_BYTES: Final = 32 * 1024**2
#: How long an answer is kept, or goes on, without a caller, in seconds.
GRACE_SECONDS: Final = 10.0
#: How many answers may go on without a caller, of one key and in total; beyond, the oldest is ended.
MAX_UNATTENDED_PER_KEY: Final = 100
MAX_UNATTENDED: Final = 500


class RetryMark(Enum):
    """What a request says of earlier tries. One with an idempotency key has NONE: the key identifies its retries."""

    NONE = "none"
    FIRST = "first"
    RETRY = "retry"


class RequestIdentity(NamedTuple):
    """What makes two requests the same; `body` is the body if that is short, else its digest."""

    dialect: str
    key_id: str
    idempotency_key: str
    body: bytes


class Timers(Protocol):
    """Timers by object (`upstream.loop.timers`)."""

    def set(self, timer: JoinableAnswer, at: float) -> None:
        """Call `timer.on_timer` at this time."""

    def cancel(self, timer: JoinableAnswer) -> None:
        """Cancel the timer, if it is set."""


class JoinableAnswers:
    """All answers that can be joined, by the identity of their requests. `clock` is that of `timers`."""

    def __init__(self, timers: Timers, clock: Callable[[], float]) -> None:
        self._timers = timers
        self._clock = clock
        self._by_identity: dict[RequestIdentity, list[JoinableAnswer]] = {}
        self._unattended: OrderedDict[JoinableAnswer, None] = OrderedDict()  # the oldest first
        self._unattended_of: Counter[str] = Counter()
        self._ended: OrderedDict[JoinableAnswer, None] = OrderedDict()  # kept without a caller, the oldest first
        self._tasks: set[asyncio.Future[Any]] = set()  # that go on after their connection was lost
        #: The bytes that are kept of all answers.
        self.kept_bytes = 0
        #: Whether an answer may go on without its caller: not once the daemon drains.
        self.is_open = True

    def __iter__(self) -> Iterator[JoinableAnswer]:
        """All answers that can be joined."""
        return chain.from_iterable(tuple(self._by_identity.values()))

    def find(self, identity: RequestIdentity, mark: RetryMark, config: Config) -> JoinableAnswer | None:
        """The answer that a request is to join, if any. It must have begun under the same configuration."""
        same = self._by_identity.get(identity)
        if same is None:
            return None
        candidates = [each for each in reversed(same) if each.config is config]
        for each in candidates:
            if not (each.attended or each.joined or each.received):
                return each
        if mark is RetryMark.FIRST:
            return None
        for each in candidates:
            if not each.ended and (mark is RetryMark.NONE or not each.is_ambiguous):
                return each
        if mark is RetryMark.RETRY or identity.idempotency_key:
            return next((each for each in candidates if each.ended and not each.is_ambiguous), None)
        return None

    def begin(
        self,
        identity: RequestIdentity,
        mark: RetryMark,
        config: Config,
        begun_by: RequestRecord,
        task: asyncio.Future[Any],
        connection: Disconnectable | None,
        may_go_on: Callable[[int], bool],
    ) -> JoinableAnswer:
        """Add the answer to a request that joins none. Received answers to the same request are dropped."""
        marked = mark is not RetryMark.NONE or identity.idempotency_key != ""
        answer = JoinableAnswer(self, identity, config, begun_by, task, connection, may_go_on, may_be_retried=marked)
        same = self._by_identity.get(identity)
        if same is None:
            self._by_identity[identity] = [answer]
            return answer
        for each in tuple(same):
            if each.ended and each.received:
                self.give_up(each)
            elif not each.ended:
                each.is_ambiguous = answer.is_ambiguous = True
        self._by_identity.setdefault(identity, []).append(answer)
        return answer

    def has_listed(self, answer: JoinableAnswer) -> bool:
        """Whether requests can still find the answer, and join it."""
        return answer in self._by_identity.get(answer.identity, ())

    def forget(self, answer: JoinableAnswer) -> None:
        """Let no request join it from now on."""
        same = self._by_identity.get(answer.identity)
        if same is not None and answer in same:
            same.remove(answer)
            if not same:
                del self._by_identity[answer.identity]

    def settle(self, answer: JoinableAnswer) -> None:
        """After a caller of an ended answer has gone: if it was the last, keep the answer for a retry, or drop it."""
        if answer.joined:
            return
        if (answer.may_be_retried or not answer.received) and self.is_open and self.has_listed(answer):
            self.cancel_expiry(answer)
            self._ended[answer] = None
            self._timers.set(answer, self._clock() + GRACE_SECONDS)
        else:
            self.give_up(answer)

    def add_unattended(self, answer: JoinableAnswer) -> None:
        """Let an answer that nobody waits for go on for GRACE_SECONDS."""
        key_id = answer.identity.key_id
        if self._unattended_of[key_id] >= MAX_UNATTENDED_PER_KEY:
            self.give_up(next(each for each in self._unattended if each.identity.key_id == key_id))
        elif len(self._unattended) >= MAX_UNATTENDED:
            self.give_up(next(iter(self._unattended)))
        self._unattended[answer] = None
        self._unattended_of[key_id] += 1
        self._timers.set(answer, self._clock() + GRACE_SECONDS)

    def cancel_expiry(self, answer: JoinableAnswer) -> None:
        """Cancel the timer of an answer without a caller; do nothing for others."""
        if answer not in self._ended and answer not in self._unattended:
            return
        self._timers.cancel(answer)
        self._ended.pop(answer, None)
        if answer in self._unattended:
            del self._unattended[answer]
            self._unattended_of[answer.identity.key_id] -= 1
            if not self._unattended_of[answer.identity.key_id]:
                del self._unattended_of[answer.identity.key_id]

    def give_up(self, answer: JoinableAnswer) -> None:
        """Drop an answer without a caller, and end it if it is still running."""
        self.cancel_expiry(answer)
        self.forget(answer)
        if not answer.joined:
            answer.drop_parts()
        if not answer.ended:
            answer.cancel()

    def has_room(self) -> bool:
        """Drop ended answers until the bytes of all are within their bound; return whether they are."""
        while self.kept_bytes > MAX_TOTAL_BYTES and self._ended:
            self.give_up(next(iter(self._ended)))
        return self.kept_bytes <= MAX_TOTAL_BYTES

    def own(self, task: asyncio.Future[Any]) -> None:
        """Own a task that goes on after its caller's connection is lost."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End and drop all answers without a caller, and let none go on without its caller from now on."""
        self.is_open = False
        for each in (*self._unattended, *self._ended):
            self.give_up(each)

    async def aclose(self) -> None:
        """End all answers that go on without their callers, and wait until they have ended."""
        self.close()
        tasks = tuple(self._tasks)
        for each in tasks:
            each.cancel()
        if tasks:
            await asyncio.wait(tasks)
