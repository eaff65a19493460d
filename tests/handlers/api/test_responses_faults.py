"""The site's faults as the Responses API reports them: a true status before the answer, `response.failed` within it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from described import hold
from leaving import nobody_returns
from response_events import events_of, read_events
from running import RunningBridge, running_bridge
from site_faults import (
    BEFORE_THE_ANSWER,
    FIRST_DELTAS,
    HARMLESS,
    IN_THE_MIDDLE,
    MAY_BE_REPEATED,
    PROMPT,
    TEXT,
    Break,
    Row,
    answered_by,
)

from handlers.request.appkeys import CLIENT, STORED_RESPONSES
from upstream.arena import Arena, Line, Step, Turn, Until

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def asked(bridge: RunningBridge, *, stream: bool) -> dict[str, object]:
    return {"model": bridge.model(), "input": PROMPT, "stream": stream}


def nothing_stays(bridge: RunningBridge) -> bool:
    """Whether no response is stored, and no slot or account is held."""
    return len(bridge.app[STORED_RESPONSES]) == 0 and bridge.calls_held == 0


@streamed_and_not
@pytest.mark.parametrize("row", BEFORE_THE_ANSWER.values(), ids=BEFORE_THE_ANSWER)
async def test_a_failure_before_the_answer_has_its_true_status_and_reason(
    row: Row, stream: bool, arena: Arena, tmp_path: Path
) -> None:
    async with answered_by(arena, tmp_path, row) as bridge:
        url = f"{bridge.base_url}/responses"
        async with bridge.http.post(url, json=asked(bridge, stream=stream), headers=bridge.headers) as answer:
            await hold(answer)
            error = (await answer.json())["error"]
            assert (answer.status, error["type"], error["code"], error["param"]) == (
                row.status,
                row.type,
                row.code,
                None,
            )
            assert answer.headers["x-bridge-reason"] == row.reason
            assert answer.headers.get("Retry-After") == row.retry_after
            assert answer.headers.get("x-should-retry") == row.should_retry
        assert row.says in error["message"]
        assert len(arena.chats) == row.calls
        assert nothing_stays(bridge)


@pytest.mark.parametrize("row", IN_THE_MIDDLE.values(), ids=IN_THE_MIDDLE)
@streamed_and_not
async def test_a_failure_in_mid_answer_is_a_failed_response(
    row: Break, stream: bool, arena: Arena, tmp_path: Path
) -> None:
    async with running_bridge(arena, tmp_path, row.overrides) as bridge:
        arena.faults.arm(row.fault, None, **row.parameters)
        url = f"{bridge.base_url}/responses"
        async with bridge.http.post(url, json=asked(bridge, stream=stream), headers=bridge.headers) as answer:
            if stream:
                told = read_events(events_of(await hold(answer)))
                assert (answer.status, told.text, told.end) == (200, FIRST_DELTAS, "response.failed")
                assert (told.broken_off, told.items) == (True, [])
                error = told.response["error"]
                assert error["code"] == "server_error"
                assert f"{MAY_BE_REPEATED} ({row.code}, {row.reason})" in error["message"]
            else:
                error = (await answer.json())["error"]
                assert (answer.status, error["code"]) == (row.status, row.code)
                assert answer.headers["x-bridge-reason"] == row.reason
        assert row.says in error["message"]
        assert len(arena.chats) == 1
        assert nothing_stays(bridge)


@pytest.mark.parametrize("name", ["a finish without a reason", "length", "content-filter", "two finishes", "CR LF"])
@streamed_and_not
async def test_harmless_oddities_of_the_site_leave_the_response_intact(
    name: str, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    fault, parameters, finish = HARMLESS[name]
    arena.faults.arm(fault, **parameters)
    url = f"{bridge.base_url}/responses"
    async with bridge.http.post(url, json=asked(bridge, stream=stream), headers=bridge.headers) as answer:
        response = read_events(events_of(await answer.read())).response if stream else await answer.json()
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    assert response["status"] == ("incomplete" if finish in reasons else "completed")
    assert (response["incomplete_details"] or {}).get("reason") == reasons.get(finish)
    assert response["output"][0]["content"][0]["text"] == TEXT
    assert len(bridge.app[STORED_RESPONSES]) == 1


async def test_an_error_after_a_keepalive_is_a_failed_response(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(
        arena, tmp_path, {"upstream": {"first_byte_timeout": 0.5}, "stream": {"keepalive_seconds": 0.1}}
    ) as bridge:
        arena.faults.arm("no_headers", None)
        url = f"{bridge.base_url}/responses"
        async with bridge.http.post(url, json=asked(bridge, stream=True), headers=bridge.headers) as answer:
            assert await answer.content.readuntil(b"\n\n") == b": keep-alive\n\n"
            told = read_events(events_of(await hold(answer)))
        assert (answer.status, told.end, told.items) == (200, "response.failed", [])
        assert "(upstream_timeout, timeout)" in told.response["error"]["message"]
        assert nothing_stays(bridge)


async def test_a_response_whose_caller_left_is_not_stored(arena: Arena, bridge: RunningBridge) -> None:
    arena.script = lambda _: [Line("a0", "one "), Until(asyncio.Event())]
    url = f"{bridge.base_url}/responses"
    async with bridge.http.post(url, json=asked(bridge, stream=True), headers=bridge.headers) as answer:
        await answer.content.readuntil(b'"one "')
        answer.close()
    await nobody_returns(bridge)
    await arena.chats[-1].done.wait()
    assert len(bridge.app[STORED_RESPONSES]) == 0


async def test_a_rate_limited_site_raises_the_sdks_rate_limit_error(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("rate_limited", None, retry_after="7", on="stream")
    with pytest.raises(openai.RateLimitError):
        await bridge.sdk().responses.create(model=bridge.model(), input=PROMPT)


async def test_texts_held_for_the_last_events_of_streams_have_a_common_limit(
    arena: Arena, bridge: RunningBridge
) -> None:
    """The last event of a stream repeats its text, so a streamed response is held in memory like a whole one."""
    held = bridge.app[CLIENT]._memory_budget
    held.limit = 1_000_000

    async def script(_turn: Turn) -> AsyncIterator[Step]:
        for _ in range(150):
            yield Line("a0", "x" * 10_000)
            await asyncio.sleep(0)
        yield Line("ad", {"finishReason": "stop"})

    arena.script = script
    url = f"{bridge.base_url}/responses"
    async with bridge.http.post(url, json=asked(bridge, stream=True), headers=bridge.headers) as answer:
        told = read_events(events_of(await hold(answer)))
    assert (told.end, told.response["error"]["code"]) == ("response.failed", "server_error")
    assert "(overloaded, rate_limited)" in told.response["error"]["message"]
    assert len(told.text) < 1_300_000  # the bound plus one read
    assert held.total == 0
    assert nothing_stays(bridge)
