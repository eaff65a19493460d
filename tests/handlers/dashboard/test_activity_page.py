"""Activity: what runs, what ran last, never what was said; and ending a stream that should not go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

from caller import calling
from dashboard import Dashboard
from frames import frames
from running import RunningBridge, running_bridge

from handlers.dashboard.activity import MAX_ROWS
from handlers.request.activity import MAX_RECENT, MAX_WITHOUT_KEY
from handlers.request.appkeys import ACTIVITY, STATS
from upstream.arena import Arena, Line, Step, Turn, Until


def begins(_: Turn) -> Iterator[Step]:
    """An answer that begins, and goes on only when its caller leaves."""
    yield Line("a0", "once")
    yield Until(asyncio.Event())


async def test_a_request_is_seen_while_it_runs_and_when_it_has_ended(arena: Arena, dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    arena.script = begins
    async with calling(bridge.origin, bridge.key) as caller:
        await caller.ask(bridge.chat("hi", stream=True))
        await caller.sees(b"once")
        for page in (await dashboard.get("/dashboard/activity"), await dashboard.live("/dashboard/activity")):
            assert page.markup.says("1 running")
            assert page.markup.says(bridge.model())
            assert page.markup.says("ada@example.org")
        caller.vanish()
        async with asyncio.timeout(5):
            while not (await dashboard.live("/dashboard/activity")).markup.says("0 running"):
                pass
    assert (await dashboard.live("/dashboard/activity")).markup.says("client gone")


async def test_the_operator_ends_a_stream_and_its_caller_gets_an_error(arena: Arena, dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    arena.script = begins
    async with await bridge.post(bridge.chat("hi", stream=True)) as answer:
        first = await answer.content.readuntil(b"once")
        (running,) = bridge.app[ACTIVITY].newest()
        page = await dashboard.post("/dashboard/activity/end", {"number": f"{running.number}"})
        assert page.location == "/dashboard/activity"
        last = [*frames(first.rpartition(b"data: ")[1] + first.rpartition(b"data: ")[2] + await answer.read())][-1]
    assert json.loads(last)["error"]["code"] == "ended_by_owner"
    await asyncio.wait_for(arena.chats[-1].closed.wait(), 1)
    assert bridge.calls_held == 0
    assert (await dashboard.live("/dashboard/activity")).markup.says("ended_by_owner")


async def test_a_request_that_does_not_run_cannot_be_ended(dashboard: Dashboard) -> None:
    await dashboard.bridge.post(dashboard.bridge.chat("hi"))
    (record,) = dashboard.bridge.app[ACTIVITY].newest()
    for number in (f"{record.number}", "0", "12345", "x"):
        assert (await dashboard.post("/dashboard/activity/end", {"number": number})).status == 303
    assert record.status == 200


async def test_refused_requests_are_seen_with_their_reason(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    await bridge.post(bridge.chat("hi", model="nobody"), headers={"User-Agent": "curl/8.14"})
    await bridge.post(bridge.chat("hi"), headers={"Authorization": "Bearer nonsense"})
    markup = (await dashboard.get("/dashboard/activity")).markup
    for text in ("The model 'nobody' does not exist.", "model_not_found", "404", "curl/8.14", "invalid_api_key", "401"):
        assert markup.says(text), text
    assert "nonsense" not in markup.text


async def test_prompts_are_seen_with_log_debug_only(arena: Arena, tmp_path: Path) -> None:
    for debug in (False, True):
        async with running_bridge(arena, tmp_path / f"{debug}", {"log": {"debug": debug}}) as bridge:
            dashboard = Dashboard(bridge)
            await dashboard.enter()
            await bridge.post(bridge.chat("a secret of mine", stream=True))
            await bridge.post(bridge.chat("a secret of mine", model="nobody"))
            for page in (await dashboard.get("/dashboard/activity"), await dashboard.live("/dashboard/activity")):
                assert page.markup.says("a secret of mine") == debug
            assert (await dashboard.get("/dashboard/activity")).markup.says("Prompts are not kept") != debug


async def test_the_newest_stand_first_and_not_all_are_kept(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    for n in range(MAX_RECENT + 5):
        await bridge.post(bridge.chat("hi", model=f"nobody-{n:03}", logprobs=True))
    for _ in range(MAX_WITHOUT_KEY + 5):
        await bridge.post(bridge.chat("hi"), headers={"Authorization": "Bearer x"})
    await bridge.post(bridge.chat("hi", model="the-last"))
    known = list(bridge.app[ACTIVITY].newest())
    numbers = [record.number for record in known]
    assert sum(record.key is None for record in known) == MAX_WITHOUT_KEY  # who push out nobody else's
    assert len(known) == MAX_RECENT + MAX_WITHOUT_KEY
    assert numbers == sorted(numbers, reverse=True)
    page = await dashboard.get("/dashboard/activity")
    assert sum(tag == "tr" for tag, _ in page.markup.elements) == MAX_ROWS + 1
    assert page.text.index("the-last") < page.text.index("invalid_api_key") < page.text.index("unsupported_parameter")


async def test_looking_is_no_activity(bridge: RunningBridge, dashboard: Dashboard) -> None:
    await dashboard.live("/dashboard/activity")
    await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)
    assert not list(bridge.app[ACTIVITY].newest())


async def test_the_api_of_a_request_is_shown_here_and_in_the_overview(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    body = {"model": bridge.model(), "input": "hi"}
    async with bridge.http.post(f"{bridge.origin}/v1/responses", json=body, headers=bridge.headers) as answer:
        assert answer.status == 200
    await dashboard.get("/dashboard/keys")
    told = {"Content-Type": "application/json", "X-CSRF-Token": dashboard.csrf}
    await dashboard.ask("POST", "/dashboard/playground/chat", "{}", told)
    rows = [*bridge.app[ACTIVITY].newest()]
    assert [row.api for row in rows] == ["chat", "responses"]
    assert (await dashboard.live("/dashboard/activity")).markup.says("responses · ")
    await bridge.app[STATS].flush()
    overview = (await dashboard.live("/dashboard")).markup
    assert overview.says("Which API they used")
    assert overview.says("responses")
