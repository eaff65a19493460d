"""The requests of a scenario as bytes, in LMArena's protocol and in OpenAI's."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import shake_128
from typing import Final, TypeAlias

import orjson

from bench.scenarios import Scenario
from bench.site import MODEL, MODEL_ID

#: The bridge's API key.
KEY: Final = "sk-lmab-" + "0123456789abcdef" * 2

#: A placeholder for the request's number, which makes every request and picture unique.
_NUMBER: Final = b"00000000"

#: Returns the request for a number, of at most eight digits.
Requests: TypeAlias = Callable[[int], bytes]


def lmarena_requests(scenario: Scenario) -> Requests:
    """Requests in upstream's own protocol; they contain the pictures, so that all requests have the same size."""
    attachments = [{"name": "a.jpg", "contentType": "image/jpeg", "url": url} for url in _pictures(scenario)]
    body = {
        "id": MODEL_ID,
        "mode": "direct",
        "modelAId": MODEL_ID,
        "userMessageId": MODEL_ID,
        "modelAMessageId": MODEL_ID,
        "userMessage": {"experimental_attachments": attachments, "content": "\n\n".join(_texts(scenario))},
        "modality": "chat",
    }
    return _numbered("/nextjs-api/stream/create-evaluation", "text/plain;charset=UTF-8", body)


def openai_requests(scenario: Scenario) -> Requests:
    """The same for OpenAI's API."""
    *before, last = _texts(scenario)
    roles = ("assistant", "user") if len(before) % 2 else ("user", "assistant")
    messages: list[dict[str, object]] = [{"role": roles[at % 2], "content": text} for at, text in enumerate(before)]
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in _pictures(scenario)]
    messages.append({"role": "user", "content": [*pictures, {"type": "text", "text": last}] if pictures else last})
    body: dict[str, object] = {"model": MODEL, "stream": scenario.streamed, "messages": messages}
    if scenario.tools and not scenario.tools_as_text:
        body["tools"] = _tools(scenario)
    return _numbered("/v1/chat/completions", "application/json", body)


def responses_requests(scenario: Scenario) -> Requests:
    """The same for the Responses API, which stores each response, as it does by default."""
    body = {"model": MODEL, "stream": scenario.streamed, "input": _texts(scenario)[-1]}
    return _numbered("/v1/responses", "application/json", body)


def messages_requests(scenario: Scenario) -> Requests:
    """The same for the Messages API, whose `max_tokens` is never reached."""
    messages = [{"role": "user", "content": _texts(scenario)[-1]}]
    body = {"model": MODEL, "stream": scenario.streamed, "max_tokens": 1_000_000, "messages": messages}
    return _numbered("/v1/messages", "application/json", body)


def completions_requests(scenario: Scenario) -> Requests:
    """The same for the older Completions API."""
    body = {"model": MODEL, "stream": scenario.streamed, "prompt": _texts(scenario)[-1]}
    return _numbered("/v1/completions", "application/json", body)


def _texts(scenario: Scenario) -> Sequence[str]:
    """The messages: the user's and the assistant's in turn, the last one being the user's."""
    size = scenario.characters // scenario.messages
    last = f"{scenario.name}: {scenario.play}, number {_NUMBER.decode()}"
    if scenario.tools_as_text:
        last = f"{orjson.dumps(_tools(scenario)).decode()}\n{last}"
    return [*["So it is said again. ".ljust(size, "x")] * (scenario.messages - 1), last.rjust(size, "x")]


def _pictures(scenario: Scenario) -> Sequence[str]:
    """Data URLs with the start of a JPEG, the number, and incompressible data."""
    rests = (
        shake_128(b"%d" % at).digest(scenario.picture_bytes - 9) for at in range(scenario.pictures)
    )  # the start of the JPEG is 3 bytes; the number, read as base64, is 6
    return [f"data:image/jpeg;base64,/9j/{_NUMBER.decode()}{b64encode(rest).decode()}" for rest in rests]


def _tools(scenario: Scenario) -> list[dict[str, object]]:
    return [_tool(number, scenario.schema_bytes) for number in range(scenario.tools)]


def _tool(number: int, schema_bytes: int) -> dict[str, object]:
    """A tool whose schema has about `schema_bytes` bytes: one parameter for every hundred bytes."""
    parameter = {"type": "string", "description": "What it is to be done with, in a few words of English."}
    schema = {
        "type": "object",
        "properties": {f"parameter_{at}": parameter for at in range(max(1, schema_bytes // 100))},
        "additionalProperties": False,
    }
    about = {"name": f"tool_{number}", "description": "Does something.", "parameters": schema}
    return {"type": "function", "function": about}


def _numbered(path: str, content_type: str, body: object) -> Requests:
    encoded = orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(encoded)}\r\n\r\n"
    )
    pieces = (head.encode() + encoded).split(_NUMBER)
    return lambda number: (b"%08d" % number).join(pieces)
