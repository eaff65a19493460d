"""The cap on large bodies: no request overtakes another, no memory is lost, and a caller that leaves makes room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ApiError, error_headers
from bridge.tasks import TaskOwner
from handlers.request.budget import UNCOUNTED_BYTES, ByteBudget, Hold

MB = UNCOUNTED_BYTES + 1  # the smallest size that counts
TURNS = 5  # of the loop, after which no task can get any further


class Crowd:
    """Named requests for multiples of MB from one budget; `holds` has those that have been admitted."""

    def __init__(self, tasks: TaskOwner, total: int) -> None:
        self.budget = ByteBudget(total * MB)
        self.holds: dict[str, Hold] = {}
        self.order: list[str] = []
        self.failed: dict[str, ApiError] = {}
        self._tasks = tasks
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._leave: dict[str, asyncio.Event] = {}

    async def ask(self, name: str, size: int, *, timeout: float = 60) -> None:
        self._leave[name] = asyncio.Event()
        self._asking[name] = self._tasks.spawn(self._hold(name, size, timeout), name=name)
        await turns()

    async def leave(self, *names: str) -> None:
        for name in names:
            self._leave[name].set()
        await turns()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self._asking[name].cancel()
        await turns()

    async def ended(self, name: str) -> None:
        await asyncio.wait([self._asking[name]], timeout=5)

    async def is_whole(self) -> None:
        """Let all requests leave, and check that a single one can then hold the whole budget."""
        await self.leave(*self._leave)
        await asyncio.wait_for(asyncio.gather(*self._asking.values(), return_exceptions=True), 5)
        assert not self.holds
        await self.ask("all", 1 << 20)
        assert list(self.holds) == ["all"]
        await self.ask("one more", 1)
        assert list(self.holds) == ["all"]
        await self.leave("all", "one more")

    async def _hold(self, name: str, size: int, timeout: float) -> None:
        try:
            async with self.budget.hold(name, size * MB, timeout=timeout) as hold:
                self.holds[name] = hold
                self.order.append(name)
                try:
                    await self._leave[name].wait()
                finally:
                    del self.holds[name]
        except ApiError as error:
            self.failed[name] = error


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@asynccontextmanager
async def crowd(total: int) -> AsyncIterator[Crowd]:
    async with TaskOwner() as tasks:
        yield Crowd(tasks, total)


async def test_requests_wait_in_order_when_the_budget_is_exhausted() -> None:
    async with crowd(4) as them:
        await them.ask("a", 3)
        await them.ask("b", 2)
        await them.ask("c", 1)  # would fit
        assert them.order == ["a"]
        await them.leave("a")
        assert them.order == ["a", "b", "c"]
        await them.is_whole()


async def test_small_bodies_never_wait() -> None:
    budget = ByteBudget(MB)
    async with (
        asyncio.timeout(10),
        budget.hold("a", MB, timeout=60),
        budget.hold("a", UNCOUNTED_BYTES, timeout=60),
    ):
        pass


async def test_a_reservation_above_the_total_gets_the_total() -> None:
    async with crowd(4) as them:
        await them.ask("a", 1)
        await them.ask("b", 100)
        assert list(them.holds) == ["a"]
        await them.leave("a")
        assert list(them.holds) == ["b"]
        await them.is_whole()


async def test_shrinking_a_reservation_twice_releases_its_bytes_once() -> None:
    async with crowd(2) as them:
        await them.ask("a", 1)
        await them.ask("b", 1)
        await them.ask("c", 2)
        them.holds["a"].shrink(0)
        them.holds["a"].shrink(0)
        await turns()
        assert list(them.holds) == ["a", "b"]
        await them.leave("a")
        assert list(them.holds) == ["b"]
        await them.leave("b")
        assert list(them.holds) == ["c"]
        await them.is_whole()


async def test_a_request_that_waited_too_long_gets_503() -> None:
    async with crowd(2) as them:
        await them.ask("a", 1)
        await them.ask("b", 2, timeout=0.01)
        await them.ask("c", 1)
        await them.ended("b")
        await turns()
        error = them.failed["b"]
        assert (error.status, error.code) == (503, "overloaded")
        assert error_headers(error)["Retry-After"] == "1"
        assert list(them.holds) == ["a", "c"]  # the next in the queue fits
        await them.is_whole()


async def test_a_request_that_leaves_the_queue_lets_the_next_ones_proceed() -> None:
    async with crowd(2) as them:
        await them.ask("a", 1)
        await them.ask("b", 2)
        await them.ask("c", 1)
        await them.cancel("b")
        assert list(them.holds) == ["a", "c"]
        await them.is_whole()


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_request_cancelled_just_as_bytes_are_released_lets_the_next_one_proceed(cancelled_first: bool) -> None:
    async with crowd(2) as them:
        await them.ask("a", 2)
        await them.ask("b", 2)
        await them.ask("c", 2)
        waiting = them._asking["b"]
        if cancelled_first:
            waiting.cancel()
        them.holds["a"].shrink(0)
        if not cancelled_first:
            waiting.cancel()
        await turns()
        assert list(them.holds) == ["a", "c"]
        await them.is_whole()


async def test_cancelling_a_request_releases_the_bytes_that_it_holds() -> None:
    async with crowd(2) as them:
        await them.ask("a", 2)
        await them.ask("b", 1)
        await them.cancel("a")
        assert list(them.holds) == ["b"]
        await them.is_whole()


class Shares:
    """Requests of several owners for multiples of MB; `inside` has the owners of those that have been admitted."""

    def __init__(self, tasks: TaskOwner, total: int) -> None:
        self.budget = ByteBudget(total * MB)
        self.inside: list[str] = []
        self._tasks = tasks

    async def ask(self, owner: str, *sizes: int) -> None:
        for size in sizes:
            self._tasks.spawn(self._hold(owner, size), name=owner)
        await turns()

    async def _hold(self, owner: str, size: int) -> None:
        async with self.budget.hold(owner, size * MB, timeout=60):
            self.inside.append(owner)
            try:
                await asyncio.Event().wait()
            finally:
                self.inside.remove(owner)


#: Sizes of the bodies that one key announces and never sends, in a budget of 16.
HOGS: dict[str, tuple[int, ...]] = {
    "eight of the largest": (2,) * 8,
    "many small ones": (1,) * 50,
    "a mixture": (4, 1, 3, 1, 2, 2, 1) * 3,
    "half of all at once": (8, 8, 8),
}


@pytest.mark.parametrize("sizes", HOGS.values(), ids=HOGS)
async def test_one_owner_cannot_use_up_the_budget_of_other_owners(sizes: tuple[int, ...]) -> None:
    async with TaskOwner() as tasks:
        them = Shares(tasks, 16)
        await them.ask("hog", *sizes)
        assert them.inside
        assert them.budget.free >= 8 * MB
        for owner in ("a", "b", "c"):
            await them.ask(owner, 2)
            assert owner in them.inside


async def test_two_owners_that_reserve_all_they_can_leave_bytes_for_a_third() -> None:
    async with TaskOwner() as tasks:
        them = Shares(tasks, 16)
        await them.ask("first", *[1] * 50)
        await them.ask("second", *[1] * 50)
        await them.ask("third", 1)
        assert (them.inside.count("first"), them.inside.count("second"), them.inside.count("third")) == (8, 4, 1)


async def test_a_request_that_holds_bytes_can_extend_its_reservation() -> None:
    """A request that already holds much may still reserve memory for what it fetches."""
    budget = ByteBudget(16 * MB)
    async with asyncio.timeout(10), budget.hold("a", 6 * MB, timeout=60) as hold:
        await hold.extend(10 * MB)
        assert hold.size == 16 * MB
    assert budget.free == 16 * MB


async def test_an_owner_waiting_at_its_share_proceeds_once_it_releases_bytes() -> None:
    budget = ByteBudget(4 * MB)
    async with TaskOwner() as tasks:
        async with budget.hold("a", 2 * MB, timeout=60):
            waiting = tasks.spawn(budget.take("a", MB, 60), name="a")
            await turns()
            assert not waiting.done()
            async with budget.hold("b", MB, timeout=60):  # overtakes
                pass
        assert await asyncio.wait_for(waiting, 10) == MB


_sizes = st.integers(1, 6)
_deeds = st.tuples(st.sampled_from(("leave", "release", "cancel")), st.integers(0, 20))


@a_share(of=5)
@given(st.lists(_sizes | _deeds, max_size=30))
def test_reservations_never_exceed_the_total_and_are_granted_in_order_of_arrival(
    deeds: list[int | tuple[str, int]],
) -> None:
    async def play() -> None:
        total = 5
        async with crowd(total) as them:
            sizes: dict[str, int] = {}
            released: set[str] = set()
            gone: set[str] = set()
            for deed in deeds:
                if isinstance(deed, int):
                    name = str(len(sizes))
                    sizes[name] = min(deed, total)
                    await them.ask(name, deed)
                elif (name := str(deed[1])) in sizes:
                    match deed[0]:
                        case "leave" if name in them.holds:
                            await them.leave(name)
                        case "cancel":
                            gone.add(name)
                            await them.cancel(name)
                        case "release" if name in them.holds:
                            released.add(name)
                            them.holds[name].shrink(0)
                            await turns()
                held = sum(sizes[name] for name in them.holds if name not in released)
                waiting = [name for name in sizes if name not in them.order and name not in gone]
                assert held <= total
                assert not waiting or held + sizes[waiting[0]] > total  # the first in line does not fit yet
                assert them.order == sorted(them.order, key=int)
            await them.is_whole()

    asyncio.run(play())
