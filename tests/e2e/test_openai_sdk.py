"""The `openai` package of Python against the bridge: sync and async, streamed and not streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from request_log import RequestLog
from running import Overrides, RunningBridge, running_bridge

from upstream.arena import Arena, Line, Until

PREFIXES = pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])


def user(text: str) -> Any:
    """A history of one message; the SDK's own type for it is a union of TypedDicts."""
    return [{"role": "user", "content": text}]


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    """The content of a streamed answer."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# Answers


@PREFIXES
async def test_the_asynchronous_sdk_streams_completes_and_lists_models(bridge: RunningBridge, prefix: str) -> None:
    sdk = bridge.sdk(base_url=bridge.origin + prefix)
    model, messages = bridge.model(), user("/say wörld 👋")

    chunks = [chunk async for chunk in await sdk.chat.completions.create(model=model, messages=messages, stream=True)]
    completion = await sdk.chat.completions.create(model=model, messages=messages)
    listed = [found async for found in sdk.models.list()]
    retrieved = await sdk.models.retrieve(model)

    check_chunks(chunks, model)
    assert completion.choices[0].message.content == "wörld 👋"
    assert completion.choices[0].finish_reason == "stop"
    assert retrieved in listed


@PREFIXES
async def test_the_synchronous_sdk_streams_completes_and_lists_models(bridge: RunningBridge, prefix: str) -> None:
    model, messages = bridge.model(), user("/say wörld 👋")

    def use() -> tuple[list[ChatCompletionChunk], Any, list[Any], Any]:
        with openai.OpenAI(base_url=bridge.origin + prefix, api_key=bridge.key, max_retries=0) as sdk:
            return (
                list(sdk.chat.completions.create(model=model, messages=messages, stream=True)),
                sdk.chat.completions.create(model=model, messages=messages),
                list(sdk.models.list()),
                sdk.models.retrieve(model),
            )

    chunks, completion, listed, retrieved = await asyncio.to_thread(use)
    check_chunks(chunks, model)
    assert completion.choices[0].message.content == "wörld 👋"
    assert retrieved in listed


def check_chunks(chunks: list[ChatCompletionChunk], model: str) -> None:
    """Check that the chunks stream `wörld 👋` as OpenAI's API would."""
    assert text_of(chunks) == "wörld 👋"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {model}
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1


async def test_include_usage_adds_a_last_chunk_with_the_usage_of_the_answer(bridge: RunningBridge) -> None:
    """An additional chunk without choices has the usage, which is that of the same answer not streamed."""
    create = bridge.sdk().chat.completions.create
    model, messages = bridge.model(), user("/say the same either way")
    stream = await create(model=model, messages=messages, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    completion = await create(model=model, messages=messages)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert completion.usage is not None
    # For the second request the prompt was not sent to the site again, and its usage says so.
    completion.usage.prompt_tokens_details = chunks[-1].usage.prompt_tokens_details
    assert chunks[-1].usage == completion.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_thoughts_arrive_as_reasoning_content_streamed_and_not_streamed(bridge: RunningBridge) -> None:
    create = bridge.sdk().chat.completions.create
    model, messages = bridge.model(), user("/think /say after all")
    chunks = [chunk async for chunk in await create(model=model, messages=messages, stream=True)]
    message = (await create(model=model, messages=messages)).choices[0].message
    assert message.content == text_of(chunks) == "after all"
    thoughts = [getattr(chunk.choices[0].delta, "reasoning_content", "") for chunk in chunks]
    assert "".join(thoughts) == getattr(message, "reasoning_content", None) != ""


async def test_a_broken_stream_raises_the_bridges_error_code_after_the_received_text(
    bridge: RunningBridge, arena: Arena
) -> None:
    arena.faults.arm("model_failed_middle", after=2, message="The model is tired")
    stream = await bridge.sdk().chat.completions.create(model=bridge.model(), messages=user("/count 5"), stream=True)
    assert text_of([await anext(stream) for _ in range(3)]) == "1 2 "
    with pytest.raises(openai.APIError, match="The model is tired") as raised:
        await anext(stream)
    assert raised.value.code == "upstream_error"
    assert raised.value.type == "upstream_error"
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["reason"] == "upstream_error"


# Errors


@dataclass(frozen=True)
class Row:
    """A request that is refused: `fault` is applied to every upstream attempt; the first fields are the refusal."""

    name: str
    error: type[openai.APIStatusError]
    status: int
    code: str
    request: Mapping[str, object] = field(default_factory=dict)
    sdk: Mapping[str, object] = field(default_factory=dict)
    fault: str | None = None
    overrides: Overrides = field(default_factory=dict)
    signed_in: bool = True
    key: Mapping[str, object] = field(default_factory=dict)
    called_before: int = 0


ROWS = (
    Row("no messages", openai.BadRequestError, 400, "invalid_value", {"messages": []}),
    Row("unsupported", openai.BadRequestError, 400, "unsupported_parameter", {"logprobs": True}),
    Row("rejected", openai.BadRequestError, 400, "upstream_rejected", fault="rejected"),
    Row("moderated", openai.BadRequestError, 400, "content_filter", fault="moderated"),
    Row("bad key", openai.AuthenticationError, 401, "invalid_api_key", sdk={"api_key": "sk-lmab-nobody"}),
    Row("stealth", openai.PermissionDeniedError, 403, "model_not_allowed", {"model": "november-fog"}),
    Row("unknown model", openai.NotFoundError, 404, "model_not_found", {"model": "gpt-2"}),
    Row(
        "large body",
        openai.APIStatusError,
        413,
        "request_too_large",
        {"messages": user("x" * 4_000_000)},
        overrides={"server": {"max_body_bytes": 1_000_000}},
    ),
    Row("key's rpm", openai.RateLimitError, 429, "rate_limit_exceeded", key={"rpm": 1}, called_before=1),
    Row("resting", openai.RateLimitError, 429, "upstream_rate_limited", fault="rate_limited"),
    Row("server error", openai.InternalServerError, 502, "upstream_error", fault="server_error"),
    Row("model failed", openai.InternalServerError, 502, "upstream_error", fault="model_failed_first"),
    Row("challenge", openai.InternalServerError, 503, "upstream_challenge", fault="challenge"),
    Row("no account", openai.InternalServerError, 503, "no_account", signed_in=False),
    Row(
        "no first byte",
        openai.InternalServerError,
        504,
        "upstream_timeout",
        fault="no_headers",
        overrides={"upstream": {"first_byte_timeout": 0.1}},
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_each_error_status_raises_its_exception_class(arena: Arena, tmp_path: Path, row: Row) -> None:
    sessions = None if row.signed_in else ()
    async with running_bridge(arena, tmp_path, row.overrides, sessions=sessions, key_options=row.key) as bridge:
        sdk = bridge.sdk(**row.sdk)
        request: dict[str, Any] = {"model": bridge.model(), "messages": user("hello"), **row.request}
        for _ in range(row.called_before):
            await sdk.chat.completions.create(**request)
        if row.fault is not None:
            arena.faults.arm(row.fault, times=None)
        for stream in (True, False):
            with pytest.raises(openai.APIStatusError) as raised:
                await sdk.chat.completions.create(stream=stream, **request)
            error = raised.value
            assert type(error) is row.error
            assert (error.status_code, error.code) == (row.status, row.code)
            assert error.request_id == error.response.headers["x-request-id"]
            assert isinstance(error.body, dict)
            assert error.body["message"]


# Retries by the SDK


@dataclass(frozen=True)
class Repeated:
    """A failure that the SDK must not retry: its status, and how often the bridge makes the upstream call."""

    name: str
    prepare: Callable[[Arena], object]
    status: int
    upstream: int
    overrides: Overrides = field(default_factory=dict)


ALREADY_REPEATED = (
    Repeated("502", lambda arena: arena.faults.arm("server_error", times=None), 502, upstream=2),
    Repeated("503", lambda arena: arena.faults.arm("challenge", times=None), 503, upstream=1),
    Repeated(
        "504",
        lambda arena: arena.faults.arm("no_headers", times=None),
        504,
        upstream=1,
        overrides={"upstream": {"first_byte_timeout": 0.1}},
    ),
    Repeated(
        "429 for long", lambda arena: arena.faults.arm("rate_limited", times=None, retry_after="60"), 429, upstream=1
    ),
)


@pytest.mark.parametrize("row", ALREADY_REPEATED, ids=lambda row: row.name)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_the_sdk_does_not_retry_what_the_bridge_has_already_retried(
    arena: Arena, tmp_path: Path, request_log: RequestLog, row: Repeated, stream: bool
) -> None:
    async with running_bridge(arena, tmp_path, row.overrides) as bridge:
        row.prepare(arena)
        with pytest.raises(openai.APIStatusError) as raised:
            await bridge.sdk(max_retries=2).chat.completions.create(
                model=bridge.model(), messages=user("hello"), stream=stream
            )
    assert raised.value.status_code == row.status
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert [line["status"] for line in request_log.seen] == [row.status]
    assert [call.kind for call in arena.calls].count("create") == row.upstream


async def test_the_sdk_retries_when_the_bridge_is_overloaded(
    arena: Arena, tmp_path: Path, request_log: RequestLog
) -> None:
    """The SDK retries after the delay in the `overloaded` error, when the slot is free."""
    leave = asyncio.Event()
    arena.script = lambda _: [Line("a0", "done"), Until(leave), Line("ad", {"finishReason": "stop"})]
    async with running_bridge(arena, tmp_path, {"limits": {"streams": 1}}) as bridge:
        create = bridge.sdk(max_retries=2).chat.completions.create
        first = await create(model=bridge.model(), messages=user("one"), stream=True)
        second = asyncio.gather(create(model=bridge.model(), messages=user("two")))
        refused = await request_log.line()
        leave.set()
        assert text_of([chunk async for chunk in first]) == "done"
        [completion] = await second
    assert (refused["status"], refused["code"]) == (503, "overloaded")
    assert completion.choices[0].message.content == "done"
    assert [line["status"] for line in request_log.seen] == [503, 200, 200]
