"""docs/behaviour.md, "Errors": a key over its rpm or concurrency, a full daemon, and the headers about limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from leaving import nobody_returns
from request_log import RequestLog
from running import RunningBridge, api_key, running_bridge

from bridge.access import keys
from bridge.access.keys import KeyRing
from upstream.arena import Arena, Line, Step, Turn, Until

PROMPT = "/say hello"

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


class Holding:
    """A model that sends the beginning of its answer, and the rest when it is released."""

    def __init__(self) -> None:
        self.asked = asyncio.Semaphore(0)
        self.release = asyncio.Event()

    def __call__(self, _: Turn) -> Iterator[Step]:
        self.asked.release()
        yield Line("a0", "hel")
        yield Until(self.release)
        yield Line("a0", "lo")
        yield Line("ad", {"finishReason": "stop"})


@asynccontextmanager
async def occupied(bridge: RunningBridge, calls: int) -> AsyncIterator[None]:
    """Keep this many calls running within the context; afterwards they must succeed."""
    model = bridge.arena.script = Holding()
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(bridge.post(bridge.chat(f"{PROMPT} {at}"))) for at in range(calls)]
        for _ in running:
            await model.asked.acquire()
        yield
        model.release.set()
    assert [caller.result().status for caller in running] == [200] * calls
    bridge.arena.script = None


@streamed_and_not
async def test_a_request_above_the_rpm_of_its_key_is_429(stream: bool, arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", key_options={"rpm": 2}) as bridge:
        for remaining in ("1", "0"):
            answer = await bridge.post(bridge.chat(PROMPT, stream=stream))
            assert (answer.status, limits_told(answer.headers)) == (200, ("2", remaining, "1m0s"))
            await answer.read()
        answer = await bridge.post(bridge.chat(PROMPT, stream=stream))
        error = (await answer.json())["error"]
        assert (answer.status, error["type"], error["code"]) == (429, "rate_limit_error", "rate_limit_exceeded")
        assert "2 requests in a minute" in error["message"]
        assert answer.headers["x-bridge-reason"] == "rate_limited"
        assert 58 <= int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["x-should-retry"] == "false"  # above 20 s, an SDK had better give up
        assert limits_told(answer.headers)[:2] == ("2", "0")
        assert len(arena.chats) == 2


def limits_told(headers: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(headers[f"x-ratelimit-{what}-requests"] for what in ("limit", "remaining", "reset"))


async def test_a_key_without_an_rpm_uses_limits_rpm(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", {"limits": {"rpm": 1}}, key_options={"rpm": None}) as bridge:
        assert [(await bridge.post(bridge.chat(PROMPT))).status for _ in range(2)] == [200, 429]


async def test_bad_requests_count_towards_the_rpm_but_the_list_of_models_does_not(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", key_options={"rpm": 1}) as bridge:
        for _ in range(3):
            assert (await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)).status == 200
        assert (await bridge.post(b"{}")).status == 400
        assert (await bridge.post(bridge.chat(PROMPT))).status == 429


async def test_each_key_has_a_separate_rpm(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", key_options={"rpm": 1}) as bridge:
        secret, other = api_key(rpm=None)
        bridge.state.keys = KeyRing(keys.add(bridge.state.keys, other))
        assert [(await bridge.post(bridge.chat(PROMPT))).status for _ in range(2)] == [200, 429]
        answer = await bridge.post(bridge.chat(PROMPT), headers={"Authorization": f"Bearer {secret}"})
        assert (answer.status, answer.headers["x-ratelimit-limit-requests"]) == (200, "60")


@streamed_and_not
async def test_a_request_above_the_concurrency_of_its_key_is_429(stream: bool, arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", key_options={"concurrency": 2}) as bridge:
        async with occupied(bridge, 2):
            answer = await bridge.post(bridge.chat(PROMPT, stream=stream))
            error = (await answer.json())["error"]
            assert (answer.status, error["type"], error["code"]) == (429, "rate_limit_error", "rate_limit_exceeded")
            assert "2 requests at the same time" in error["message"]
            assert (answer.headers["x-bridge-reason"], answer.headers["Retry-After"]) == ("rate_limited", "1")
            assert "x-should-retry" not in answer.headers
            assert limits_told(answer.headers)[:2] == ("1000000", "999998")  # the refused call took no slot
        assert (await bridge.post(bridge.chat(PROMPT))).status == 200


@streamed_and_not
async def test_a_request_above_limits_streams_is_503(stream: bool, arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", {"limits": {"streams": 1}}) as bridge:
        async with occupied(bridge, 1):
            answer = await bridge.post(bridge.chat(PROMPT, stream=stream))
            error = (await answer.json())["error"]
            assert (answer.status, error["type"], error["code"]) == (503, "server_error", "overloaded")
            assert "limits.streams" in error["message"]
            assert answer.headers["Retry-After"] == "1"
            assert "x-should-retry" not in answer.headers
        assert (await bridge.post(bridge.chat(PROMPT))).status == 200


GIVES_BACK: dict[str, dict[str, Any]] = {
    "a bad request": {"temperature": "hot"},
    "an unknown model": {"model": "nobody"},
    "a model that fails": {"messages": [{"role": "user", "content": "/fail"}]},
    "an answer": {},
}


@streamed_and_not
@pytest.mark.parametrize("body", GIVES_BACK.values(), ids=GIVES_BACK)
async def test_a_slot_is_released_however_a_call_ends(
    body: dict[str, Any], stream: bool, arena: Arena, tmp_path: Path, request_log: RequestLog
) -> None:
    async with running_bridge(arena, tmp_path / "state", key_options={"concurrency": 1}) as bridge:
        for _ in range(3):
            answer = await bridge.post(bridge.chat(PROMPT, **{"stream": stream, **body}))
            await answer.read()
            assert answer.status != 429
            await request_log.line()
            assert bridge.calls_held == 0


@streamed_and_not
async def test_a_slot_is_released_when_the_caller_disconnects(
    stream: bool, arena: Arena, tmp_path: Path, request_log: RequestLog
) -> None:
    async with running_bridge(arena, tmp_path / "state", key_options={"concurrency": 1}) as bridge:
        model = arena.script = Holding()
        async with asyncio.TaskGroup() as group:
            caller = group.create_task(bridge.post(bridge.chat(PROMPT, stream=stream)))
            await model.asked.acquire()
            if stream:
                (await caller).close()
            else:
                caller.cancel()
        await nobody_returns(bridge)
        assert (await request_log.line())["reason"] == "client_gone"
        await arena.chats[-1].closed.wait()
        assert bridge.calls_held == 0
        arena.script = None
        assert (await bridge.post(bridge.chat(PROMPT))).status == 200
