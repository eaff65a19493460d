"""The headline: it never says that all is well when it is not, and the bridge's own refusals are no failures."""

from __future__ import annotations

from pathlib import Path

import pytest
from dashboard import Dashboard
from running import RunningBridge, running_bridge

from bridge.health import Health, Trouble
from bridge.statistics.counts import Bucket
from handlers.dashboard.headline import Headline, first_steps, headline, recent
from handlers.request.appkeys import MODELS, STATS
from upstream.arena import Arena
from upstream.protocol.errors import Reason

WELL = Health(True, ())
DONE = first_steps(accounts=1, keys=1, answered=True)


def minutes(**endings: int) -> list[Bucket]:
    """Buckets of three minutes. The second has these endings; the prefix `HERE_` marks refusals by the bridge."""
    bucket = Bucket(at=60)
    for name, count in endings.items():
        here = name.startswith("HERE_")
        word = name.removeprefix("HERE_")
        bucket.requests += count
        bucket.gone += count if word == "client_gone" else 0
        bucket.errors += 0 if word in ("ok", "client_gone") else count
        bucket.endings[f"{word}@here" if here else word] += count
    return [Bucket(at=0), bucket, Bucket(at=120)]


def said(health: Health, **endings: int) -> Headline:
    return headline(health, recent(minutes(**endings)), DONE)


@pytest.mark.parametrize(
    ("endings", "text", "alert"),
    [
        ({}, "All is well", ""),
        ({"ok": 99, "timeout": 4}, "All is well", ""),
        ({"ok": 19, "timeout": 1}, "Answering, but 5.0 % failed in the last 15 minutes", "5.0 % failed"),
        (
            {"ok": 56, "timeout": 13, "rate_limited": 31},
            "Answering, but 44 % failed in the last 15 minutes",
            "44 % failed",
        ),
        ({"timeout": 20}, "No answers: 100 % of the requests in the last 15 minutes failed", "100 % failed"),
        ({"ok": 18, "timeout": 1}, "Working, with failures", "1 failed"),
        ({"timeout": 1}, "Working, with failures", "1 failed"),
        ({"ok": 19, "HERE_rejected": 500, "HERE_rate_limited": 500}, "All is well", ""),
        (
            {"ok": 19, "timeout": 1, "HERE_rejected": 5000},
            "Answering, but 5.0 % failed in the last 15 minutes",
            "5.0 % failed",
        ),
        ({"client_gone": 50}, "All is well", ""),
    ],
    ids=lambda value: str(value)[:50],
)
def test_the_headline_depends_on_the_failures_of_the_last_minutes(
    endings: dict[str, int], text: str, alert: str
) -> None:
    found = said(WELL, **endings)
    assert (found.text, found.alert) == (text, alert)
    assert ("well" in found.text) == (not alert)


def test_the_headline_never_says_well_from_five_percent_failures_on() -> None:
    for requests in range(1, 300):
        for failed in {-(-requests // 20), requests // 3 + 1, requests}:
            found = said(WELL, ok=requests - failed, unreachable=failed)
            assert "well" not in found.text.lower(), (requests, failed)
            assert "nothing" not in found.lead
            assert found.alert


def test_the_headline_names_the_worst_problem_first() -> None:
    trouble = Trouble("accounts", Reason.NO_ACCOUNT, "no account")
    assert said(Health(False, (trouble,)), ok=1, timeout=99).text == "Action needed"
    assert said(Health(True, (trouble,)), ok=50, timeout=50).text.startswith("Answering, but 50 %")
    assert said(Health(True, (trouble,)), ok=50) == Headline("Working, with problems", alert="Problems")


def test_failures_are_counted_by_reason_with_the_commonest_first() -> None:
    found = recent(minutes(ok=5, timeout=2, rate_limited=7, client_gone=3, HERE_rejected=4, HERE_rate_limited=1))
    assert found.words == (("rate_limited", 7), ("timeout", 2))
    assert (found.requests, found.failed, found.answered) == (17, 9, 5)


@pytest.mark.parametrize(
    ("accounts", "keys", "answered", "text"),
    [
        (0, 0, False, "No account yet: add one"),
        (1, 0, False, "No key yet: make one"),
        (1, 0, True, "No key yet: make one"),
        (1, 1, False, "Ready for the first question"),
    ],
)
def test_the_headline_names_the_first_missing_step_of_the_setup(
    accounts: int, keys: int, answered: bool, text: str
) -> None:
    steps = first_steps(accounts=accounts, keys=keys, answered=answered)
    assert headline(WELL, recent([]), steps).text == text
    assert [step.done for step in steps] == [True, accounts > 0, keys > 0, answered]


# --- on the pages ---


async def fail(bridge: RunningBridge, well: int, ill: int) -> None:
    """Send chats that are answered, and chats that the site's moderation refuses."""
    for _ in range(well):
        await bridge.post(bridge.chat("hi"))
    for _ in range(ill):
        bridge.arena.faults.arm("moderated")
        await bridge.post(bridge.chat("hi"))
    await bridge.app[STATS].flush()


async def test_the_title_of_every_page_shows_the_share_of_failed_requests(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    await bridge.app[MODELS].available()
    await fail(bridge, 19, 2)
    for path in ("/dashboard", "/dashboard/keys", "/dashboard/activity", "/dashboard/playground"):
        page = await dashboard.get(path)
        assert "<title data-plain=" in page.text
        assert ">(!) 9.5 % failed · " in page.text, path
        assert "icon-alert.svg" in page.text
    live = await dashboard.live("/dashboard")
    assert live.headers["X-Alert"] == "9.5%20%25%20failed"
    assert live.markup.says("Answering, but 9.5 % failed in the last 15 minutes")
    assert live.markup.says("2 of 21 requests failed")
    assert not live.markup.says("All is well")


async def test_requests_refused_by_the_bridge_raise_no_alert(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    await bridge.app[MODELS].available()
    await fail(bridge, 20, 0)
    for _ in range(20):
        await bridge.post(bridge.chat("hi", model="nobody"))
        await bridge.post(bridge.chat("hi"), headers={"Authorization": "Bearer x"})
    await bridge.app[STATS].flush()
    page = await dashboard.get("/dashboard")
    assert page.markup.says("All is well")
    assert "(!)" not in page.text


async def test_the_first_steps_link_to_accounts_keys_and_the_playground(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", sessions=()) as bridge:
        await bridge.state.update_keys(lambda _: ())
        dashboard = Dashboard(bridge)
        await dashboard.enter()
        page = await dashboard.get("/dashboard")
        assert page.markup.says("First steps")
        buttons = [
            attributes["href"]
            for tag, attributes in page.markup.elements
            if tag == "a" and attributes.get("class") == "button quiet"
        ]
        assert buttons == ["/dashboard/accounts", "/dashboard/keys", "/dashboard/playground"]
