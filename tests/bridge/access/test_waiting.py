"""docs/behaviour.md, "Limits": waiting calls are served by key in turn, those of a key by arrival, and none starves.

The queue is simulated on a manual clock: callers arrive, calls end when their time is over, and callers leave.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

import pytest
from examples import a_share
from hypothesis import given, settings
from hypothesis import strategies as st
from manual_clock import Clock

from bridge.access.limits import Limiter, LimitExceeded
from bridge.access.round_robin import RoundRobin
from bridge.access.waiting import Call, CallQueue, Phase

FOREVER = 1e9
#: More requests a minute than any test makes.
RPM = 1_000_000
#: More concurrent calls of a key than any test makes.
MANY = 1_000


class Arrival(NamedTuple):
    """A caller: the seconds since the previous arrival, its key, and the seconds that its call takes.

    `patience` is the number of seconds that it waits before it leaves.
    """

    after: float
    key: str
    seconds: float
    patience: float = FOREVER


class Played:
    """Simulates arrivals to the end, and checks the invariants after each event."""

    def __init__(self, *, concurrency: int, streams: int, max_waiting: int = 100_000) -> None:
        self.clock = Clock()
        self.limiter = Limiter(self.clock)
        self.queue = CallQueue(self.limiter, self.clock, max_waiting=max_waiting)
        self.served: list[Call] = []
        self.left: list[Call] = []
        self._concurrency = concurrency
        self._streams = streams
        self._events: list[tuple[float, int, Call]] = []  # a call's end, or the time at which a caller leaves
        self._seconds: dict[Call, float] = {}
        self._waiting: dict[str, OrderedDict[Call, None]] = {}  # by key, in order of arrival
        self._passed: dict[str, set[str]] = {}  # by eligible waiting key: the keys served since its own last turn

    def play(self, arrivals: Sequence[Arrival]) -> None:
        for each in arrivals:
            self.until(self.clock.now + each.after)
            self.arrive(each)
        self.until(FOREVER * 2)

    def arrive(self, arrival: Arrival) -> Call:
        call = self.enter(arrival.key)
        self._seconds[call] = arrival.seconds
        if call.phase is Phase.SERVED:
            assert not self._may_be_served(), "it has overtaken one that waits"
            self._begin(call)
        else:
            call.on_change = lambda: self._begin(call)
            self._waiting.setdefault(call.key_id, OrderedDict())[call] = None
            if arrival.patience < FOREVER:
                heappush(self._events, (self.clock.now + arrival.patience, id(call), call))
        self._check()
        return call

    def enter(self, key: str, seconds: float = FOREVER) -> Call:
        limits = {"rpm": RPM, "concurrency": self._concurrency, "streams": self._streams}
        return self.queue.enter(key, **limits, seconds=seconds)

    def until(self, time: float) -> None:
        while self._events and self._events[0][0] <= time:
            self.clock.now, _, call = heappop(self._events)
            if call.phase is Phase.WAITING:
                del self._waiting[call.key_id][call]
                if not self._waiting[call.key_id]:
                    self._passed.pop(call.key_id, None)
                self.left.append(call)
            elif call.slot is None or self.clock.now < call.served_at + self._seconds[call]:
                continue
            self.queue.leave(call)
            self._check()
        self.clock.now = max(self.clock.now, min(time, FOREVER))

    def _begin(self, call: Call) -> None:
        row = self._waiting.get(call.key_id, OrderedDict())
        if call in row:
            assert next(iter(row)) is call, "of one key, the first that came is served first"
            row.popitem(last=False)
        self.served.append(call)
        heappush(self._events, (self.clock.now + self._seconds[call], id(call), call))
        self._passed.pop(call.key_id, None)
        for key, waits in self._waiting.items():
            if key != call.key_id and waits and self.limiter.running_of(key) < self._concurrency:
                passed = self._passed.setdefault(key, set())
                assert call.key_id not in passed, "it was served twice before one that waits, and could be served"
                passed.add(call.key_id)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _may_be_served(self) -> list[str]:
        """The keys that have a waiting call which could be served now."""
        if (limiter := self.limiter).running >= self._streams:
            return []
        return [key for key, row in self._waiting.items() if row and limiter.running_of(key) < self._concurrency]

    def _check(self) -> None:
        assert self.limiter.running <= self._streams
        assert all(self.limiter.running_of(key) <= self._concurrency for key in self.limiter.running_keys)
        assert not self._may_be_served(), "a place is free, and one waits for it"
        assert len(self.queue) == self.waiting


arrival = st.builds(
    Arrival,
    st.sampled_from([0.0, 0.0, 0.5, 3.0]),
    st.sampled_from("abcd"),
    st.sampled_from([0.0, 1.0, 5.0, 30.0]),
    st.sampled_from([FOREVER, FOREVER, 2.0]),
)


@a_share(of=4)
@given(st.lists(arrival, max_size=60), st.integers(1, 4), st.integers(1, 6))
def test_every_waiting_call_is_served_in_order_or_leaves(arrivals: list[Arrival], concurrency: int, more: int) -> None:
    check_played(arrivals, concurrency, concurrency + more)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 12))
def test_no_call_starves_among_10_000_random_arrivals(seed: int, concurrency: int, more: int) -> None:
    random = Random(seed)
    arrivals = [
        Arrival(
            random.expovariate(3.0),
            random.choice("aaaaaaaabcdefg"),
            random.expovariate(1.0),
            random.choice((FOREVER, FOREVER, FOREVER, 5.0)),
        )
        for _ in range(10_000)
    ]
    check_played(arrivals, concurrency, concurrency + more)


def check_played(arrivals: list[Arrival], concurrency: int, streams: int) -> None:
    played = Played(concurrency=concurrency, streams=streams)
    played.play(arrivals)
    assert len(played.served) + len(played.left) == len(arrivals)
    assert (played.waiting, played.limiter.running) == (0, 0)


@a_share(of=20)
@given(st.integers(0, 500), st.integers(0, 30), st.integers(1, 5))
def test_a_key_s_single_request_waits_for_at_most_one_request_of_a_busy_key(
    others: int, before: int, streams: int
) -> None:
    """However many requests of one key wait, another key's single request is served first or second."""
    played = Played(concurrency=MANY, streams=streams)
    for _ in range(streams + others):
        played.arrive(Arrival(0.0, "busy", 10.0))
    played.until(played.clock.now + before)
    call = played.arrive(Arrival(0.0, "single", 1.0))
    ahead = len(played.served)
    alone = call.phase is Phase.SERVED
    if not alone:
        assert played.queue.positions()[call] <= 2
    played.until(FOREVER * 2)
    assert played.served.index(call) <= (ahead if alone else ahead + 1)


def test_a_key_at_its_concurrency_limit_delays_no_other_key() -> None:
    played = Played(concurrency=1, streams=3)
    for _ in range(3):
        played.arrive(Arrival(0.0, "busy", 10.0))
    assert (len(played.served), list(played.queue.positions().values())) == (1, [1, 2])
    assert played.arrive(Arrival(0.0, "other", 1.0)).phase is Phase.SERVED


def test_a_call_that_cannot_be_served_in_time_is_refused_at_once_with_retry_after() -> None:
    played = Played(concurrency=2, streams=9)
    for _ in range(2):
        played.arrive(Arrival(0.0, "a", 10.0))
    assert [played.enter("a", 0.1).phase for _ in range(20)] == [Phase.WAITING] * 20, "how long calls take is not known"
    played = Played(concurrency=2, streams=9)
    for _ in range(4):
        played.arrive(Arrival(0.0, "a", 10.0))
    played.until(played.clock.now + 15)  # two have ended, two run for another 5 s
    waiting = [played.enter("a", 15.0) for _ in range(4)]
    with pytest.raises(LimitExceeded) as refused:
        played.enter("a", 15.0)  # four are ahead of it: a wait of at least 20 s
    assert (refused.value.kind, refused.value.limit, refused.value.retry_after) == ("concurrency", 2, 25.0)
    assert played.limiter.peek("a", RPM).remaining == RPM - 8, "a refused request uses up nothing"
    assert played.enter("b", 0.1).phase is Phase.SERVED
    played.queue.leave(waiting[0])
    assert played.enter("a", 15.0).phase is Phase.WAITING, "who has left has freed its place"


def test_a_call_refused_at_its_deadline_names_the_limit_and_uses_up_no_slot() -> None:
    played = Played(concurrency=1, streams=9)
    played.arrive(Arrival(0.0, "a", 10.0))
    call = played.enter("a", 5.0)
    refusal = played.queue.expire(call)
    assert (refusal.kind, refusal.limit, refusal.retry_after, refusal.admission.remaining) == (
        "concurrency",
        1,
        1.0,
        RPM - 1,
    )
    assert (call.phase, len(played.queue)) == (Phase.REFUSED, 0)
    played.queue.leave(call)
    assert played.limiter.running == 1


def test_a_request_over_the_rpm_is_refused_without_waiting() -> None:
    limiter = Limiter(Clock())
    queue = CallQueue(limiter, Clock())
    for _ in range(2):
        queue.enter("a", rpm=2, concurrency=1, streams=9, seconds=9)
    with pytest.raises(LimitExceeded):
        queue.enter("a", rpm=2, concurrency=1, streams=9, seconds=9)
    assert len(queue) == 1


def test_in_a_full_queue_the_newest_call_of_the_key_with_the_most_calls_is_refused() -> None:
    played = Played(concurrency=9, streams=3, max_waiting=3)
    for _ in range(3):
        played.arrive(Arrival(0.0, "a", 10.0))
    waiting = [played.enter("a"), played.enter("a"), played.enter("a")]
    told: list[Phase] = []
    waiting[-1].on_change = lambda: told.append(waiting[-1].phase)
    assert played.enter("b").phase is Phase.WAITING
    assert (told, len(played.queue)) == ([Phase.REFUSED], 3)
    for key in "ab":
        with pytest.raises(LimitExceeded) as refused:
            played.enter(key)
        assert (refused.value.kind, refused.value.limit) == ("streams", 3)


def test_a_call_refused_by_other_processes_is_retried_when_a_call_ends_or_after_a_pause() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    queue = CallQueue(limiter, clock, shared=True)
    first, other = (queue.enter(key, rpm=99, concurrency=3, streams=9, seconds=9) for key in "aa")
    queue.defer(first, "concurrency")
    queue.ready(first, lambda: None)
    second = queue.enter("a", rpm=99, concurrency=3, streams=9, seconds=9)
    queue.ready(second, lambda: None)
    assert (first.phase, second.phase, limiter.running) == (Phase.WAITING, Phase.WAITING, 1), "nobody overtakes"
    assert queue.enter("c", rpm=99, concurrency=3, streams=9, seconds=9).phase is Phase.SERVED
    queue.unblock()
    assert (first.phase, second.phase) == (Phase.SERVED, Phase.WAITING), "one at a time asks the others"
    queue.defer(first, "concurrency")
    queue.leave(other)
    assert (first.phase, second.phase) == (Phase.SERVED, Phase.WAITING)
    queue.confirm(first)
    assert second.phase is Phase.SERVED
    queue.defer(second, "streams")
    third = queue.enter("d", rpm=99, concurrency=3, streams=9, seconds=9)
    queue.ready(third, lambda: None)
    assert (third.phase, third.kind) == (Phase.WAITING, "streams")
    queue.leave(second)
    queue.unblock()
    assert third.phase is Phase.SERVED


def test_a_call_that_is_not_ready_to_ask_other_processes_delays_no_other_key() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    queue = CallQueue(limiter, clock, shared=True)

    def enter(key: str) -> Call:
        return queue.enter(key, rpm=RPM, concurrency=1, streams=2, seconds=60)

    running, slow, later, other = [enter("a"), enter("b")], enter("a"), enter("a"), enter("c")
    queue.ready(other, lambda: None)
    queue.ready(later, lambda: None)
    for call in running:
        queue.leave(call)
    assert [call.phase for call in (slow, later, other)] == [Phase.WAITING, Phase.WAITING, Phase.SERVED]
    queue.confirm(other)
    queue.leave(slow)
    assert later.phase is Phase.SERVED


def test_round_robin_reports_how_many_requests_are_ahead_of_a_new_one() -> None:
    random = Random(27)
    requests: RoundRobin[int] = RoundRobin()
    for number in range(300):
        key = random.choice("aaabbc")
        ahead = requests.ahead_of_new(key)
        requests.add(key, number)
        assert list(requests).index(number) == ahead
        if random.random() < 0.4:
            first = next(iter(requests))
            assert requests.take(lambda _: True) == first
    assert Counter(map(requests.waiting_of, "abc")).total() == 3
    left = list(requests)
    assert [requests.take(lambda _: True) for _ in left] == left
    assert requests.take(lambda _: True) is None


def test_a_raised_concurrency_limit_applies_to_calls_that_already_wait() -> None:
    clock = Clock()
    queue = CallQueue(Limiter(clock), clock)

    def enter(concurrency: int) -> Call:
        return queue.enter("a", rpm=RPM, concurrency=concurrency, streams=MANY, seconds=60)

    first, second, third = enter(1), enter(1), enter(1)
    assert [call.phase for call in (first, second, third)] == [Phase.SERVED, Phase.WAITING, Phase.WAITING]
    newest = enter(3)
    assert [call.phase for call in (second, third, newest)] == [Phase.SERVED, Phase.SERVED, Phase.WAITING]
