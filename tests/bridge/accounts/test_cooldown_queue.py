"""Waiting for resting accounts, simulated on a manual clock."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from manual_clock import Clock

from bridge.accounts.cooldown_queue import CooldownQueue, Phase, Waiter


class Site:
    """A cooldown queue on a manual clock, and a list of its waiters in the order in which they were woken."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.queue = CooldownQueue(self.clock)
        self.gone: list[Waiter] = []

    def wait(self, key: str) -> Waiter:
        waiter = self.queue.enter("chat", key)
        waiter.on_turn = lambda: self.gone.append(waiter)
        return waiter

    def trying(self) -> list[Waiter]:
        return [each for each in dict.fromkeys(self.gone) if each.phase is Phase.TRYING]


def test_after_a_cooldown_one_request_tries_and_each_answer_admits_one_more() -> None:
    site = Site()
    queue = site.queue
    queue.cool_down("chat", 10)
    waiters = [site.wait(key) for key in "aaaabc"]
    site.clock.now += 9.9
    queue.serve("chat")
    assert not site.gone
    site.clock.now += 0.1
    queue.serve("chat")
    assert site.gone == [waiters[0]]
    queue.leave(waiters[0], answered=True)
    assert site.gone == [waiters[0], waiters[4], waiters[5]], "keys take turns"
    queue.rate_limited(waiters[4], 5)
    queue.leave(waiters[5], answered=True)
    assert (len(site.gone), queue.seconds_left("chat")) == (3, 5)
    assert queue.positions()[waiters[4]] == 1, "who was refused is the next again"
    site.clock.now += 5
    queue.serve("chat")
    assert site.trying() == [waiters[4]]


def test_a_cooldown_of_zero_seconds_still_delays_the_next_try() -> None:
    site = Site()
    waiter = site.wait("a")
    site.queue.serve("chat")
    site.queue.rate_limited(waiter, 0)
    site.queue.serve("chat")
    assert (waiter.phase, site.queue.seconds_left("chat")) == (Phase.WAITING, 1)
    site.queue.end_cooldown("chat")  # another account has become usable
    assert waiter.phase is Phase.TRYING


def test_requests_of_different_modalities_wait_in_separate_queues() -> None:
    site = Site()
    site.queue.cool_down("image", 60)
    site.queue.enter("image", "a")
    chat = site.wait("a")
    site.queue.serve("chat")
    assert (chat.phase, site.queue.has_waiting("chat"), site.queue.has_waiting("image")) == (
        Phase.TRYING,
        False,
        True,
    )


class Event(NamedTuple):
    """The next event: a caller arrives, time passes, or one that tries or waits ends."""

    kind: str
    key: str
    which: int


events = st.builds(
    Event,
    st.sampled_from(["comes", "comes", "answered", "failed", "limited", "leaves", "time"]),
    st.sampled_from("abc"),
    st.integers(0, 9),
)


@a_share(of=4)
@given(st.lists(events, max_size=80))
def test_no_request_tries_during_a_cooldown_and_every_waiting_request_gets_its_turn(happens: list[Event]) -> None:
    site = Site()
    queue, all_of_them = site.queue, list[Waiter]()
    answers, until = 0, site.clock.now
    for kind, key, which in happens:
        before = len(site.gone)
        trying = site.trying()
        if kind == "comes":
            all_of_them.append(site.wait(key))
            queue.serve("chat")
        elif kind == "time":
            site.clock.now += which
            queue.serve("chat")
        elif kind == "leaves":
            waiting = [each for each in all_of_them if each.phase is Phase.WAITING]
            if waiting:
                queue.leave(waiting[which % len(waiting)])
        elif trying and kind == "limited":
            queue.rate_limited(trying[which % len(trying)], which)
            until, answers = site.clock.now + max(1, which), 0
        elif trying:
            answers += kind == "answered" and site.clock.now >= until
            queue.leave(trying[which % len(trying)], answered=kind == "answered")
        assert len(site.gone) == before or site.clock.now >= until
        assert len(site.trying()) <= max(1 + answers, len(trying))
        assert len(queue) == sum(each.phase is Phase.WAITING for each in all_of_them)
    site.clock.now = until + 100
    queue.serve("chat")
    while trying := site.trying():
        queue.leave(trying[0], answered=True)
    assert Counter(each.phase for each in all_of_them) == Counter({Phase.OVER: len(all_of_them)})
