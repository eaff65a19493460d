"""docs/behaviour.md, "Errors": each case as callers and upstream see it, streamed and not.

Until the answer has begun, an error has its true status, streamed or not. After that, a stream's error is its last
event.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer, unused_port
from described import hold
from frames import DONE, frames
from request_log import RequestLog
from running import RunningBridge, running_bridge
from site_faults import (
    BEFORE_THE_ANSWER,
    FIRST_DELTAS,
    HARMLESS,
    IN_THE_MIDDLE,
    MAY_BE_REPEATED,
    PROMPT,
    TEXT,
    UPSTREAM,
    Break,
    Row,
    answered_by,
)

from upstream.arena import Arena, Line
from upstream.gate import FAILURES_TO_OPEN

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


async def assert_state_behind(bridge: RunningBridge, *, code: str, status: int, rests: bool = False) -> None:
    """Check that the account is marked only as it should be, nothing is remembered, and the daemon goes on."""
    (account,) = bridge.state.pool
    signed_out = code == "no_account"
    assert (account.expired, account.cooldown_left("chat", time.time()) > 0) == (signed_out, rests)
    assert len(bridge.relay._conversations) == 0
    assert bridge.calls_held == 0
    bridge.arena.faults.clear()
    again = await bridge.post(bridge.chat(PROMPT))
    assert again.status == (status if signed_out or rests else 200)


def answers_asked(arena: Arena) -> int:
    return len(arena.chats)


@streamed_and_not
@pytest.mark.parametrize("row", BEFORE_THE_ANSWER.values(), ids=BEFORE_THE_ANSWER)
async def test_a_failure_before_the_answer_has_its_true_status_and_reason(
    row: Row, stream: bool, arena: Arena, tmp_path: Path, request_log: RequestLog
) -> None:
    async with answered_by(arena, tmp_path, row) as bridge:
        answer = await bridge.post(bridge.chat(PROMPT, stream=stream))
        await hold(answer)
        error = (await answer.json())["error"]
        line = await request_log.line()
        assert (answer.status, error["type"], error["code"], error["param"]) == (row.status, row.type, row.code, None)
        assert answer.content_type == "application/json"
        assert answer.headers["x-bridge-reason"] == row.reason
        assert answer.headers.get("Retry-After") == row.retry_after
        assert answer.headers.get("x-should-retry") == row.should_retry
        assert row.says in error["message"]
        assert not re.search("<[a-z!/]", error["message"])
        assert answers_asked(arena) == row.calls
        assert (line["status"], line["reason"], line["code"]) == (row.status, row.reason, row.code)
        rests = row.fault == "rate_limited" and row.parameters["retry_after"] != "0"
        await assert_state_behind(bridge, code=row.code, status=row.status, rests=rests)


LONG_WORDS = {
    "a3": ("model_failed_first", "message"),
    "400": ("rejected", "message"),
    "400 of the schema": ("rejected_zod", "message"),
}


@pytest.mark.parametrize(("fault", "parameter"), LONG_WORDS.values(), ids=LONG_WORDS)
async def test_messages_of_the_site_are_quoted_up_to_300_characters(
    fault: str, parameter: str, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm(fault, None, **{parameter: "§" * 2000})
    answer = await bridge.post(bridge.chat(PROMPT))
    assert 270 <= (await answer.json())["error"]["message"].count("§") <= 300


RECOVERS = {
    "404": ("evaluation_gone", {}),
    "another account's": ("wrong_account", {}),
    "503": ("server_error", {"status": 503}),
    "500": ("server_error", {}),
    "reset": ("reset_before_headers", {}),
    "a3 first": ("model_failed_first", {}),
    "an empty answer": ("empty_answer", {}),
    "429 that names no wait": ("rate_limited", {"retry_after": "0"}),
}


@streamed_and_not
@pytest.mark.parametrize(("fault", "parameters"), RECOVERS.values(), ids=RECOVERS)
async def test_a_call_that_fails_once_is_repeated_with_fresh_ids(
    fault: str, parameters: dict[str, Any], stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm(fault, **parameters)
    answer = await bridge.post(bridge.chat(PROMPT, stream=stream))
    assert (answer.status, await said(answer, stream)) == (200, TEXT)
    first, second = (json.loads(call.body) for call in arena.calls if call.kind == "create")
    for name in ("id", "userMessageId", "modelAMessageId"):
        assert first[name] < second[name]
    assert not any(account.expired for account in bridge.state.pool)


@pytest.mark.parametrize("row", IN_THE_MIDDLE.values(), ids=IN_THE_MIDDLE)
class TestInTheMiddle:
    @pytest.fixture
    async def bridge(self, row: Break, arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
        async with running_bridge(arena, tmp_path / "state", row.overrides) as bridge:
            arena.faults.arm(row.fault, None, **row.parameters)
            yield bridge

    async def test_a_failure_in_mid_answer_is_the_last_event_of_a_stream(
        self, row: Break, arena: Arena, bridge: RunningBridge, request_log: RequestLog
    ) -> None:
        answer = await bridge.post(bridge.chat(PROMPT, stream=True))
        *chunks, last = [json.loads(data) for data in frames(await answer.read())]  # the body ended properly
        line = await request_log.line()
        assert answer.status == 200
        assert "x-bridge-reason" not in answer.headers
        assert text_of(chunks) == FIRST_DELTAS
        assert not any(choice["finish_reason"] for chunk in chunks for choice in chunk["choices"])
        error = last["error"]
        assert (error["type"], error["code"], error["reason"], error["param"]) == (UPSTREAM, row.code, row.reason, None)
        assert row.says in error["message"]
        assert error["message"].endswith(MAY_BE_REPEATED)
        assert answers_asked(arena) == 1
        assert (line["reason"], line["code"]) == (row.reason, row.code)
        await assert_state_behind(bridge, code=row.code, status=row.status)

    async def test_a_failure_in_mid_answer_is_an_error_response_unless_streamed(
        self, row: Break, arena: Arena, bridge: RunningBridge, request_log: RequestLog
    ) -> None:
        answer = await bridge.post(bridge.chat(PROMPT))
        await hold(answer)
        error = (await answer.json())["error"]
        await request_log.line()
        assert (answer.status, error["type"], error["code"]) == (row.status, UPSTREAM, row.code)
        assert answer.headers["x-bridge-reason"] == row.reason
        assert answer.headers["x-should-retry"] == "false"
        assert row.says in error["message"]
        assert answers_asked(arena) == 1
        await assert_state_behind(bridge, code=row.code, status=row.status)


@streamed_and_not
@pytest.mark.parametrize(("fault", "parameters", "finish"), HARMLESS.values(), ids=HARMLESS)
async def test_harmless_oddities_of_the_site_leave_the_answer_intact(
    fault: str, parameters: dict[str, Any], finish: str, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm(fault, **parameters)
    answer = await bridge.post(bridge.chat(PROMPT, stream=stream))
    assert (answer.status, await said(answer, stream, finish)) == (200, TEXT)
    assert answers_asked(arena) == 1


@streamed_and_not
async def test_an_emoji_split_over_two_deltas_arrives_whole(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("split_emoji")
    answer = await bridge.post(bridge.chat(PROMPT, stream=stream))
    assert await said(answer, stream) == f"{FIRST_DELTAS}🦦three four five"


@streamed_and_not
async def test_a_finish_reason_of_error_is_reported_as_a_failure_of_the_model(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("finish_error", None)
    answer = await bridge.post(bridge.chat(PROMPT, stream=stream))
    if stream:
        error = json.loads(frames(await answer.read())[-1])["error"]
    else:
        await hold(answer)
        error = (await answer.json())["error"]
        assert answer.status == 502
    assert (error["code"], error["message"].startswith("The model failed.")) == ("upstream_error", True)


@streamed_and_not
async def test_a_wholly_withheld_answer_finishes_with_content_filter(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.script = lambda _: [Line("ad", {"finishReason": "content-filter"})]
    answer = await bridge.post(bridge.chat(PROMPT, stream=stream))
    assert await said(answer, stream, "content_filter") == ""


# Accounts


@streamed_and_not
async def test_a_bridge_without_accounts_answers_503_no_account(stream: bool, arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", sessions=()) as bridge:
        answer = await bridge.post(bridge.chat(PROMPT, stream=stream))
        await hold(answer)
        error = (await answer.json())["error"]
        assert (answer.status, error["type"], error["code"]) == (503, UPSTREAM, "no_account")
        assert (answer.headers["x-bridge-reason"], answer.headers["x-should-retry"]) == ("no_account", "false")
        assert "lmarena-bridge accounts add" in error["message"]
        assert answers_asked(arena) == 0


async def test_an_expired_account_is_marked_and_not_used_again(arena: Arena, tmp_path: Path) -> None:
    ada, bob = arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org")
    async with running_bridge(arena, tmp_path / "state", sessions=(ada, bob)) as bridge:
        arena.expire(ada)
        for _ in range(3):
            answer = await bridge.post(bridge.chat(PROMPT))
            assert await said(answer, stream=False) == TEXT
        assert {account.label: account.expired for account in bridge.state.pool} == {ada.email: True, bob.email: False}
        assert sum(call.refusal is not None for call in arena.calls) == 1


async def test_retry_after_is_the_shortest_cooldown_if_all_accounts_are_on_cooldown(
    arena: Arena, tmp_path: Path
) -> None:
    ada, bob = arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org")
    async with running_bridge(arena, tmp_path / "state", sessions=(ada, bob)) as bridge:
        arena.faults.arm("rate_limited", account=ada.user_id, retry_after="90")
        arena.faults.arm("rate_limited", account=bob.user_id, retry_after="15")
        for asked in (2, 2):  # the second request finds them on cooldown
            answer = await bridge.post(bridge.chat(PROMPT))
            assert (answer.status, (await answer.json())["error"]["code"]) == (429, "upstream_rate_limited")
            assert answer.headers["Retry-After"] == "15"
            assert answers_asked(arena) == asked


async def test_a_rate_limited_account_is_replaced_by_another(arena: Arena, tmp_path: Path) -> None:
    sessions = (arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org"))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        arena.faults.arm("rate_limited")
        answer = await bridge.post(bridge.chat(PROMPT))
        assert await said(answer, stream=False) == TEXT
        first, second = (call.account for call in arena.calls if call.kind == "create")
        assert first != second


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
async def test_a_rotated_cookie_is_used_and_saved(pieces: bool, arena: Arena, tmp_path: Path) -> None:
    session = arena.sign_in()
    async with running_bridge(arena, tmp_path / "state", sessions=(session,)) as bridge:
        before = session.cookie_value
        arena.faults.arm("rotate_cookie", pieces=pieces)
        for _ in range(2):  # by the second request the old cookie is invalid
            assert await said(await bridge.post(bridge.chat(PROMPT)), stream=False) == TEXT
        assert session.cookie_value != before
    assert session.cookie_value in (tmp_path / "state" / "accounts.json").read_text()


# The site as a whole


PAGE_FAULTS = {
    "challenge": ("challenge", "challenge", "challenge page"),
    "server error": ("server_error", "upstream_error", "500"),
    "no models in it": ("html", "upstream_error", ""),
    "redirect": ("redirect", "upstream_error", "elsewhere"),
}


@streamed_and_not
@pytest.mark.parametrize(("fault", "reason", "says"), PAGE_FAULTS.values(), ids=PAGE_FAULTS)
async def test_unreadable_model_lists_are_a_503_models_unavailable(
    fault: str, reason: str, says: str, stream: bool, arena: Arena, tmp_path: Path
) -> None:
    parameters = {"location": "https://elsewhere.example/"} if fault == "redirect" else {}
    for on in ("page", "catalog"):
        arena.faults.arm(fault, None, on=on, **parameters)
    async with running_bridge(arena, tmp_path / "state") as bridge:
        answer = await bridge.post(bridge.chat(PROMPT, stream=stream))
        await hold(answer)
        error = (await answer.json())["error"]
        assert (answer.status, error["type"], error["code"]) == (503, UPSTREAM, "models_unavailable")
        assert (answer.headers["x-bridge-reason"], answer.headers["x-should-retry"]) == (reason, "false")
        assert says in error["message"]
        assert answers_asked(arena) == 0


async def test_an_unreachable_site_is_reported_until_it_answers_again(tmp_path: Path) -> None:
    arena = Arena(port=unused_port())
    async with arena, running_bridge(arena, tmp_path / "state") as bridge:
        await (await bridge.post(bridge.chat(PROMPT))).read()
        await arena.stop()
        answer = await bridge.post(bridge.chat(PROMPT))
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (502, "upstream_error")
        assert answer.headers["x-bridge-reason"] == "unreachable"
        assert "cannot be reached" in error["message"]
        await arena.start()
        assert await said(await bridge.post(bridge.chat(PROMPT)), stream=False) == TEXT


CHANGED = {name: row for name, row in BEFORE_THE_ANSWER.items() if row.reason == "site_changed"}


@pytest.mark.parametrize("row", CHANGED.values(), ids=CHANGED)
async def test_a_changed_site_is_reported_as_such_and_opens_no_circuit(row: Row, arena: Arena, tmp_path: Path) -> None:
    sessions = (arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org"))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        arena.faults.arm(row.fault, None, **row.parameters)
        for asked in range(1, FAILURES_TO_OPEN + 2):
            answer = await bridge.post(bridge.chat(PROMPT))
            message = (await answer.json())["error"]["message"]
            assert answer.status == 502
            assert message.endswith(
                "The site has changed: the bridge may need an update. Run lmarena-bridge check for details."
            )
            assert answers_asked(arena) == asked
        assert len(bridge.state.pool.usable("chat")) == len(sessions)


@streamed_and_not
async def test_the_circuit_opens_after_several_failed_requests_in_a_row(
    stream: bool, arena: Arena, tmp_path: Path
) -> None:
    async with running_bridge(arena, tmp_path / "state", {"upstream": {"max_attempts": 1}}) as bridge:
        arena.faults.arm("server_error", None)
        for _ in range(FAILURES_TO_OPEN):
            assert (await bridge.post(bridge.chat(PROMPT, stream=stream))).status == 502
        answer = await bridge.post(bridge.chat(PROMPT, stream=stream))
        await hold(answer)
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (503, "upstream_error")
        assert 1 <= int(answer.headers["Retry-After"]) <= 5
        assert answers_asked(arena) == FAILURES_TO_OPEN


async def test_rejected_requests_open_no_circuit(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", {"upstream": {"max_attempts": 1}}) as bridge:
        arena.faults.arm("rejected", FAILURES_TO_OPEN + 1)
        for _ in range(FAILURES_TO_OPEN + 1):
            assert (await bridge.post(bridge.chat(PROMPT))).status == 400
        assert await said(await bridge.post(bridge.chat(PROMPT)), stream=False) == TEXT


@pytest.mark.parametrize("fault", ["challenge", "blocked", "recaptcha"])
async def test_a_challenge_or_block_marks_no_account_and_ends_with_the_next_answer(
    fault: str, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm(fault)
    assert (await bridge.post(bridge.chat(PROMPT))).status == 503
    assert len(bridge.state.pool.usable("chat")) == 1
    assert await said(await bridge.post(bridge.chat(PROMPT)), stream=False) == TEXT


async def test_retries_of_a_failing_upstream_stay_within_the_budget(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("model_failed_first", None)
    requests = 20
    answers = await asyncio.gather(*(bridge.post(bridge.chat(f"{PROMPT} {number}")) for number in range(requests)))
    assert {answer.status for answer in answers} == {502}
    assert requests < answers_asked(arena) <= 1.2 * requests + 3


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_a_redirect_within_the_origins_is_followed(status: int, arena: Arena, tmp_path: Path) -> None:
    async with moved_to(arena, status) as old:
        upstream = {"base_url": str(old.make_url("")).rstrip("/"), "origins": [arena.origin]}
        async with running_bridge(arena, tmp_path / "state", {"upstream": upstream}) as bridge:
            answer = await bridge.post(bridge.chat(PROMPT))
            assert await said(answer, stream=False) == TEXT
            assert answer.headers["x-bridge-evaluation"].startswith(f"{arena.origin}/c/")


@asynccontextmanager
async def moved_to(arena: Arena, status: int) -> AsyncIterator[BaseTestServer]:
    """A server at the site's old origin, which redirects to the new one."""

    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": arena.origin + request.path_qs})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", redirect)
    async with TestServer(app) as server:
        yield server


async def test_cookies_are_not_sent_outside_the_allowed_origins(arena: Arena, bridge: RunningBridge) -> None:
    async with Arena() as elsewhere:
        arena.faults.arm("redirect", location=f"{elsewhere.origin}/nextjs-api/stream/create-evaluation")
        answer = await bridge.post(bridge.chat(PROMPT))
        assert (answer.status, (await answer.json())["error"]["code"]) == (502, "upstream_redirect")
        assert not elsewhere.calls


# Reading answers


async def said(answer: Any, stream: bool, finish: str = "stop") -> str:
    """The text of a complete answer."""
    if not stream:
        (choice,) = (await answer.json())["choices"]
        assert choice["finish_reason"] == finish
        return str(choice["message"]["content"])
    *chunks, done = frames(await answer.read())
    assert done == DONE
    read = [json.loads(data) for data in chunks]
    assert [choice["finish_reason"] for choice in read[-1]["choices"]] == [finish]
    return text_of(read)


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
