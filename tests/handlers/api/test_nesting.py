"""JSON that is nested too deeply to be written: in schemas, tool calls and models' answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from running import RunningBridge

#: Depths around what orjson can write (254 levels), and near what it can read (1,024).
DEPTHS = (199, 200, 201, *range(244, 256), 300, 900)


def text(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


def nested(depth: int) -> Any:
    return orjson.loads(text(depth))


def call_of(arguments: str) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}


CALL = {"type": "tool_use", "id": "1", "name": "f"}

#: What is nested in a request → the path of its API, the fields at some depth, and the field that a 400 names.
REQUESTS: dict[str, tuple[str, Callable[[int], dict[str, Any]], str]] = {
    "a chat's tool": (
        "chat/completions",
        lambda depth: {"tools": [{"type": "function", "function": {"name": "f", "parameters": nested(depth)}}]},
        "tools[0].function.parameters",
    ),
    "a chat's schema": (
        "chat/completions",
        lambda depth: {"response_format": {"type": "json_schema", "json_schema": {"schema": nested(depth)}}},
        "response_format.json_schema.schema",
    ),
    "a message's tool": ("messages", lambda depth: {"tools": [{"name": "f", "input_schema": nested(depth)}]}, ""),
    "a call in a message": (
        "messages",
        lambda depth: {
            "messages": [
                {"role": "user", "content": "Look."},
                {"role": "assistant", "content": [{**CALL, "input": nested(depth)}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "/say hi"}]},
            ]
        },
        "",
    ),
    "a response's tool": (
        "responses",
        lambda depth: {"tools": [{"type": "function", "name": "f", "parameters": nested(depth)}]},
        "tools[0].parameters",
    ),
}


def body_of(path: str, bridge: RunningBridge, prompt: str = "/say hi") -> dict[str, Any]:
    turn = [{"role": "user", "content": prompt}]
    kept = {"max_tokens": 10_000} if path == "messages" else {}
    return {"model": bridge.model(), "input" if path == "responses" else "messages": turn, **kept}


async def ask(bridge: RunningBridge, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with bridge.http.post(f"{bridge.base_url}/{path}", json=body, headers=bridge.headers) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize(("path", "nesting", "param"), REQUESTS.values(), ids=REQUESTS)
async def test_a_parameter_that_is_nested_too_deeply_is_named_in_the_error(
    path: str, nesting: Callable[[int], dict[str, Any]], param: str, bridge: RunningBridge
) -> None:
    seen = set()
    for depth in DEPTHS:
        status, said = await ask(bridge, path, {**body_of(path, bridge), **nesting(depth)})
        seen.add(status)
        if depth >= 250:
            assert (status, said["error"].get("param") or "") == (400, param)
            assert "nested too deeply" in said["error"]["message"]
    assert seen <= {200, 400, 502}


async def test_tool_calls_in_a_history_may_be_nested_deeply(bridge: RunningBridge) -> None:
    """Their arguments are strings, which need not be JSON at all."""
    for depth in DEPTHS:
        turns = [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": None, "tool_calls": [call_of(text(depth))]},
            {"role": "tool", "tool_call_id": "call_1", "content": "/say hi"},
        ]
        assert (await ask(bridge, "chat/completions", {"model": bridge.model(), "messages": turns}))[0] == 200


OFFERED = {
    "chat/completions": {"type": "function", "function": {"name": "f"}},
    "messages": {"name": "f", "input_schema": {"type": "nonsense"}},
    "responses": {"type": "function", "name": "f"},
}


@pytest.mark.parametrize("path", OFFERED)
async def test_a_models_tool_call_that_is_nested_too_deeply_causes_no_error(path: str, bridge: RunningBridge) -> None:
    for depth in DEPTHS:
        written = f'<tool_call>\n{{"name": "f", "arguments": {text(depth)}}}\n</tool_call>'
        body = {**body_of(path, bridge, f"/say {written}"), "tools": [OFFERED[path]]}
        status, said = await ask(bridge, path, body)
        assert (status, "internal" in str(said)) == (200, False)
