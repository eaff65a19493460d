"""docs/reliability.md: failures of the site and mistakes of callers, as each API reports them.

The site's faults are tested here in Messages and Completions; for chat completions and Responses they are in
test_errors.py and test_responses_faults.py. Invalid requests are tested here in all four. Every answer must match
`/openapi.json`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from caller import calling
from described import hold
from frames import DONE, frames
from leaving import nobody_returns
from polling import until
from response_events import events_of
from running import Overrides, RunningBridge, running_bridge
from site_faults import (
    BEFORE_THE_ANSWER,
    FIRST_DELTAS,
    IN_THE_MIDDLE,
    PROMPT,
    UPSTREAM,
    Break,
    Row,
    answered_by,
)

from handlers.request.appkeys import STORED_RESPONSES
from upstream.arena import Arena

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Api:
    """An API's path, the request field that holds the text, and a function that builds a request from a text."""

    path: str
    text: str
    ask: Callable[[str], Json]

    def body(self, bridge: RunningBridge, text: str = PROMPT, **more: object) -> Json:
        return {"model": bridge.model(), **self.ask(text), **more}


def _messages(text: str) -> Json:
    return {"messages": [{"role": "user", "content": text}]}


APIS = {
    "chat": Api("chat/completions", "messages", _messages),
    "responses": Api("responses", "input", lambda text: {"input": text}),
    "messages": Api("messages", "messages", lambda text: {**_messages(text), "max_tokens": 1000}),
    "completions": Api("completions", "prompt", lambda text: {"prompt": text}),
}
#: Anthropic's error types by status.
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    502: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def assert_told(api: str, headers: Mapping[str, str], said: Json, *, status: int, type_: str, code: str) -> str:
    """Check that the error has its API's format; return its message."""
    error = said["error"]
    if api == "messages":
        assert said.keys() == {"type", "error", "request_id"}
        assert (said["type"], said["request_id"]) == ("error", headers["request-id"])
        assert error.keys() - {"details"} == {"type", "message"}
        assert error["type"] == _TYPES.get(status, "invalid_request_error")
    else:
        assert said.keys() == {"error"}
        assert {"message", "type", "param", "code"} <= error.keys()
        assert (error["type"], error["code"]) == (type_, code)
    return str(error["message"])


def nothing_stays(bridge: RunningBridge) -> bool:
    """Whether no answer is stored or remembered, and no slot or account is held."""
    return not len(bridge.app[STORED_RESPONSES]) and not len(bridge.relay._conversations) and not bridge.calls_held


# The site


@pytest.mark.parametrize("row", BEFORE_THE_ANSWER.values(), ids=BEFORE_THE_ANSWER)
async def test_a_failure_before_the_answer_has_its_true_status(row: Row, arena: Arena, tmp_path: Path) -> None:
    async with answered_by(arena, tmp_path, row) as bridge:
        for name in ("messages", "completions"):
            for stream in (True, False):
                api = APIS[name]
                url, body = f"{bridge.base_url}/{api.path}", api.body(bridge, stream=stream)
                async with bridge.http.post(url, json=body, headers=bridge.headers) as answer:
                    status = 529 if name == "messages" and row.status == 503 else row.status
                    assert (answer.status, answer.content_type) == (status, "application/json")
                    await hold(answer)
                    said = await answer.json()
                    assert_told(name, answer.headers, said, status=status, type_=row.type, code=row.code)
                    assert answer.headers["x-bridge-reason"] == row.reason
                    assert ("Retry-After" in answer.headers) == (row.retry_after is not None)
        assert nothing_stays(bridge)


@pytest.mark.parametrize("row", IN_THE_MIDDLE.values(), ids=IN_THE_MIDDLE)
async def test_a_failure_in_mid_stream_is_the_last_event(row: Break, arena: Arena, tmp_path: Path) -> None:
    """The text so far is delivered, the last event is the error, and nothing says that the answer is complete."""
    async with running_bridge(arena, tmp_path, row.overrides) as bridge:
        arena.faults.arm(row.fault, None, **row.parameters)
        for name in ("messages", "completions"):
            api = APIS[name]
            url = f"{bridge.base_url}/{api.path}"
            async with bridge.http.post(url, json=api.body(bridge, stream=True), headers=bridge.headers) as answer:
                assert answer.status == 200
                told, said = READ[name](await hold(answer))
                assert told == FIRST_DELTAS
                error = said["error"]
                assert row.says in error["message"]
                if name == "messages":
                    assert error["type"] == ("timeout_error" if row.status == 504 else "api_error")
                else:
                    assert (error["type"], error["code"], error["reason"]) == (UPSTREAM, row.code, row.reason)
            async with bridge.http.post(url, json=api.body(bridge), headers=bridge.headers) as answer:
                assert answer.status == row.status
                said = await answer.json()
                assert_told(name, answer.headers, said, status=row.status, type_=UPSTREAM, code=row.code)
        assert nothing_stays(bridge)


def _of_messages(body: bytes) -> tuple[str, Json]:
    *before, last = events_of(body)
    assert last["type"] == "error"
    assert not {event["type"] for event in before} & {"content_block_stop", "message_delta", "message_stop"}
    deltas = [event["delta"]["text"] for event in before if event["type"] == "content_block_delta"]
    return "".join(deltas), last


def _of_completions(body: bytes) -> tuple[str, Json]:
    *chunks, last = map(orjson.loads, frames(body))
    assert DONE not in frames(body)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert not any(choice["finish_reason"] for choice in choices)
    return "".join(choice["text"] for choice in choices), last


#: How to read a stream that broke off: its text, and its last event.
READ: dict[str, Callable[[bytes], tuple[str, Json]]] = {"messages": _of_messages, "completions": _of_completions}


# The caller


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake in a request, and the expected error: `more` adds fields, `sent` replaces the body."""

    status: int
    type: str = "invalid_request_error"
    code: str = "invalid_type"
    more: Json = field(default_factory=dict)
    sent: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    overrides: Overrides = field(default_factory=dict)
    says: str = ""


MISTAKES = {
    "no JSON": Mistake(400, code="invalid_json", sent=b'{"model": '),
    "bytes that are no text": Mistake(400, code="invalid_json", sent=b'{"model": "\xff\xfe"}'),
    "NaN": Mistake(400, code="invalid_json", sent=b'{"temperature": NaN}'),
    "no object": Mistake(400, sent=b"[]"),
    "nested too deeply": Mistake(400, code="invalid_json", sent=b'{"metadata": ' + b"[" * 2000 + b"]" * 2000 + b"}"),
    "a word for a truth value": Mistake(400, more={"stream": "yes"}, says="stream"),
    "no model": Mistake(400, code="missing_required_parameter", more={"model": None}, says="model"),
    "an unknown model": Mistake(404, code="model_not_found", more={"model": "gpt-2"}, says="gpt-2"),
    "no key": Mistake(401, code="invalid_api_key", headers={"Authorization": ""}),
    "an unknown key": Mistake(401, code="invalid_api_key", headers={"Authorization": "Bearer sk-lmab-x"}),
    "a body too large": Mistake(
        413, code="request_too_large", sent=b" " * 2**19 + b"{}", overrides={"server": {"max_body_bytes": 2**19}}
    ),
    "an unknown coding": Mistake(415, code="unsupported_encoding", headers={"Content-Encoding": "snappy"}, sent=b"{}"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
async def test_invalid_requests_are_reported_in_the_form_of_each_api(
    mistake: Mistake, arena: Arena, tmp_path: Path
) -> None:
    async with running_bridge(arena, tmp_path, mistake.overrides) as bridge:
        for name, api in APIS.items():
            sent = orjson.dumps(api.body(bridge, **mistake.more)) if mistake.sent is None else mistake.sent
            headers = {"Content-Type": "application/json", **bridge.headers, **mistake.headers}
            url = f"{bridge.base_url}/{api.path}"
            async with bridge.http.post(url, data=sent, headers=headers) as answer:
                assert (name, answer.status) == (name, mistake.status)
                await hold(answer)
                said = await answer.json()
                message = assert_told(
                    name, answer.headers, said, status=mistake.status, type_=mistake.type, code=mistake.code
                )
                assert mistake.says in message
                assert ("WWW-Authenticate" in answer.headers) == (mistake.status == 401)
        assert arena.chats == []
        assert nothing_stays(bridge)


async def test_a_key_over_its_rate_limit_gets_a_429_in_the_form_of_each_api(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path, key_options={"rpm": 1}) as bridge:
        async with await bridge.post(bridge.chat(PROMPT)) as answer:
            assert answer.status == 200
        for name, api in APIS.items():
            url = f"{bridge.base_url}/{api.path}"
            async with bridge.http.post(url, json=api.body(bridge), headers=bridge.headers) as answer:
                assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (429, True)
                await hold(answer)
                said = await answer.json()
                assert_told(
                    name, answer.headers, said, status=429, type_="rate_limit_error", code="rate_limit_exceeded"
                )
                prefix = "anthropic-ratelimit-requests" if name == "messages" else "x-ratelimit"
                ending = "remaining" if name == "messages" else "remaining-requests"
                assert answer.headers[f"{prefix}-{ending}"] == "0"
        assert len(arena.chats) == 1


@pytest.mark.parametrize("name", APIS)
async def test_a_caller_that_leaves_closes_the_upstream_call(name: str, arena: Arena, bridge: RunningBridge) -> None:
    """The upstream call is closed, and nothing is stored or remembered as an answer."""
    arena.faults.arm("silent_middle", None)
    async with (
        asyncio.timeout(10),
        calling(bridge.origin, bridge.key, path=f"/v1/{APIS[name].path}") as caller,
    ):
        await caller.ask(APIS[name].body(bridge, stream=True))
        await caller.sees(b"two")
        caller.vanish()
        await nobody_returns(bridge)
        await arena.chats[-1].closed.wait()
        await until(lambda: not bridge.calls_held)
    assert nothing_stays(bridge)
