"""/openapi.json: it is valid, describes every route and error and nothing else, and matches real answers."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import described
import jsonschema_rs
import openapi_spec_validator
import orjson
import pytest
from daemon import ROOT
from described import hold, hold_request
from pictures import data_url, png
from running import RunningBridge, running_bridge

from bridge.dialects.openai.errors import error_type
from bridge.error_codes import CODES
from bridge.errors import ApiError
from handlers import dashboard
from handlers.api.operations import TAGS
from upstream.arena import Arena, builtin_models, tool_models

Json = dict[str, Any]


# The document


def test_the_openapi_document_is_valid_and_small() -> None:
    document = described.document()
    openapi_spec_validator.validate(document)
    assert document["openapi"].startswith("3.1.")
    assert len(orjson.dumps(document)) < 200_000


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(found := value.get("$ref"), str):
            yield found
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _references(each)


def test_every_component_is_defined_and_used() -> None:
    document = described.document()
    components = document["components"]
    there = {f"#/components/{kind}/{name}" for kind in ("schemas", "responses", "headers") for name in components[kind]}
    assert set(_references(document)) == there
    assert {tag["name"] for tag in document["tags"]} == {
        tag for _, call in described.calls() for tag in call.operation["tags"]
    }
    ids = Counter(call.operation["operationId"] for _, call in described.calls())
    assert max(ids.values()) == 1
    assert len(TAGS) == len(document["tags"])


async def test_the_openapi_document_has_every_route_and_no_other(bridge: RunningBridge) -> None:
    """It has each method of each path, except the second prefix, HEAD, and the dashboard's own pages."""
    served = set()
    for route in bridge.app.router.routes():
        path = re.sub(r"\{(\w+)[^}]*\}", r"{\1}", route.resource.canonical if route.resource else "")
        if not dashboard.holds(path) and path not in ("", "/") and not path.startswith("/api/v1"):
            served.add((route.method, path))
    assert {(method, call.path) for method, call in described.calls()} == {
        (method, path) for method, path in served if method != "HEAD"
    }
    keyless = {call.path for _, call in described.calls() if not call.operation["security"]}
    for method, call in described.calls():
        path = re.sub(r"\{\w+\}", "any", call.path)
        async with bridge.http.request(method, bridge.origin + path) as answer:
            assert (answer.status != 401) == (call.path in keyless), path
            await hold(answer)


async def test_the_openapi_document_is_public_and_has_an_etag(bridge: RunningBridge) -> None:
    url = f"{bridge.origin}/openapi.json"
    async with bridge.http.get(url) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert orjson.loads(await hold(answer)) == described.document()
        etag = answer.headers["ETag"]
        assert answer.headers["Cache-Control"] == "no-cache"
    for known in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        async with bridge.http.get(url, headers={"If-None-Match": known}) as answer:
            assert (answer.status, await hold(answer)) == (304, b"")
    async with bridge.http.get(url, headers={"If-None-Match": '"another"'}) as answer:
        assert answer.status == 200
    async with bridge.http.head(url) as answer:
        assert (answer.status, answer.headers["ETag"]) == (200, etag)


# Errors


def _rows_of_the_contract() -> set[tuple[int, str, str]]:
    """Status, type and code of each row of the table in docs/behaviour.md."""
    rows = re.findall(
        r"^\|[^|]+\| (\d{3}) \| `(\w+)` \| ([^|]+) \|", (ROOT / "docs/behaviour.md").read_text(), re.MULTILINE
    )
    return {(int(status), type_, code) for status, type_, codes in rows for code in re.findall(r"`(\w+)`", codes)}


def test_the_contract_lists_the_same_errors() -> None:
    cors = (405, "invalid_request_error", "cors_origin_not_allowed")  # only for OPTIONS, which the document leaves out
    assert {
        (row.status, error_type(ApiError(row.status, row.code, "")), row.code) for row in CODES
    } == _rows_of_the_contract() - {cors}


#: Errors of the dashboard's own pages and of preflights.
_ELSEWHERE = {"refused", "not_saved", "too_slow", "cors_origin_not_allowed"}
#: The functions that create errors, and the position of the code among their arguments.
_MAKERS = {"ApiError": 1, "ContextExceeded": 1, "invalid_request": 0, "invalid": 1}


def test_every_error_code_in_the_sources_is_documented() -> None:
    found = set()
    for path in (*(ROOT / "bridge").rglob("*.py"), *(ROOT / "handlers").rglob("*.py")):
        text = path.read_text()
        if any(f"{maker}(" in text for maker in _MAKERS):
            for call in ast.walk(ast.parse(text)):
                if isinstance(call, ast.Call):
                    maker = getattr(call.func, "id", getattr(call.func, "attr", ""))
                    code = call.args[_MAKERS[maker]] if maker in _MAKERS and len(call.args) > _MAKERS[maker] else None
                    if isinstance(code, ast.Constant):
                        found.add(code.value)
    assert len(found) > 30
    assert found - _ELSEWHERE <= {row.code for row in CODES}


# Answers

HI: Json = {"messages": [{"role": "user", "content": "/cite /say one two three"}]}
PICTURE = data_url(png())
THINK: Json = {"messages": [{"role": "user", "content": "/think /cite /say one two"}]}
DRAW: Json = {"messages": [{"role": "user", "content": "/draw"}]}
CALL = '/call get_weather {"city": "Paris"}'
ASK_CALL: Json = {"messages": [{"role": "user", "content": CALL}]}
CITY: Json = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION: Json = {"name": "get_weather", "description": "The weather.", "parameters": CITY, "strict": True}
CHAT_TOOL: Json = {"type": "function", "function": FUNCTION}
RESPONSES_TOOL: Json = {"type": "function", **FUNCTION}
SEEN: Json = {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}}
TURNS: Json = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "look"}, SEEN]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "user", "content": "/say so"},
    ]
}  # fmt: skip
CUSTOM: Json = {"type": "custom", "name": "run", "description": "Run it."}
ITEMS: list[Json] = [
    {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": PICTURE}]},
    {"type": "reasoning", "summary": []},
    {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "rain"},
    {"type": "message", "role": "user", "content": "/think /cite /say so"},
]  # fmt: skip
BLOCKS: Json = {
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Be brief."}],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "look"}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "rain"}]},
            {"type": "text", "text": "/think /cite /say so"},
        ]},
    ],
}  # fmt: skip
TOOL: Json = {"name": "get_weather", "description": "The weather.", "input_schema": CITY}
FORMAT: Json = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}

#: Requests to send, streamed and whole: the path, the model unless it is the default, and the fields.
REQUESTS: dict[str, tuple[str, str, Json]] = {
    "chat": ("chat/completions", "", {**HI, "temperature": 1, "user": None, "stop": ["STOP"]}),
    "chat, thoughts": ("chat/completions", "", THINK),
    "chat, a picture": ("chat/completions", "", DRAW),
    "chat, several turns": ("chat/completions", "", TURNS),
    "chat, two answers": ("chat/completions", "", {**HI, "n": 2}),
    "chat, a call": ("chat/completions", "tools-xml", {**ASK_CALL, "tools": [CHAT_TOOL]}),
    "chat, the older form": ("chat/completions", "tools-xml", {**ASK_CALL, "functions": [FUNCTION]}),
    "chat, a limit": ("chat/completions", "", {**HI, "max_tokens": 1}),
    "completions": ("completions", "", {"prompt": ["/say a", "/say b"], "echo": True, "n": 1, "seed": 1}),
    "responses": ("responses", "", {"input": "/cite /say so", "instructions": "Be brief.", "temperature": 0.5}),
    "responses, items": ("responses", "", {"input": ITEMS, "metadata": {"a": "b"}, "truncation": "auto"}),
    "responses, a call": ("responses", "tools-xml", {"input": CALL, "tools": [RESPONSES_TOOL, CUSTOM]}),
    "responses, a limit": ("responses", "", {"input": "/say one two three", "max_output_tokens": 1}),
    "messages": ("messages", "", BLOCKS),
    "messages, a call": ("messages", "tools-xml", {"max_tokens": 100, **ASK_CALL, "tools": [TOOL]}),
    "messages, a limit": ("messages", "", {"max_tokens": 1, **HI}),
}  # fmt: skip


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    async with Arena(models=(*builtin_models(), *tool_models())) as arena:
        yield arena


async def test_requests_and_answers_of_chats_match_their_description(bridge: RunningBridge) -> None:
    """Requests and answers of every kind match their description, and so do the headers."""
    for name, (path, model, fields) in REQUESTS.items():
        for stream in (True, False):
            body = {"model": model or bridge.model(), **fields, "stream": stream}
            if stream and path.endswith("completions"):
                body["stream_options"] = {"include_usage": True}
            hold_request("POST", f"/v1/{path}", body)
            async with bridge.http.post(f"{bridge.base_url}/{path}", json=body, headers=bridge.headers) as answer:
                assert answer.status == 200, (name, await answer.text())
                try:
                    told = await hold(answer)
                except (AssertionError, jsonschema_rs.ValidationError) as error:
                    raise AssertionError(f"{name}, stream={stream}: {error}") from error
                assert told


async def test_requests_and_answers_of_other_calls_match_their_description(bridge: RunningBridge) -> None:
    asked: Json = {"model": bridge.model(), "input": [{"role": "user", "content": "/say so"}]}
    async with bridge.http.post(f"{bridge.base_url}/responses", json=asked, headers=bridge.headers) as answer:
        kept = orjson.loads(await hold(answer))["id"]
    draws = {"model": bridge.model(output="image"), "prompt": "an otter"}
    counted = {"model": bridge.model(), **HI}
    tried: list[tuple[str, str, Json | None, Json]] = [
        ("GET", "/models", None, {}),
        ("GET", f"/models/{bridge.model()}", None, {}),
        ("GET", "/models?limit=2", None, {"anthropic-version": "2023-06-01"}),
        ("GET", f"/models/{bridge.model()}", None, {"anthropic-version": "2023-06-01"}),
        ("POST", "/images/generations", {**draws, "size": "1024x1024"}, {}),
        ("POST", "/images/edits", {**draws, "image": PICTURE, "response_format": "b64_json"}, {}),
        ("POST", "/messages/count_tokens", counted, {}),
        ("POST", "/responses/input_tokens", asked, {}),
        ("GET", f"/responses/{kept}", None, {}),
        ("GET", f"/responses/{kept}/input_items?order=asc", None, {}),
        ("GET", "/health", None, {}),
        ("DELETE", f"/responses/{kept}", None, {}),
    ]
    for method, path, body, headers in tried:
        if body is not None:
            hold_request(method, f"/v1{path}", body)
        url = bridge.base_url + path
        async with bridge.http.request(method, url, json=body, headers={**bridge.headers, **headers}) as answer:
            assert answer.status == 200, (path, await answer.text())
            await hold(answer)


REFUSED: dict[str, tuple[str, Json]] = {
    "a wrong type": ("chat/completions", {**HI, "stream": "yes"}),
    "an unknown role": ("chat/completions", {"messages": [{"role": "judge", "content": "so"}]}),
    "too many answers": ("chat/completions", {**HI, "n": 9}),
    "no messages": ("chat/completions", {}),
    "a wrong limit": ("messages", {**HI, "max_tokens": 0}),
    "no limit": ("messages", HI),
    "in the background": ("responses", {"input": "so", "background": True}),
    "token ids": ("completions", {"prompt": [1, 2]}),
    "too many pictures": ("images/generations", {"prompt": "an otter", "n": 11}),
}


async def test_requests_that_violate_their_description_get_the_documented_400(bridge: RunningBridge) -> None:
    for name, (path, fields) in REFUSED.items():
        body = {"model": bridge.model(), **fields}
        with pytest.raises(jsonschema_rs.ValidationError):
            hold_request("POST", f"/v1/{path}", body)
        async with bridge.http.post(f"{bridge.base_url}/{path}", json=body, headers=bridge.headers) as answer:
            assert (name, answer.status) == (name, 400)
            await hold(answer)


async def test_refusals_due_to_a_key_or_the_site_match_their_description(arena: Arena, tmp_path: Path) -> None:
    options = {"models": ("nothing",)}
    async with running_bridge(arena, tmp_path, sessions=(), key_options=options) as bridge:
        for path in ("/v1/models/gpt-2", f"/v1/models/{bridge.model()}", "/metrics", "/health", "/readyz", "/livez"):
            async with bridge.http.get(bridge.origin + path, headers=bridge.headers) as answer:
                assert answer.status in ((200,) if path == "/livez" else (403, 404, 503))
                await hold(answer)
