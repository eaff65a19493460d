"""Accounts that may not chat although their cookies are valid: guests, unaccepted terms, doubts, and challenges."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from answered import Answered, ask
from running import RunningBridge, running_bridge

from handlers.request.appkeys import RENEWALS
from upstream.accounts import EVERYTHING, Account
from upstream.arena import Arena
from upstream.protocol.errors import Reason

PROMPT = "/say hello"
DRAWS = "gpt-image-3"
ADA, BOB = "ada@example.org", "bob@example.org"

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def account(bridge: RunningBridge, email: str = ADA) -> Account:
    (found,) = (each for each in bridge.state.pool if each.label == email)
    return found


def assert_no_account(answer: Answered, reason: str, says: str) -> None:
    assert answer.said == (503, "no_account", reason)
    assert answer.error is not None
    assert says in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert "Retry-After" not in answer.headers


async def check_login(bridge: RunningBridge, email: str = ADA) -> None:
    """Check the login now, so that a test need not wait for the next regular check."""
    assert await bridge.app[RENEWALS].is_alive(account(bridge, email))


# Guests


@streamed_and_not
async def test_a_login_gate_bars_the_account_and_does_not_expire_it(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    await bridge.logins_checked()
    arena.faults.arm("login_gate", None)
    for _ in range(2):  # the second request is not sent upstream
        answer = await ask(bridge, PROMPT, stream=stream)
        assert_no_account(answer, "guest", "must sign in to the site")
        assert len(arena.chats) == 1
    assert (account(bridge).bar, account(bridge).expired) == (Reason.GUEST, False)
    arena.faults.clear()
    await check_login(bridge)  # the site reports an e-mail address, so it is not a guest
    assert account(bridge).bar is None
    assert (await ask(bridge, PROMPT, stream=stream)).is_good


@streamed_and_not
async def test_other_accounts_serve_in_place_of_a_guests(stream: bool, arena: Arena, tmp_path: Path) -> None:
    sessions = (arena.sign_in(ADA), arena.sign_in(BOB))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.logins_checked()
        arena.faults.arm("login_gate", None, account=sessions[0].user_id)
        for number in range(4):
            assert (await ask(bridge, f"/say {number}", stream=stream)).is_good
        assert sum(call.refusal is not None for call in arena.chats) == 1
        assert (account(bridge).bar, account(bridge, BOB).bar) == (Reason.GUEST, None)


@streamed_and_not
async def test_a_guests_session_in_the_state_file_bars_the_account_and_does_not_expire_it(
    stream: bool, arena: Arena, tmp_path: Path
) -> None:
    guest = arena.sign_in("visitor", guest=True)
    async with running_bridge(arena, tmp_path / "state", sessions=(guest,)) as bridge:
        for _ in range(2):
            assert_no_account(await ask(bridge, PROMPT, stream=stream), "guest", "must sign in to the site")
        assert len(arena.chats) <= 1  # none if the login was checked first
        assert not account(bridge, "visitor").expired
        await check_login(bridge, "visitor")
        asked = len(arena.chats)
        assert_no_account(await ask(bridge, PROMPT, stream=stream), "guest", "must sign in to the site")
        assert len(arena.chats) == asked
    kept = json.loads((tmp_path / "state" / "accounts.json").read_text())
    assert '"guest"' in json.dumps(kept)  # so that it is known after a restart


async def test_a_bar_outlasts_a_restart(arena: Arena, tmp_path: Path) -> None:
    guest = arena.sign_in("visitor", guest=True)
    async with running_bridge(arena, tmp_path / "state", sessions=(guest,)) as bridge:
        await check_login(bridge, "visitor")
    arena.faults.arm("server_error", None, on="me")
    async with running_bridge(arena, tmp_path / "state", sessions=()) as bridge:
        assert_no_account(await ask(bridge, PROMPT), "guest", "must sign in to the site")
        assert not arena.chats


async def test_a_guest_serves_no_request_beside_a_signed_in_account(arena: Arena, tmp_path: Path) -> None:
    sessions = (arena.sign_in("visitor", guest=True), arena.sign_in(ADA))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.logins_checked()
        for number in range(4):
            assert (await ask(bridge, f"/say {number}")).is_good
        assert {call.account for call in arena.chats} == {sessions[1].user_id}


# Terms


@streamed_and_not
async def test_unaccepted_terms_bar_the_account_until_they_are_accepted(
    stream: bool, arena: Arena, tmp_path: Path
) -> None:
    session = arena.sign_in(ADA, consented=False)
    async with running_bridge(arena, tmp_path / "state", sessions=(session,)) as bridge:
        await check_login(bridge)
        assert_no_account(await ask(bridge, PROMPT, stream=stream), "terms", "accept them there if they agree")
        assert (len(arena.chats), account(bridge).expired) == (0, False)
        session.consented = True
        assert_no_account(await ask(bridge, PROMPT, stream=stream), "terms", "read the terms on the site")
        await check_login(bridge)
        assert (await ask(bridge, PROMPT, stream=stream)).is_good
        assert not any(call.method == "POST" and call.kind != "create" for call in arena.calls)


@streamed_and_not
async def test_a_chat_refused_for_unaccepted_terms_bars_the_account(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    await bridge.logins_checked()
    arena.faults.arm("terms")
    answer = await ask(bridge, PROMPT, stream=stream)
    assert_no_account(answer, "terms", "accept them there if they agree")
    assert (len(arena.chats), account(bridge).bar, account(bridge).expired) == (1, Reason.TERMS, False)


async def test_another_account_serves_while_the_terms_of_one_are_unaccepted(arena: Arena, tmp_path: Path) -> None:
    sessions = (arena.sign_in(ADA, consented=False), arena.sign_in(BOB))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        for number in range(4):
            assert (await ask(bridge, f"/say {number}")).is_good
        assert sum(call.refusal is not None for call in arena.chats) <= 1


# Doubts


@streamed_and_not
async def test_a_prompt_refused_by_recaptcha_is_not_sent_with_another_account(
    stream: bool, arena: Arena, tmp_path: Path
) -> None:
    sessions = (arena.sign_in(ADA), arena.sign_in(BOB))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.logins_checked()
        arena.faults.arm("prompt_failed", retry_after="1200")
        answer = await ask(bridge, PROMPT, stream=stream)
        assert answer.said == (503, "upstream_challenge", "recaptcha")
        assert (answer.headers["Retry-After"], answer.headers["x-should-retry"]) == ("1200", "false")
        assert answer.error is not None
        assert "doubts that a human" in answer.error["message"]
        assert len(arena.chats) == 1
        (doubted,) = (each for each in bridge.state.pool if each.cooldowns)
        assert (doubted.user_id, list(doubted.cooldowns)) == (arena.chats[0].account, [EVERYTHING])
        for modality in ("chat", "image", "search"):
            assert 1100 < doubted.cooldown_left(modality, time.time()) <= 1200
        assert (doubted.expired, doubted.bar) == (False, None)
        for model in (bridge.model(), DRAWS):  # the other account answers the next requests
            assert (await ask(bridge, PROMPT, model=model, stream=stream)).is_good
            assert arena.chats[-1].account != doubted.user_id


@streamed_and_not
async def test_requests_fail_with_a_challenge_while_recaptcha_refuses_every_account(
    stream: bool, arena: Arena, tmp_path: Path
) -> None:
    sessions = (arena.sign_in(ADA), arena.sign_in(BOB))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.logins_checked()
        for session, seconds in zip(sessions, ("900", "1200"), strict=True):
            arena.faults.arm("prompt_failed", account=session.user_id, retry_after=seconds)
        for _ in sessions:
            assert (await ask(bridge, PROMPT, stream=stream)).said == (503, "upstream_challenge", "recaptcha")
        for model in (bridge.model(), DRAWS):
            answer = await ask(bridge, PROMPT, model=model, stream=stream)
            assert answer.said == (503, "upstream_challenge", "recaptcha")
            assert answer.headers["Retry-After"] in ("899", "900")
        assert len(arena.chats) == 2


@streamed_and_not
async def test_a_recaptcha_refusal_without_retry_after_means_a_cooldown_of_a_minute(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("prompt_failed", retry_after=None)
    first = await ask(bridge, PROMPT, stream=stream)
    second = await ask(bridge, PROMPT, stream=stream)
    for answer in (first, second):
        assert answer.said == (503, "upstream_challenge", "recaptcha")
        assert answer.headers["Retry-After"] == "60"
    assert len(arena.chats) == 1


async def test_a_rate_limit_is_reported_where_recaptcha_refuses_the_other_account(arena: Arena, tmp_path: Path) -> None:
    sessions = (arena.sign_in(ADA), arena.sign_in(BOB))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.logins_checked()
        arena.faults.arm("prompt_failed", account=sessions[0].user_id, retry_after="1200")
        arena.faults.arm("rate_limited", account=sessions[1].user_id, retry_after="90")
        asked = {(await ask(bridge, f"/say {number}")).status for number in range(3)}
        assert asked <= {429, 503}
        answer = await ask(bridge, PROMPT)
        assert answer.said == (429, "upstream_rate_limited", "rate_limited")
        assert answer.headers["Retry-After"] in ("89", "90")
        assert len(arena.chats) == 2
        assert (await ask(bridge, PROMPT, model=DRAWS)).is_good  # the limit applies to chats only
        assert arena.chats[-1].account == sessions[1].user_id


async def test_a_conversation_refused_by_recaptcha_continues_with_another_account(arena: Arena, tmp_path: Path) -> None:
    sessions = (arena.sign_in(ADA), arena.sign_in(BOB))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.logins_checked()
        first = await ask(bridge, "Who are you?")
        arena.faults.arm("prompt_failed", on="follow-up")
        history = ("Who are you?", first.text, "And I?")
        assert (await ask(bridge, *history)).said == (503, "upstream_challenge", "recaptcha")
        again = await ask(bridge, *history)
        assert (again.is_good, again.place.partition(";")[0]) == (True, "new")
        assert arena.chats[-1].account != arena.chats[0].account
        assert [call.kind for call in arena.chats] == ["create", "follow-up", "create"]


# Challenges


@streamed_and_not
@pytest.mark.parametrize("status", [403, 429, 503])
async def test_a_challenge_is_recognised_whatever_its_status(
    status: int, stream: bool, arena: Arena, tmp_path: Path
) -> None:
    sessions = (arena.sign_in(ADA), arena.sign_in(BOB))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.logins_checked()
        arena.faults.arm("challenge", status=status)
        answer = await ask(bridge, PROMPT, stream=stream)
        assert answer.said == (503, "upstream_challenge", "challenge")
        assert answer.error is not None
        assert "cf_clearance" in answer.error["message"]
        assert answer.headers["x-should-retry"] == "false"
        assert "Retry-After" not in answer.headers
        assert len(arena.chats) == 1
        assert not any(each.cooldowns or each.expired or each.bar for each in bridge.state.pool)
        assert (await ask(bridge, PROMPT, stream=stream)).is_good
