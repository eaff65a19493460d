"""The demo's Trouble page: each trouble can be armed by a click, is shown, and occurs; all can be switched off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import answered
import pytest
from dashboard import Dashboard
from running import RunningBridge, running_bridge

from handlers.commands.trouble import PATH, TROUBLES, add_trouble
from upstream.arena import FAULTS, Arena


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge that has the Trouble page, as in the demo."""
    async with running_bridge(arena, tmp_path, extend=partial(add_trouble, arena=arena)) as bridge:
        await bridge.logins_checked()
        yield bridge


@pytest.fixture
async def dashboard(bridge: RunningBridge) -> Dashboard:
    """A browser that is logged in, on the Trouble page."""
    browser = Dashboard(bridge)
    await browser.enter()
    await browser.get(PATH)
    return browser


async def test_every_trouble_is_armed_and_shown_until_all_are_off(dashboard: Dashboard, arena: Arena) -> None:
    for number, (name, trouble) in enumerate(TROUBLES.items()):
        field, times, word = ("once", 1, "once") if number % 2 else ("always", None, "every time")
        page = await dashboard.post(PATH, {field: name})
        assert (page.status, page.location) == (303, PATH)
        armed = arena.faults.armed()
        assert [fault.name for fault in armed] == [fault.name for fault in trouble.faults]
        assert {fault.times for fault in armed} == {times}
        shown = (await dashboard.live(PATH)).text
        assert f"<li>{trouble.label} " in shown
        assert f'<span class="hint">{word}, ' in shown
        assert (await dashboard.post(f"{PATH}/off")).location == PATH
        assert arena.faults.armed() == ()
    assert 'id="armed"' not in (await dashboard.get(PATH)).text


async def test_any_other_fault_is_armed_once(dashboard: Dashboard, arena: Arena) -> None:
    page = await dashboard.get(PATH)
    assert all(f'<option value="{name}">' in page.text for name in FAULTS)
    await dashboard.post(PATH, {"fault": "crlf"})
    assert [(fault.name, fault.times) for fault in arena.faults.armed()] == [("crlf", 1)]
    assert "<li>crlf " in (await dashboard.live(PATH)).text


async def test_an_unknown_trouble_or_fault_is_rejected(dashboard: Dashboard, arena: Arena) -> None:
    for fields in ({}, {"once": "nothing"}, {"fault": "nothing"}, {"always": ""}):
        assert (await dashboard.post(PATH, fields)).status == 400
    assert arena.faults.armed() == ()


#: The status and the reason (or `ok`) of a streamed chat, by trouble armed once. Two troubles only take time.
TOLD = {
    "rate_limited": (429, "rate_limited"),
    "challenge": (503, "challenge"),
    "recaptcha": (503, "recaptcha"),
    "blocked": (503, "blocked"),
    "expired": (503, "no_account"),
    "moderated": (400, "moderated"),
    "broken": (200, "truncated"),
    "failed": (200, "upstream_error"),
    "server_error": (200, "ok"),
    "empty": (200, "ok"),
    "changed": (200, "ok"),  # in the other mode of new chats, once the bridge has seen one succeed
    "unknown": (200, "ok"),
}


async def test_an_armed_trouble_affects_a_chat_until_all_are_off(dashboard: Dashboard, bridge: RunningBridge) -> None:
    assert TROUBLES.keys() - TOLD.keys() == {"slow", "slow_start"}
    for name, told in TOLD.items():
        await dashboard.post(PATH, {"once": name})
        answer = await answered.ask(bridge, "/say one two three four", stream=True)
        reason = "ok" if answer.error is None else answer.said[2]
        assert (name, answer.status, reason) == (name, *told)
        await dashboard.post(f"{PATH}/off")
        assert (await answered.ask(bridge, "/say so")).is_good, name
    async with bridge.http.get(f"{bridge.origin}/health") as health:
        assert (await health.json())["unknown"]["tag zz"] == 1


async def test_the_trouble_page_requires_a_login_and_a_csrf_token(
    bridge: RunningBridge, arena: Arena, dashboard: Dashboard
) -> None:
    stranger = Dashboard(bridge)
    assert (await stranger.get(PATH)).location == f"/dashboard/login?next={PATH}"
    for path in (PATH, f"{PATH}/off"):
        assert (await stranger.post(path, {"once": "broken"})).status == 401
        assert (await dashboard.ask("POST", path, {"once": "broken", "csrf": "forged"})).status == 403
    assert arena.faults.armed() == ()


async def test_only_the_demo_has_the_trouble_page(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path) as bridge:
        browser = Dashboard(bridge)
        await browser.enter()
        assert "Trouble" not in (await browser.get("/dashboard/models")).text
        assert (await browser.get(PATH)).status == 404
        assert (await browser.post(PATH, {"once": "broken"})).status == 404
        assert (await browser.post(f"{PATH}/off")).status == 404
    assert arena.faults.armed() == ()
