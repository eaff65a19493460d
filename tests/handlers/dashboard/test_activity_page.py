"""Activity: running and recent requests, without their texts; and ending a stream that should not continue."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from caller import calling
from dashboard import Dashboard, Page
from ended import ended, write
from frames import frames
from kept_requests import kept
from leaving import nobody_returns
from running import RunningBridge, running_bridge

from bridge.activity.store import UNAUTHENTICATED_ENTRIES
from handlers.dashboard.timeline import WIDTH
from handlers.request.appkeys import ACTIVITY, STATS
from upstream.arena import Arena, Line, Step, Turn, Until


def begins(_: Turn) -> Iterator[Step]:
    """An answer that begins and then stalls, until its caller leaves."""
    yield Line("a0", "once")
    yield Until(asyncio.Event())


async def test_a_request_is_listed_while_it_runs_and_after_it_has_ended(arena: Arena, dashboard: Dashboard) -> None:
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
        await nobody_returns(bridge)
        async with asyncio.timeout(5):
            while not (await dashboard.live("/dashboard/activity")).markup.says("0 running"):
                pass
    assert (await dashboard.live("/dashboard/activity")).markup.says("client gone")


async def test_the_operator_ends_a_stream_and_its_caller_gets_an_error(arena: Arena, dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    arena.script = begins
    async with await bridge.post(bridge.chat("hi", stream=True)) as answer:
        first = await answer.content.readuntil(b"once")
        (running,) = bridge.app[ACTIVITY].running_newest()
        page = await dashboard.post("/dashboard/activity?key=test&x=1", {"number": f"{running.number}"})
        assert page.location == "/dashboard/activity?key=test"
        last = [*frames(first.rpartition(b"data: ")[1] + first.rpartition(b"data: ")[2] + await answer.read())][-1]
    assert json.loads(last)["error"]["code"] == "ended_by_owner"
    await asyncio.wait_for(arena.chats[-1].closed.wait(), 10)
    assert bridge.calls_held == 0
    assert (await dashboard.live("/dashboard/activity")).markup.says("ended_by_owner")


async def test_a_request_that_does_not_run_cannot_be_ended(dashboard: Dashboard) -> None:
    await dashboard.bridge.post(dashboard.bridge.chat("hi"))
    assert not list(dashboard.bridge.app[ACTIVITY].running_newest())
    for number in ("1", "0", "12345", "x"):
        assert (await dashboard.post("/dashboard/activity", {"number": number})).status == 303
    assert (await dashboard.live("/dashboard/activity")).markup.says("ok 1")


async def test_refused_requests_are_listed_with_their_reason(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    await bridge.post(bridge.chat("hi", model="nobody"), headers={"User-Agent": "curl/8.14"})
    await bridge.post(bridge.chat("hi"), headers={"Authorization": "Bearer nonsense"})
    markup = (await dashboard.get("/dashboard/activity")).markup
    for text in ("The model 'nobody' does not exist.", "model_not_found", "404", "curl/8.14", "invalid_api_key", "401"):
        assert markup.says(text), text
    assert "nonsense" not in markup.text


async def test_prompts_are_shown_with_log_debug_only(arena: Arena, tmp_path: Path) -> None:
    for debug in (False, True):
        async with running_bridge(arena, tmp_path / f"{debug}", {"log": {"debug": debug}}) as bridge:
            dashboard = Dashboard(bridge)
            await dashboard.enter()
            await bridge.post(bridge.chat("a secret of mine", stream=True))
            await bridge.post(bridge.chat("a secret of mine", model="nobody"))
            for page in (await dashboard.get("/dashboard/activity"), await dashboard.live("/dashboard/activity")):
                assert page.markup.says("a secret of mine") == debug
            assert (await dashboard.get("/dashboard/activity")).markup.says("Prompts are not kept") != debug


# --- searching ---


async def ask_all(bridge: RunningBridge) -> None:
    """Send three chats that are answered, and three with an unknown model, a wrong key and a prompt that is refused."""
    for _ in range(3):
        await bridge.post(bridge.chat("hi"), headers={"User-Agent": "OpenAI/JS 6.49.0"})
    await bridge.post(bridge.chat("hi", model="nobody"))
    await bridge.post(bridge.chat("hi"), headers={"Authorization": "Bearer x"})
    bridge.arena.faults.arm("moderated")
    await bridge.post(bridge.chat("hi"))


def rows(page: Page) -> int:
    """The number of requests on a page."""
    return sum(tag == "tr" for tag, _ in page.markup.elements) - 1


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 6),
        ("?q=nobody", 1),
        ("?q=OPENAI js", 3),
        ("?q=does not exist", 1),
        ("?q=invalid_api_key", 1),
        ("?q=nothing-of-this", -1),
        ("?outcome=ok", 3),
        ("?outcome=failed", 1),
        ("?outcome=refused", 2),
        ("?outcome=rejected@here&key=test", 1),
        ("?key=test", 5),
        ("?key=nobody", -1),
        ("?account=ada@example.org", 3),
        ("?from=1h", 6),
        ("?from=2001-01-01&to=2001-01-02", -1),
        ("?from=2001-01-01&to=3001-01-01T00:00Z", 6),
        ("?from=yesterday", 6),
        ("?page=99", 6),
        ("?page=-1&page=x&outcome=%00&q=%ff", -1),
    ],
)
async def test_the_query_of_the_address_filters_the_requests(query: str, count: int, dashboard: Dashboard) -> None:
    await ask_all(dashboard.bridge)
    for page in (
        await dashboard.get(f"/dashboard/activity{query}"),
        await dashboard.live(f"/dashboard/activity{query}"),
    ):
        assert page.status == 200
        assert rows(page) == count
        assert page.markup.says("No request matches all of these conditions.") == (count < 0)
    assert page.markup.says("'yesterday' is not a time") == ("yesterday" in query)


async def test_each_chip_counts_requests_and_links_to_them(dashboard: Dashboard) -> None:
    await ask_all(dashboard.bridge)
    page = await dashboard.get("/dashboard/activity?key=test")
    chips = {
        attributes["id"]: attributes["href"]
        for tag, attributes in page.markup.elements
        if tag == "a" and attributes.get("id", "").startswith("chip-")
    }
    for text in ("all 5", "failed 1", "refused here 1", "ok 3", "moderated 1", "rejected, here 1"):
        assert page.markup.says(text), text
    counts = [rows(await dashboard.get(address)) for address in chips.values()]
    assert counts == [5, 1, 1, 3, 1, 1]
    assert all("key=test" in address for address in chips.values())


async def test_requests_are_listed_in_pages_of_fifty(dashboard: Dashboard) -> None:
    folder = dashboard.bridge.folder
    write(folder, [ended(number, time.time() - 200 + number) for number in range(120)], time.time())
    first, last = await dashboard.get("/dashboard/activity"), await dashboard.get("/dashboard/activity?page=3")
    assert (rows(first), rows(last)) == (50, 20)
    assert first.markup.says("1 to 50 of 120")
    assert first.text.index(ended(119).id) < first.text.index(ended(70).id)
    links = [attributes["href"] for _, attributes in last.markup.elements if attributes.get("rel") in ("prev", "next")]
    assert links == ["/dashboard/activity?page=2"]


async def test_requests_without_a_key_are_listed_up_to_a_bound(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    await bridge.post(bridge.chat("hi"))
    for _ in range(UNAUTHENTICATED_ENTRIES + 5):
        await bridge.post(bridge.chat("hi"), headers={"Authorization": "Bearer x"})
    page = await dashboard.get("/dashboard/activity")
    assert page.markup.says(f"all {UNAUTHENTICATED_ENTRIES + 1}")
    assert page.markup.says("ok 1")


async def test_the_page_says_how_many_requests_could_not_be_stored(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    (bridge.folder.path / "activity").touch()
    await bridge.post(bridge.chat("hi"))
    page = await dashboard.get("/dashboard/activity")
    assert page.status == 200
    assert page.markup.says("1 requests are waiting in memory")


# --- one request ---


async def test_the_page_of_a_request_shows_its_attempts_and_a_report_without_names(
    arena: Arena, dashboard: Dashboard
) -> None:
    bridge = dashboard.bridge
    arena.faults.arm("server_error", status=503)
    async with await bridge.post(bridge.chat("hi", seed=1), headers={"User-Agent": "OpenAI/JS 6.49.0"}) as answer:
        request_id, evaluation = answer.headers["x-request-id"], answer.headers["x-bridge-evaluation"]
    page = await dashboard.get(f"/dashboard/activity/{request_id}")
    assert page.status == 200
    for text in (
        request_id,
        bridge.model(),
        "OpenAI/JS 6.49.0",
        "1. ada@example.org",
        "2. ada@example.org",
        "new: there was no earlier answer in the request",
        "chat, not streamed, 1 message",
        "seed",
    ):
        assert page.markup.says(text), text
    links = [attributes["href"] for tag, attributes in page.markup.elements if tag == "a"]
    assert evaluation in links
    assert f"/dashboard/playground?model={bridge.model()}" in links
    report = json.loads(page.markup.text.partition("before you share it.")[2].partition("Times:")[0])
    assert report["id"] == request_id
    assert [attempt[0] for attempt in report["attempts"]] == ["account 1", "account 1"]
    assert not {"key", "account", "evaluation", "prompt"} & set(report)
    assert "example.org" not in json.dumps(report)


async def test_the_page_of_a_refused_request_shows_the_reason(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    async with await bridge.post(bridge.chat("hi", model="nobody")) as answer:
        page = await dashboard.get(f"/dashboard/activity/{answer.headers['x-request-id']}")
    assert page.markup.says("The model 'nobody' does not exist.")
    assert page.markup.says("No attempt was made")
    assert page.markup.says("404, refused by the bridge itself")


async def test_the_page_of_a_running_request_shows_its_progress_and_its_end(arena: Arena, dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    arena.script = begins
    async with await bridge.post(bridge.chat("hi", stream=True)) as answer:
        address = f"/dashboard/activity/{answer.headers['x-request-id']}"
        await answer.content.readuntil(b"once")
        await asyncio.sleep(0.5)
        page = await dashboard.get(address)
        assert page.markup.says("running")
        *_, bar = (found for tag, found in page.markup.elements if tag == "rect" and found["class"] == "bar")
        assert float(bar["width"]) > WIDTH / 2, "the answer is most of what there has been"
        assert f'data-live="{address}"' in page.text
        (running,) = bridge.app[ACTIVITY].running_newest()
        await dashboard.post("/dashboard/activity", {"number": f"{running.number}"})
        await answer.read()
    assert (await dashboard.live(address)).markup.says("ended from the bridge's dashboard")


@pytest.mark.parametrize("request_id", ["req_0", "x" * 128, "..", "%2e%2e", "%00", "%22,%22", "a%2Fb", "é"])
async def test_the_page_of_an_unknown_request_id_does_not_fail(request_id: str, dashboard: Dashboard) -> None:
    page = await dashboard.get(f"/dashboard/activity/{request_id}")
    assert page.status in (404, 303, 200)
    assert "Traceback" not in page.text


async def test_page_views_and_model_lists_are_not_listed_as_requests(
    bridge: RunningBridge, dashboard: Dashboard
) -> None:
    await dashboard.live("/dashboard/activity")
    await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)
    assert rows(await dashboard.get("/dashboard/activity")) < 0


async def test_the_api_of_a_request_is_shown_in_activity_and_in_the_overview(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    body = {"model": bridge.model(), "input": "hi"}
    async with bridge.http.post(f"{bridge.origin}/v1/responses", json=body, headers=bridge.headers) as answer:
        assert answer.status == 200
    await dashboard.get("/dashboard/keys")
    told = {"Content-Type": "application/json", "X-CSRF-Token": dashboard.csrf}
    await dashboard.ask("POST", "/dashboard/playground/chat", "{}", told)
    assert [entry.api for entry in await kept(bridge)] == ["chat", "responses"]
    assert (await dashboard.live("/dashboard/activity")).markup.says("responses · ")
    await bridge.app[STATS].flush()
    overview = (await dashboard.live("/dashboard")).markup
    assert overview.says("Requests by API")
    assert overview.says("responses")
