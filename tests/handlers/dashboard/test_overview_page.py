"""The overview: whether all is well, what to do, and who used what, in charts and in numbers beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from dashboard import Dashboard
from running import RunningBridge, running_bridge

from handlers.monitoring.health import health_of
from handlers.request.appkeys import MODELS, STATS
from upstream.arena import Arena


async def used(bridge: RunningBridge) -> None:
    """Send three chats that are answered and two that are refused, and flush the statistics."""
    for _ in range(3):
        await bridge.post(bridge.chat("hi"))
    await bridge.post(bridge.chat("hi", model="nobody"))
    await bridge.post(bridge.chat("hi"), headers={"Authorization": "Bearer x"})
    await bridge.app[STATS].flush()


async def test_the_overview_says_that_all_is_well_after_the_first_answer(dashboard: Dashboard) -> None:
    await dashboard.bridge.app[MODELS].available()
    for page in (await dashboard.get("/dashboard"), await dashboard.live("/dashboard")):
        assert page.markup.says("Ready for the first question")
        assert page.markup.says("No requests yet.")
    await dashboard.bridge.post(dashboard.bridge.chat("hi"))
    await dashboard.bridge.app[STATS].flush()
    page = await dashboard.get("/dashboard")
    assert page.markup.says("All is well")
    assert not page.markup.says("First steps")


async def test_the_overview_shows_a_problem_with_advice(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", sessions=()) as bridge:
        await bridge.app[MODELS].available()
        dashboard = Dashboard(bridge)
        await dashboard.enter()
        for page in (await dashboard.get("/dashboard"), await dashboard.live("/dashboard")):
            assert page.markup.says("Action needed")
            assert page.markup.says("No account.")
            assert page.markup.says("What to do now: paste a cookie into the dashboard or ")
        assert not health_of(bridge.app).serving


async def test_the_overview_shows_problems_while_one_account_works(arena: Arena, tmp_path: Path) -> None:
    sessions = arena.sign_in(), arena.sign_in("old@example.org", renewable=False)
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.app[MODELS].available()
        dashboard = Dashboard(bridge)
        await dashboard.enter()
        assert (await dashboard.get("/dashboard")).markup.says("Working, with problems")


async def test_requests_are_shown_as_charts_and_as_numbers(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    await used(bridge)
    page = await dashboard.get("/dashboard")
    charts = [attributes for tag, attributes in page.markup.elements if tag == "svg"]
    assert [chart["role"] for chart in charts] == ["img"] * 4
    labels = " ".join(chart["aria-label"] for chart in charts)
    for text in ("3 answered, 0 failed, 2 refused", "median", bridge.model(), "test first"):
        assert text in labels, text
    written = bridge.app[STATS].stats.totals.completion_tokens
    for text in ("Refused here", "p95", bridge.model(), "rejected", f"{written} of them written"):
        assert page.markup.says(text), text
    assert "<html" not in (await dashboard.live("/dashboard")).text


async def test_charts_are_redrawn_after_new_requests(dashboard: Dashboard) -> None:
    before = await dashboard.live("/dashboard")
    await used(dashboard.bridge)
    after = await dashboard.live("/dashboard")
    assert "no requests in the last 2 hours" in before.text
    assert "3 answered" in after.text


@pytest.mark.parametrize(
    ("span", "words"), [("2h", "2 hours"), ("24h", "24 hours"), ("7d", "7 days"), ("2w", "2 weeks"), ("2y", "2 years")]
)
async def test_each_span_of_time_applies_to_the_whole_overview(span: str, words: str, dashboard: Dashboard) -> None:
    await used(dashboard.bridge)
    page = await dashboard.get(f"/dashboard?span={span}")
    current = [attributes for _, attributes in page.markup.elements if attributes.get("aria-current") == "true"]
    assert [attributes["id"] for attributes in current] == [f"span-{span}"]
    assert f"Requests in the last {words}: 3 answered" in page.text
    assert page.markup.text.count(f"in the last {words}") == 5, "tile, rankings, endings, APIs: one span"
    assert f'data-live="/dashboard?span={span}"' in page.text


@pytest.mark.parametrize("span", ["", "week", "2h&span=2y", "%00", "%ff", "a" * 5000])
async def test_an_unknown_span_falls_back_to_two_hours(span: str, dashboard: Dashboard) -> None:
    page = await dashboard.get(f"/dashboard?span={span}")
    assert page.status == 200
    assert 'data-live="/dashboard?span=2h"' in page.text


async def test_the_root_path_redirects_to_the_dashboard(dashboard: Dashboard) -> None:
    for method in ("GET", "HEAD"):
        assert (await dashboard.ask(method, "/")).location == "/dashboard"
