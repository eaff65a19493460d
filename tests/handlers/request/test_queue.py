"""docs/behaviour.md, "Waiting": with `limits.queue_seconds`, requests wait for a slot, and the keys take turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from caller import calling
from dashboard import Dashboard
from polling import until
from running import Overrides, RunningBridge, api_key, running_bridge
from several_bridges import several_bridges

from bridge.access import keys
from bridge.access.keys import KeyRing
from bridge.tasks import TaskOwner
from handlers.request.appkeys import ACTIVITY, CALL_QUEUE, COOLDOWN_WAIT, DRAIN
from upstream.arena import Arena, Line, Step, Turn, Until

STOP = Line("ad", {"finishReason": "stop"})
#: Longer than any test takes.
LONG = {"limits": {"queue_seconds": 600}}

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


class Held:
    """A model whose answers pause until the test releases them; `next` returns them in order of arrival."""

    def __init__(self, arena: Arena) -> None:
        self.asked: asyncio.Queue[tuple[str, asyncio.Event]] = asyncio.Queue()
        arena.script = self

    def __call__(self, turn: Turn) -> Iterator[Step]:
        release = asyncio.Event()
        self.asked.put_nowait((turn.prompt, release))
        yield Line("a0", "hel")
        yield Until(release)
        yield Line("a0", "lo")
        yield STOP

    async def next(self) -> tuple[str, asyncio.Event]:
        """Return the next prompt that reaches the site, and the event that releases its answer."""
        async with asyncio.timeout(30):
            return await self.asked.get()


@pytest.fixture
def model(arena: Arena) -> Held:
    return Held(arena)


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge whose key may have one running request, while others wait."""
    async with running_bridge(arena, tmp_path / "state", LONG, key_options={"concurrency": 1}) as bridge:
        yield bridge


async def wait_in(bridge: RunningBridge, number: int) -> None:
    """Wait until the queue has this many requests."""
    await until(lambda: len(bridge.app[CALL_QUEUE]) == number, within=30)


async def ask(bridge: RunningBridge, prompt: str, *, stream: bool = False, **options: Any) -> tuple[int, str]:
    answer = await bridge.post(bridge.chat(prompt, stream=stream), **options)
    return answer.status, await answer.text()


@streamed_and_not
async def test_requests_wait_for_their_key_in_order_of_arrival(
    stream: bool, bridge: RunningBridge, model: Held
) -> None:
    async with asyncio.TaskGroup() as group:
        asked = []
        for number in range(3):
            asked.append(group.create_task(ask(bridge, f"question {number}", stream=stream)))
            await wait_in(bridge, number)
        for number in range(3):
            prompt, release = await model.next()
            assert (prompt, len(bridge.app[CALL_QUEUE])) == (f"question {number}", 2 - number)
            release.set()
    answers = [task.result() for task in asked]
    assert [status for status, _ in answers] == [200] * 3
    assert all("lo" in text for _, text in answers)
    assert bridge.calls_held == 0


async def test_the_daemons_slots_go_to_the_keys_in_turn(arena: Arena, model: Held, tmp_path: Path) -> None:
    limits = {"limits": {"queue_seconds": 600, "streams": 1}}
    async with running_bridge(arena, tmp_path / "state", limits) as bridge:
        secret, other = api_key()
        bridge.state.keys = KeyRing(keys.add(bridge.state.keys, other))
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(ask(bridge, f"busy {number}"))
                await wait_in(bridge, number)
            group.create_task(ask(bridge, "single", headers={"Authorization": f"Bearer {secret}"}))
            await wait_in(bridge, 4)
            served = []
            for _ in range(5):
                prompt, release = await model.next()
                served.append(prompt)
                release.set()
    assert served == ["busy 0", "busy 1", "single", "busy 2", "busy 3"]


async def test_a_waiting_stream_gets_keepalives_and_then_its_answer(
    arena: Arena, model: Held, tmp_path: Path, tasks: TaskOwner
) -> None:
    settings: Overrides = {**LONG, "stream": {"keepalive_seconds": 0.1}}
    async with running_bridge(arena, tmp_path / "state", settings, key_options={"concurrency": 1}) as bridge:
        first = tasks.spawn(ask(bridge, "first"), name="first")
        _, release = await model.next()
        async with await bridge.post(bridge.chat("second", stream=True)) as answer:
            assert (await answer.content.readuntil(b"\n\n"), len(bridge.app[CALL_QUEUE])) == (b": keep-alive\n\n", 1)
            release.set()
            (await model.next())[1].set()
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        assert (await first)[0] == 200


async def test_a_waiting_caller_that_disconnects_frees_its_place(bridge: RunningBridge, model: Held) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(bridge, "first"))
        _, release = await model.next()
        async with calling(bridge.origin, bridge.key) as caller:
            await caller.ask(bridge.chat("who leaves", stream=True))
            await wait_in(bridge, 1)
            group.create_task(ask(bridge, "third"))
            await wait_in(bridge, 2)
            caller.vanish()
            await wait_in(bridge, 1)
        release.set()
        prompt, release = await model.next()
        release.set()
        assert prompt == "third"
    assert len(bridge.arena.chats) == 2


@streamed_and_not
async def test_a_request_that_waited_for_queue_seconds_is_refused_with_429(
    stream: bool, arena: Arena, model: Held, tmp_path: Path, tasks: TaskOwner
) -> None:
    async with running_bridge(
        arena, tmp_path / "state", {"limits": {"queue_seconds": 0.05}}, key_options={"concurrency": 1}
    ) as bridge:
        first = tasks.spawn(ask(bridge, "first"), name="first")
        _, release = await model.next()
        answer = await bridge.post(bridge.chat("second", stream=stream))
        error = (await answer.json())["error"]
        assert (answer.status, error["code"], answer.headers["Retry-After"]) == (429, "rate_limit_exceeded", "1")
        assert "1 request at the same time" in error["message"]
        assert answer.headers["x-ratelimit-remaining-requests"] == "999999"  # the refused call takes no slot
        release.set()
        assert (await first)[0] == 200
        assert bridge.calls_held == 0


async def test_a_drain_refuses_waiting_requests_at_once(bridge: RunningBridge, model: Held, tasks: TaskOwner) -> None:
    first = tasks.spawn(ask(bridge, "first"), name="first")
    _, release = await model.next()
    waiting = tasks.spawn(bridge.post(bridge.chat("second")), name="second")
    await wait_in(bridge, 1)
    bridge.app[DRAIN].begin()
    answer = await waiting
    assert (answer.status, answer.headers["Connection"]) == (503, "close")
    release.set()
    assert (await first)[0] == 200


async def test_activity_shows_the_place_of_a_waiting_request_and_can_end_it(
    bridge: RunningBridge, model: Held, tasks: TaskOwner
) -> None:
    dashboard = Dashboard(bridge)
    await dashboard.enter()
    first = tasks.spawn(ask(bridge, "first"), name="first")
    _, release = await model.next()
    waiting = []
    for number in range(2):
        waiting.append(tasks.spawn(ask(bridge, f"later {number}"), name="later"))
        await wait_in(bridge, number + 1)
    page = (await dashboard.live("/dashboard/activity")).markup
    assert page.says("waiting, place 1")
    assert page.says("waiting, place 2")
    newest = next(iter(bridge.app[ACTIVITY].running_newest()))
    await until(lambda: newest.lifetime is not None)
    await dashboard.post("/dashboard/activity", {"number": f"{newest.number}"})
    assert "ended_by_owner" in (await waiting[1])[1]
    release.set()
    (await model.next())[1].set()
    assert [(await first)[0], (await waiting[0])[0]] == [200, 200]


async def test_a_request_for_several_answers_waits_once(bridge: RunningBridge, model: Held) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(bridge, "first"))
        _, release = await model.next()
        asked = group.create_task(bridge.post(bridge.chat("twice", n=2)))
        await wait_in(bridge, 1)
        release.set()
        for _ in range(2):
            prompt, release = await model.next()
            assert prompt == "twice"
            release.set()
    assert [choice["message"]["content"] for choice in (await asked.result().json())["choices"]] == ["hello"] * 2


@streamed_and_not
async def test_requests_wait_while_all_accounts_are_on_cooldown(stream: bool, arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", LONG) as bridge:
        for seconds in ("1", "0"):  # with 0, the bridge tries again after a second
            arena.faults.arm("rate_limited", retry_after=seconds)
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(ask(bridge, f"/say answer {number}", stream=stream)) for number in range(3)]
            assert [task.result()[0] for task in asked] == [200] * 3
        assert sum(call.refusal is not None for call in arena.calls) == 2
        assert (len(bridge.app[COOLDOWN_WAIT].queue), bridge.calls_held) == (0, 0)


async def test_a_cooldown_longer_than_queue_seconds_is_reported_at_once(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", {"limits": {"queue_seconds": 20}}) as bridge:
        arena.faults.arm("rate_limited", retry_after="30")
        for _ in range(2):
            answer = await bridge.post(bridge.chat("/say hello"))
            assert (answer.status, (await answer.json())["error"]["code"]) == (429, "upstream_rate_limited")
            assert answer.headers["Retry-After"] == "30"


async def test_a_request_waiting_for_an_account_is_shown_in_activity_and_may_leave(
    arena: Arena, tmp_path: Path
) -> None:
    async with running_bridge(arena, tmp_path / "state", LONG) as bridge:
        dashboard = Dashboard(bridge)
        await dashboard.enter()
        arena.faults.arm("rate_limited", retry_after="300")
        async with calling(bridge.origin, bridge.key) as caller:
            await caller.ask(bridge.chat("hi", stream=True))
            await until(lambda: len(bridge.app[COOLDOWN_WAIT].queue) == 1)
            assert (await dashboard.live("/dashboard/activity")).markup.says("waiting, place 1")
            caller.vanish()
            await until(lambda: not len(bridge.app[COOLDOWN_WAIT].queue))
        await until(lambda: bridge.calls_held == 0)


async def test_a_request_waits_for_a_slot_that_another_process_holds(
    arena: Arena, model: Held, tmp_path: Path, tasks: TaskOwner
) -> None:
    async with several_bridges(arena, tmp_path, 2, LONG, key_options={"concurrency": 1}) as several:
        first = tasks.spawn(ask(several[0], "first"), name="first")
        _, release = await model.next()
        second = tasks.spawn(ask(several[1], "second"), name="second")
        await wait_in(several[1], 1)
        release.set()
        prompt, release = await model.next()
        assert prompt == "second"
        release.set()
        assert [(await first)[0], (await second)[0]] == [200, 200]


async def test_a_body_that_arrives_slowly_delays_no_other_key(
    arena: Arena, model: Held, tmp_path: Path, tasks: TaskOwner
) -> None:
    limits = {"limits": {"queue_seconds": 600, "streams": 2}}
    async with several_bridges(arena, tmp_path, 1, limits) as several:
        bridge = several[0]
        secret, other = api_key()
        bridge.state.keys = KeyRing(keys.add(bridge.state.keys, other))
        running = [tasks.spawn(ask(bridge, f"running {number}"), name="call") for number in range(2)]
        releases = [(await model.next())[1] for _ in running]
        async with calling(bridge.origin, bridge.key) as slow:
            await slow.send_head(1000)
            await wait_in(bridge, 1)
            quick = tasks.spawn(ask(bridge, "quick", headers={"Authorization": f"Bearer {secret}"}), name="quick")
            await wait_in(bridge, 2)
            for release in releases:
                release.set()
            async with asyncio.timeout(15):
                prompt, release = await model.next()
            assert prompt == "quick"
            release.set()
            assert (await quick)[0] == 200
        await until(lambda: not bridge.calls_held)
