"""Calls with an account whose cookie is often replaced take turns; calls with other accounts do not wait."""

from __future__ import annotations

import asyncio

import pytest
from manual_clock import Clock

from bridge.accounts.rotations import CALM_SECONDS, Rotations
from bridge.tasks import TaskOwner


class Calls:
    """Sends calls with accounts, and counts the concurrent ones of each: the current number and the highest."""

    def __init__(self, rotations: Rotations) -> None:
        self.rotations = rotations
        self.sending: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.sent = 0

    async def send(self, user_id: str, max_wait: float = 60.0) -> None:
        async with self.rotations.turn(user_id, max_wait):
            self.sending[user_id] = self.sending.get(user_id, 0) + 1
            self.most[user_id] = max(self.most.get(user_id, 0), self.sending[user_id])
            for _ in range(3):
                await asyncio.sleep(0)
            self.sending[user_id] -= 1
            self.sent += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_calls_take_turns_only_for_an_account_whose_cookie_was_overtaken(clock: Clock) -> None:
    calls = Calls(Rotations(clock))
    calls.rotations.rotated("once")  # as happens to every account each hour
    calls.rotations.overtaken("often")
    await asyncio.gather(*(calls.send(user_id) for user_id in ("often", "once") for _ in range(20)))
    assert calls.most == {"often": 1, "once": 20}
    assert calls.sent == 40


@pytest.mark.parametrize(("quiet", "most"), [(CALM_SECONDS - 1, 1), (CALM_SECONDS + 1, 20)])
async def test_calls_of_an_overtaken_account_run_concurrently_again_after_a_calm_period(
    clock: Clock, quiet: float, most: int
) -> None:
    calls = Calls(Rotations(clock))
    calls.rotations.overtaken("ada")
    clock.now += CALM_SECONDS - 1
    calls.rotations.rotated("ada")
    clock.now += quiet
    await asyncio.gather(*(calls.send("ada") for _ in range(20)))
    assert calls.most == {"ada": most}


async def test_a_hanging_call_delays_other_calls_of_its_account_only_up_to_their_max_wait(clock: Clock) -> None:
    rotations = Rotations(clock)
    calls = Calls(rotations)
    rotations.overtaken("ada")
    async with TaskOwner() as tasks, rotations.turn("ada", 60.0):
        waiting = tasks.spawn(calls.send("ada", max_wait=0.01), name="waits")
        await asyncio.wait_for(waiting, 5)
    assert calls.sent == 1


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, TimeoutError])
async def test_a_failed_call_gives_its_turn_back(clock: Clock, error: type[BaseException]) -> None:
    rotations = Rotations(clock)
    calls = Calls(rotations)
    rotations.overtaken("ada")
    for _ in range(3):
        with pytest.raises(error):
            async with rotations.turn("ada", 60.0):
                raise error
    await asyncio.wait_for(calls.send("ada"), 5)


async def test_a_call_cancelled_while_waiting_takes_no_turn(clock: Clock) -> None:
    rotations = Rotations(clock)
    calls = Calls(rotations)
    rotations.overtaken("ada")
    async with TaskOwner() as tasks:
        async with rotations.turn("ada", 60.0):
            waiting = tasks.spawn(calls.send("ada"), name="waits")
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait((waiting,))
        await asyncio.wait_for(calls.send("ada"), 5)
    assert calls.sent == 1
