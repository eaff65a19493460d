"""Everything that can go wrong, as the anthropic SDK and the Messages API report it.

Until the answer has begun, an error has its true status, streamed or not. After that, a stream ends in `event: error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import orjson
import pytest
from caller import calling
from request_log import RequestLog
from running import Overrides, RunningBridge, running_bridge
from site_faults import MAY_BE_REPEATED

from upstream.arena import Arena, Line, Step, Turn, Until

PROMPT = "/say one two three four five"
FIRST_DELTAS = "one two "  # what has been sent when a fault strikes in the middle
LOGIN = ("stream", "me")  # both kinds of call must refuse the login

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def client(bridge: RunningBridge) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=bridge.origin, api_key=bridge.key, max_retries=0)


@pytest.fixture
async def sdk(bridge: RunningBridge) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with client(bridge) as sdk:
        yield sdk


def body(bridge: RunningBridge, **more: Any) -> dict[str, Any]:
    return {"max_tokens": 100, **bridge.chat(PROMPT), **more}


async def failure(sdk: anthropic.AsyncAnthropic, stream: bool, **asked: Any) -> anthropic.APIStatusError:
    """The error that the SDK raises before an answer."""
    with pytest.raises(anthropic.APIStatusError) as raised:
        await sdk.messages.create(**asked, stream=stream)
    return raised.value


def assert_is_said(error: anthropic.APIStatusError, kind: str) -> None:
    """Check that the error's body has the API's format, and the same request id as the header."""
    assert error.type == kind
    assert error.request_id
    assert isinstance(error.body, dict)
    assert error.body.keys() == {"type", "error", "request_id"}
    assert (error.body["type"], error.body["request_id"]) == ("error", error.request_id)


@dataclass(frozen=True, slots=True)
class Row:
    """A fault, and the expected error: the SDK's class, the type, the status and the reason."""

    fault: str
    error: type[anthropic.APIStatusError]
    type: str
    status: int
    reason: str
    parameters: dict[str, Any] = field(default_factory=dict)
    on: tuple[str, ...] = ("stream",)


BEFORE_THE_ANSWER = {
    "challenge": Row("challenge", anthropic.OverloadedError, "overloaded_error", 529, "challenge"),
    "blocked": Row("blocked", anthropic.OverloadedError, "overloaded_error", 529, "blocked"),
    "expired": Row("expired", anthropic.OverloadedError, "overloaded_error", 529, "no_account", on=LOGIN),
    "429": Row(
        "rate_limited", anthropic.RateLimitError, "rate_limit_error", 429, "rate_limited", {"retry_after": "3600"}
    ),
    "400": Row("rejected", anthropic.BadRequestError, "invalid_request_error", 400, "rejected"),
    "422": Row("moderated", anthropic.BadRequestError, "invalid_request_error", 400, "moderated"),
    "500": Row("server_error", anthropic.InternalServerError, "api_error", 502, "upstream_error"),
    "504": Row("server_error", anthropic.GatewayTimeoutError, "timeout_error", 504, "timeout", {"status": 504}),
    "reset": Row("reset_before_headers", anthropic.InternalServerError, "api_error", 502, "upstream_error"),
    "a page": Row("html", anthropic.InternalServerError, "api_error", 502, "upstream_error"),
    "nothing there": Row("not_found", anthropic.InternalServerError, "api_error", 502, "site_changed"),
    "a3 first": Row("model_failed_first", anthropic.InternalServerError, "api_error", 502, "upstream_error"),
    "nothing said": Row("eof_middle", anthropic.InternalServerError, "api_error", 502, "truncated", {"after": 0}),
    "silence": Row("no_headers", anthropic.GatewayTimeoutError, "timeout_error", 504, "timeout"),
}


def patience(fault: str) -> Overrides:
    """The timeouts of a silent upstream: short only for faults after which nothing more comes."""
    seconds = 0.3 if fault in ("no_headers", "silent_middle") else 60.0
    return {"upstream": {"first_byte_timeout": seconds, "idle_timeout": seconds}}


@streamed_and_not
@pytest.mark.parametrize("row", BEFORE_THE_ANSWER.values(), ids=BEFORE_THE_ANSWER)
async def test_a_failure_before_the_answer_has_its_true_status(
    row: Row, stream: bool, arena: Arena, tmp_path: Path
) -> None:
    async with running_bridge(arena, tmp_path / "state", patience(row.fault)) as bridge, client(bridge) as sdk:
        await bridge.logins_checked()
        for on in row.on:
            arena.faults.arm(row.fault, None, on=on, **row.parameters)
        error = await failure(sdk, stream, **body(bridge))
        assert (type(error), error.status_code) == (row.error, row.status)
        assert_is_said(error, row.type)
        assert error.response.headers["x-bridge-reason"] == row.reason
        assert ("retry-after" in error.response.headers) == (row.status == 429)
        assert bridge.calls_held == 0


IN_THE_MIDDLE = {
    "a3": ("model_failed_middle", "api_error", "upstream_error"),
    "clean end without a finish": ("eof_middle", "api_error", "truncated"),
    "reset": ("reset_middle", "api_error", "truncated"),
    "broken JSON": ("broken_json", "api_error", "upstream_error"),
    "silence": ("silent_middle", "timeout_error", "timeout"),
}


@pytest.mark.parametrize(("fault", "kind", "reason"), IN_THE_MIDDLE.values(), ids=IN_THE_MIDDLE)
async def test_a_failure_in_mid_stream_raises_after_the_text_so_far(
    fault: str, kind: str, reason: str, arena: Arena, tmp_path: Path, request_log: RequestLog
) -> None:
    async with running_bridge(arena, tmp_path / "state", patience(fault)) as bridge, client(bridge) as sdk:
        arena.faults.arm(fault, None)
        async with sdk.messages.stream(**body(bridge)) as answer:
            with pytest.raises(anthropic.APIStatusError) as raised:
                await answer.until_done()
            said = "".join(block.text for block in answer.current_message_snapshot.content if block.type == "text")
        assert (raised.value.response.status_code, raised.value.type, said) == (200, kind, FIRST_DELTAS)
        assert MAY_BE_REPEATED in raised.value.message
        assert (await request_log.line())["reason"] == reason
        whole = await failure(sdk, False, **body(bridge))
        assert_is_said(whole, kind)
        await request_log.line()

        arena.faults.clear()
        history = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": said}]
        asked = body(bridge, messages=[*history, {"role": "user", "content": "go on"}])
        answered = await sdk.messages.with_raw_response.create(**asked)
        assert answered.headers["x-bridge-conversation"].startswith("new; why=unknown")


async def test_a_broken_stream_ends_with_a_single_error_event(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("model_failed_middle", None, message="Out of capacity")
    url = f"{bridge.base_url}/messages"
    async with bridge.http.post(url, json=body(bridge, stream=True), headers=bridge.headers) as answer:
        events = (await answer.read()).decode().split("\n\n")
    name, data = events[-2].split("\n")
    assert (name, events[-1], answer.status) == ("event: error", "", 200)
    error = orjson.loads(data.removeprefix("data: "))
    assert (error["type"], error["error"]["type"]) == ("error", "api_error")
    assert "Out of capacity" in error["error"]["message"]
    assert not any("message_stop" in event for event in events)


@pytest.mark.parametrize("kind", ["comment", "chunk"])
async def test_pings_are_sent_while_upstream_is_slow(kind: str, arena: Arena, tmp_path: Path) -> None:
    say = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Until(say)
        yield Line("a0", "hello")
        yield Line("ad", {"finishReason": "stop"})

    arena.script = script
    stream = {"stream": {"keepalive": kind, "keepalive_seconds": 0.1}}
    async with (
        asyncio.timeout(20),
        running_bridge(arena, tmp_path / "state", stream) as bridge,
        calling(bridge.origin, bridge.key, path="/v1/messages") as caller,
    ):
        await caller.ask(body(bridge, stream=True))
        before = await caller.sees(b'event: ping\ndata: {"type":"ping"}\n\n')
        assert (b"message_start" in before) == (kind == "chunk")
        say.set()
        rest = await caller.sees(b'{"type":"message_stop"}')
        assert (before + rest).count(b"event: message_start") == 1
        assert b'"hello"' in rest


async def test_the_sdk_skips_pings(arena: Arena, tmp_path: Path) -> None:
    say = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Until(say)
        yield Line("a0", "hello")
        yield Line("ad", {"finishReason": "stop"})

    arena.script = script
    stream = {"stream": {"keepalive_seconds": 0.05}}
    async with (
        running_bridge(arena, tmp_path / "state", stream) as bridge,
        client(bridge) as sdk,
        sdk.messages.stream(**body(bridge)) as answer,  # the first ping has come with the status
    ):
        say.set()
        assert await answer.get_final_text() == "hello"


# Before any model is asked


async def test_a_wrong_key_is_an_authentication_error(bridge: RunningBridge, sdk: anthropic.AsyncAnthropic) -> None:
    sdk.api_key = "sk-wrong"
    for asked in (body(bridge), body(bridge, stream=True)):
        with pytest.raises(anthropic.AuthenticationError) as raised:
            await sdk.messages.create(**asked)
        assert_is_said(raised.value, "authentication_error")
    with pytest.raises(anthropic.AuthenticationError) as raised:
        await sdk.messages.count_tokens(model="a", messages=[{"role": "user", "content": "hi"}])
    assert_is_said(raised.value, "authentication_error")
    with pytest.raises(anthropic.AuthenticationError) as raised:
        await sdk.models.list()
    assert_is_said(raised.value, "authentication_error")


async def test_an_unknown_model_is_a_not_found_error(bridge: RunningBridge, sdk: anthropic.AsyncAnthropic) -> None:
    near = bridge.model() + "x"
    with pytest.raises(anthropic.NotFoundError) as raised:
        await sdk.messages.create(**body(bridge, model=near))
    assert_is_said(raised.value, "not_found_error")
    assert repr(bridge.model()) in raised.value.message
    assert "[models.aliases]" in raised.value.message
    with pytest.raises(anthropic.NotFoundError) as raised:
        await sdk.messages.count_tokens(model=near, messages=[{"role": "user", "content": "hi"}])
    assert_is_said(raised.value, "not_found_error")
    with pytest.raises(anthropic.NotFoundError) as raised:
        await sdk.models.retrieve(near)
    assert_is_said(raised.value, "not_found_error")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a thread": ({"thread": {"type": "create"}}, "whole history"),
    "a container": ({"container": "a"}, "container"),
    "MCP servers": ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
    "no max_tokens": ({"max_tokens": None}, "max_tokens"),
}


@pytest.mark.parametrize(("more", "says"), REFUSED.values(), ids=REFUSED)
async def test_unsupported_requests_are_refused_with_an_explanation(
    more: dict[str, Any], says: str, bridge: RunningBridge, sdk: anthropic.AsyncAnthropic
) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        await sdk.messages.create(**body(bridge), extra_body=more)
    assert_is_said(raised.value, "invalid_request_error")
    assert says in raised.value.message
    assert raised.value.error_code == ("thread_unsupported_request" if "thread" in more else None)


@streamed_and_not
async def test_a_prompt_that_is_too_long_is_refused_in_the_vendors_words(
    stream: bool, arena: Arena, bridge: RunningBridge, sdk: anthropic.AsyncAnthropic
) -> None:
    error = await failure(sdk, stream, **body(bridge, messages=[{"role": "user", "content": "a word " * 20_000}]))
    assert_is_said(error, "invalid_request_error")
    found = orjson.loads(error.response.content)["error"]["message"].split()
    assert " ".join(found).startswith("prompt is too long: ")
    assert (found[5:7], found[8:]) == (["tokens", ">"], ["maximum"])
    assert int(found[4]) > int(found[7])
    assert arena.chats == []


async def test_a_body_that_is_too_large_is_a_413(arena: Arena, tmp_path: Path) -> None:
    small = {"server": {"max_body_bytes": 1024 * 1024}}
    async with running_bridge(arena, tmp_path / "state", small) as bridge, client(bridge) as sdk:
        with pytest.raises(anthropic.APIStatusError) as raised:
            await sdk.messages.create(**body(bridge, messages=[{"role": "user", "content": "a" * 2 * 1024 * 1024}]))
        assert raised.value.status_code == 413
        assert_is_said(raised.value, "request_too_large")


PATHS = {
    "nothing there": ("POST", "/v1/messages/nope", 404, "not_found_error", None),
    "nothing there, below /api": ("GET", "/api/v1/messages/a/b", 404, "not_found_error", None),
    "batches": ("POST", "/v1/messages/batches", 404, "not_found_error", None),
    "another method": ("GET", "/v1/messages", 405, "invalid_request_error", "POST"),
    "another method of counting": ("PUT", "/v1/messages/count_tokens", 405, "invalid_request_error", "POST"),
}


@pytest.mark.parametrize(("method", "path", "status", "kind", "allow"), PATHS.values(), ids=PATHS)
async def test_unknown_paths_are_errors_in_the_form_of_the_messages_api(
    method: str, path: str, status: int, kind: str, allow: str | None, bridge: RunningBridge
) -> None:
    async with bridge.http.request(method, bridge.origin + path) as answer:
        said = await answer.json()
        assert (answer.status, said["type"], said["error"]["type"]) == (status, "error", kind)
        assert said["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
        assert answer.headers.get("Allow") == allow


async def test_errors_of_shared_paths_have_the_form_of_the_callers_api(bridge: RunningBridge) -> None:
    for headers, form in (({}, {"error"}), ({"anthropic-version": "2023-06-01"}, {"type", "error", "request_id"})):
        for path in ("/v1/models", "/v1/files"):
            async with bridge.http.get(bridge.origin + path, headers=headers) as answer:
                assert (answer.status, (await answer.json()).keys()) == (401 if path == "/v1/models" else 404, form)


async def test_malformed_bodies_are_refused(bridge: RunningBridge) -> None:
    for sent in (b"{", b"[]", b'{"max_tokens":1}'):
        url = f"{bridge.base_url}/messages"
        async with bridge.http.post(url, data=sent, headers=bridge.headers) as answer:
            said = await answer.json()
            assert (answer.status, said["type"], said["error"]["type"]) == (400, "error", "invalid_request_error")
