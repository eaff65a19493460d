"""GET /health: 200 while a chat could be served, otherwise 503; what is degraded, in the words of the diagnosis."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from running import RunningBridge, running_bridge

from handlers.request.appkeys import DRIFT, RENEWALS
from upstream.accounts import Account
from upstream.arena import Arena
from upstream.gate import FAILURES_TO_OPEN


async def health(bridge: RunningBridge, path: str = "/health") -> tuple[int, dict[str, Any]]:
    """Return the status and body of /health without a key, after checking that they contain no secret."""
    answer = await bridge.http.get(bridge.origin + path)
    text = await answer.text()
    assert answer.content_type == "application/json"
    assert not any(account.session.value in text for account in bridge.state.pool)
    assert bridge.key not in text
    assert "ada@example.org" not in text
    body: dict[str, Any] = await answer.json()
    assert answer.headers["x-bridge-reason"] == body["reason"]
    return answer.status, body


def troubles(body: dict[str, Any]) -> list[tuple[str, str]]:
    assert all(trouble["message"] for trouble in body["degraded"])
    return [(trouble["part"], trouble["reason"]) for trouble in body["degraded"]]


def message(body: dict[str, Any]) -> str:
    """The message of the only trouble."""
    (trouble,) = body["degraded"]
    return str(trouble["message"])


def account(bridge: RunningBridge) -> Account:
    """The only account in its current state."""
    (found,) = bridge.state.pool
    return found


async def settled(bridge: RunningBridge) -> None:
    """Wait until the list of models has been read, and the site has been asked about the only account."""
    await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)
    await bridge.app[RENEWALS].fresh(account(bridge))


@pytest.mark.parametrize("path", ["/health", "/v1/health", "/api/v1/health"])
async def test_health_is_ok_when_all_is_well(path: str, arena: Arena, bridge: RunningBridge) -> None:
    await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)  # waits for the first reading
    assert await health(bridge, path) == (
        200,
        {
            "status": "ok",
            "reason": "ok",
            "degraded": [],
            "accounts": {"total": 1, "usable": 1},
            "models": sum(model.user_selectable for model in arena.models),
            "answering": 0,
            "unknown": {},
        },
    )


async def test_health_is_down_without_an_account(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", sessions=()) as bridge:
        await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)
        status, body = await health(bridge)
        assert (status, body["status"], body["reason"]) == (503, "down", "no_account")
        assert troubles(body) == [("accounts", "no_account")]


async def test_health_is_down_without_a_list_of_models(arena: Arena, tmp_path: Path) -> None:
    arena.clearance = "what the browser has"
    async with running_bridge(arena, tmp_path / "state") as bridge:
        await settled(bridge)
        status, body = await health(bridge)
        assert (status, body["status"], body["models"]) == (503, "down", 0)
        assert troubles(body) == [("models", "challenge")]  # a single failed renewal of the login is not reported


FAULTS: dict[str, tuple[int, str, list[tuple[str, str]]]] = {
    "expired": (200, "ok", []),  # one refused call proves nothing: asked who is logged in, the site names the account
    "login_gate": (503, "down", [("account 1", "guest")]),
    "terms": (503, "down", [("account 1", "terms")]),
    "rate_limited": (503, "down", [("account 1", "rate_limited")]),
    "prompt_failed": (503, "down", [("account 1", "recaptcha")]),
    "challenge": (503, "down", [("site", "challenge")]),
    "blocked": (503, "down", [("site", "blocked")]),
    "recaptcha": (503, "down", [("site", "recaptcha")]),
    "moderated": (200, "ok", []),
    "model_failed_first": (200, "ok", []),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_health_after_a_failed_call_reports_only_lasting_troubles(
    fault: str, arena: Arena, bridge: RunningBridge
) -> None:
    status, word, expected = FAULTS[fault]
    arena.faults.arm(fault)
    await (await bridge.post(bridge.chat("hi"))).read()
    found, body = await health(bridge)
    assert (found, body["status"], troubles(body)) == (status, word, expected)


async def test_health_tells_the_operator_of_a_guest_account_to_sign_in(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("login_gate")
    await (await bridge.post(bridge.chat("hi"))).read()
    _, body = await health(bridge)
    assert "sign in to the site" in message(body)
    assert body["accounts"] == {"total": 1, "usable": 0}


async def test_health_says_how_long_a_flagged_account_is_on_cooldown(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("prompt_failed", retry_after="1200")
    await (await bridge.post(bridge.chat("hi"))).read()
    said = message((await health(bridge))[1])
    rest = r"it is not used for 1(200|1\d\d) s\. Its own page shows the same flag\."
    assert re.fullmatch(f"LMArena doubts that a human uses this account: {rest}", said)


async def test_health_reports_an_account_without_consent_before_its_first_chat(arena: Arena, tmp_path: Path) -> None:
    session = arena.sign_in(consented=False)
    async with running_bridge(arena, tmp_path / "state", sessions=(session,)) as bridge:
        await settled(bridge)
        status, body = await health(bridge)
        assert (status, body["status"], troubles(body)) == (503, "down", [("account 1", "terms")])
        session.consented = True
        await bridge.app[RENEWALS].is_alive(account(bridge))  # asks the site again
        assert (await health(bridge))[0] == 200


async def test_health_is_degraded_when_one_of_two_accounts_has_expired(arena: Arena, tmp_path: Path) -> None:
    ada, bob = arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org")
    async with running_bridge(arena, tmp_path / "state", sessions=(ada, bob)) as bridge:
        arena.expire(ada)
        for text in ("hi", "hello"):  # one of them is first tried with the expired login
            assert (await bridge.post(bridge.chat(text))).status == 200
        status, body = await health(bridge)
        assert (status, body["status"], body["reason"]) == (200, "degraded", "expired")
        assert "no longer accepts its login: log in again" in message(body)
        assert body["accounts"] == {"total": 2, "usable": 1}


async def test_an_expired_token_is_no_trouble_if_its_login_is_renewed(arena: Arena, tmp_path: Path) -> None:
    session = arena.sign_in(expires_in=-300)
    async with running_bridge(arena, tmp_path / "state", sessions=(session,)) as bridge:
        await settled(bridge)
        assert session.refreshes == 1
        assert troubles((await health(bridge))[1]) == []


async def test_a_failing_renewal_is_reported_at_the_second_failure(arena: Arena, bridge: RunningBridge) -> None:
    await settled(bridge)
    arena.faults.arm("server_error", None, on="me")
    for expected in ([], [("account 1", "upstream_error")]):
        await bridge.login_checked_again()
        status, body = await health(bridge)
        assert (status, troubles(body)) == (200, expected)
    _, body = await health(bridge)
    assert re.fullmatch(
        r"Renewal of its login has failed since \d\d:\d\d UTC \(0 min\): LMArena failed \(\d+\); "
        "the bridge keeps retrying.",
        message(body),
    )
    arena.faults.clear()
    assert await bridge.login_checked_again()
    assert (await health(bridge))[1]["status"] == "ok"


async def test_one_failed_renewal_is_reported_if_the_token_has_ended(arena: Arena, tmp_path: Path) -> None:
    arena.faults.arm("server_error", None, on="me")
    session = arena.sign_in(expires_in=-60)
    async with running_bridge(arena, tmp_path / "state", sessions=(session,)) as bridge:
        await settled(bridge)
        assert troubles((await health(bridge))[1]) == [("account 1", "upstream_error")]


async def test_the_end_of_a_session_is_reported_a_day_before(arena: Arena, tmp_path: Path) -> None:
    session = arena.sign_in(expires_in=7200, renewable=False)
    async with running_bridge(arena, tmp_path / "state", sessions=(session,)) as bridge:
        await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)
        status, body = await health(bridge)
        assert (status, body["status"], troubles(body)) == (200, "degraded", [("account 1", "expired")])
        end = datetime.fromtimestamp(session.expires_at, UTC)
        assert message(body) == (
            f"The session ends for good at {end:%Y-%m-%d %H:%M} UTC: before then, log in again, and paste the new "
            "cookie into the dashboard or `lmarena-bridge accounts add`."
        )


async def test_unknown_content_is_counted_but_is_not_a_trouble(arena: Arena, bridge: RunningBridge) -> None:
    for fault in ("unknown_tags", "no_tag_line"):
        arena.faults.arm(fault)
        assert (await bridge.post(bridge.chat("hi"))).status == 200
    status, body = await health(bridge)
    assert (status, body["status"]) == (200, "ok")
    assert body["unknown"] == bridge.app[DRIFT].counts
    assert body["unknown"]["no tag"] == 1
    assert any(kind.startswith("tag ") for kind in body["unknown"])


async def test_a_wrong_clock_is_reported(arena: Arena, tmp_path: Path) -> None:
    arena.clock = lambda: time.time() + 900
    async with running_bridge(arena, tmp_path / "state") as bridge:
        await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)
        status, body = await health(bridge)
        assert (status, body["status"], troubles(body)) == (200, "degraded", [("clock", "rejected")])
        assert re.search(r"clock is (900|899) s behind LMArena's", message(body))
        assert (await bridge.post(bridge.chat("hi"))).status == 200  # the times in its ids are corrected


async def test_health_reports_an_outage_of_the_site(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", {"upstream": {"max_attempts": 1}}) as bridge:
        arena.faults.arm("server_error", FAILURES_TO_OPEN)
        for _ in range(FAILURES_TO_OPEN):
            assert (await bridge.post(bridge.chat("hi"))).status == 502
        _, body = await health(bridge)
        assert troubles(body) == [("site", "upstream_error")]


async def test_a_challenge_is_no_longer_reported_after_the_next_answer(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("challenge")
    for status in (503, 200):
        await (await bridge.post(bridge.chat("hi"))).read()
        assert (await health(bridge))[0] == status


# For a browser


BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def page(bridge: RunningBridge) -> tuple[int, str]:
    """Return the status and text of the page for browsers, which reveals no more than the JSON."""
    answer = await bridge.http.get(f"{bridge.origin}/health", headers=BROWSER)
    text = await answer.text()
    assert answer.content_type == "text/html"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["x-bridge-reason"] == (await health(bridge))[1]["reason"]
    assert "ada@example.org" not in text
    return answer.status, text


async def test_a_browser_gets_health_as_a_page(bridge: RunningBridge) -> None:
    await settled(bridge)
    models = (await health(bridge))[1]["models"]
    status, text = await page(bridge)
    assert status == 200
    assert "<h1>All is well</h1>" in text
    assert f"{models} models are known" in text
    await bridge.state.update_accounts(lambda _: ())
    status, text = await page(bridge)
    assert status == 503
    assert "<h1>No chat can be answered now</h1>" in text
    assert "<code>lmarena-bridge accounts add</code>" in text


@pytest.mark.parametrize("accepted", ["*/*", "application/json", "application/json, text/html;q=0.5", ""])
async def test_programs_get_health_as_json(accepted: str, bridge: RunningBridge) -> None:
    answer = await bridge.http.get(f"{bridge.origin}/health", headers={"Accept": accepted})
    assert answer.content_type == "application/json"
    assert "Accept" in answer.headers.getall("Vary")
