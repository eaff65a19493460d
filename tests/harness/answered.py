"""Reads the answer to a chat, streamed or whole, into the same form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from frames import DONE, frames
from running import RunningBridge

KEEPALIVE = b": keep-alive\n\n"


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: `text` and `finish` as received, and `error` if it failed, from the body or the last event."""

    status: int
    headers: Mapping[str, str]
    text: str
    finish: str | None
    error: Mapping[str, Any] | None
    keepalives: int = 0

    @property
    def is_good(self) -> bool:
        """Whether the answer was completed successfully."""
        return self.status == 200 and self.error is None and self.finish == "stop"

    @property
    def said(self) -> tuple[int, str, str]:
        """The status, code and reason of a failure."""
        assert self.error is not None
        return self.status, self.error["code"], self.error.get("reason") or self.headers["x-bridge-reason"]

    @property
    def place(self) -> str:
        """How the conversation was continued, from the bridge's header."""
        return self.headers["x-bridge-conversation"]


async def read(response: aiohttp.ClientResponse) -> Answered:
    """Read an answer completely. Raises AssertionError unless a stream ends in exactly one way."""
    body = await response.read()
    if response.content_type != "text/event-stream":
        document = json.loads(body)
        if "error" in document:
            return Answered(response.status, response.headers, "", None, document["error"])
        (choice,) = document["choices"]
        text = choice["message"]["content"] or ""
        return Answered(response.status, response.headers, text, choice["finish_reason"], None)
    *chunks, last = frames(body)
    read = [json.loads(chunk) for chunk in chunks]
    assert not any("error" in chunk for chunk in read)
    choices = [choice for chunk in read for choice in chunk["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    finishes = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    error = None if last == DONE else json.loads(last)["error"]
    assert len(finishes) == (error is None)
    finish = finishes[0] if finishes else None
    return Answered(response.status, response.headers, text, finish, error, body.count(KEEPALIVE))


async def ask(bridge: RunningBridge, *messages: str, **body: object) -> Answered:
    """Send a chat and read the answer. Texts are the user's and the assistant's in turn, unless `messages` is given."""
    roles = ("user", "assistant")
    history = [{"role": roles[place % 2], "content": text} for place, text in enumerate(messages)]
    async with await bridge.post(bridge.chat(**{"messages": history, **body})) as response:
        return await read(response)
