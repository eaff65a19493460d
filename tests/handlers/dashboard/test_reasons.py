"""The reason in the log is that of the answer: no error is logged as ok."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from dashboard import Dashboard
from kept_requests import kept
from request_log import RequestLog
from running import RunningBridge, api_key, running_bridge

from handlers.request.appkeys import DRAIN, MODELS
from upstream.arena import Arena


@pytest.fixture(autouse=True)
def probes_too(request_log: RequestLog, caplog: pytest.LogCaptureFixture) -> None:  # noqa: ARG001 — it sets a level first
    """Capture the log lines of probes too, which have the level DEBUG."""
    caplog.set_level(logging.DEBUG, "bridge.requests")


async def test_health_that_is_down_is_logged_with_its_reason(
    arena: Arena, tmp_path: Path, request_log: RequestLog
) -> None:
    async with running_bridge(arena, tmp_path / "state", sessions=()) as bridge:
        await bridge.app[MODELS].available()
        for path in ("/health", "/readyz", "/v1/health"):
            async with bridge.http.get(f"{bridge.origin}{path}") as answer:
                assert answer.status == 503
            line = await request_log.line()
            assert (line["status"], line["reason"]) == (503, "no_account")


async def test_failed_readiness_during_a_drain_is_not_logged_as_ok(
    bridge: RunningBridge, request_log: RequestLog
) -> None:
    await bridge.app[MODELS].available()
    bridge.app[DRAIN].begin()
    async with bridge.http.get(f"{bridge.origin}/readyz") as answer:
        assert answer.status == 503
    assert (await request_log.line())["reason"] == "rate_limited"


async def test_no_error_page_is_logged_as_ok(dashboard: Dashboard, request_log: RequestLog) -> None:
    stranger = Dashboard(dashboard.bridge)
    answers = [
        await dashboard.post("/dashboard/keys", {"name": "<"}),
        await dashboard.post("/dashboard/keys/revoke", {"id": "none"}),
        await dashboard.ask("POST", "/dashboard/keys"),
        await dashboard.get("/dashboard/nothing"),
        await dashboard.get("/dashboard/activity/req_none"),
        await stranger.live("/dashboard/activity"),
        *[await stranger.ask("POST", "/dashboard/login", {"password": "wrong"}) for _ in range(8)],
        await stranger.ask("PUT", "/dashboard/login"),
    ]
    lines = [await request_log.line() for _ in answers]
    assert [line["status"] for line in lines] == [page.status for page in answers]
    assert {line["status"] for line in lines} == {400, 401, 403, 404, 405, 429}
    for line in lines:
        assert line["reason"] == ("rate_limited" if line["status"] == 429 else "rejected")


async def test_the_activity_entry_of_an_upstream_limit_says_how_long_to_wait(
    arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("rate_limited", retry_after="18")
    for _ in range(2):
        async with await bridge.post(bridge.chat("hi")) as answer:
            assert answer.status == 429
            seconds = answer.headers["Retry-After"]
        (entry, *_) = await kept(bridge)
        assert f"Wait {seconds} s." in entry.message
        assert "Retry-After" not in entry.message


async def test_activity_says_how_long_a_key_at_its_limit_must_wait(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    secret, key = api_key(name="slow", rpm=1)
    await bridge.state.update_keys(lambda keys: (*keys, key))
    for _ in range(2):
        await bridge.post(bridge.chat("hi"), headers={"Authorization": f"Bearer {secret}"})
    page = await dashboard.get("/dashboard/activity")
    assert re.search(r"may make 1 request in a minute\. Wait \d+ s\.", page.markup.text)
    assert not page.markup.says("Retry-After")
