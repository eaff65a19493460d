"""Checks that models are shown exactly the messages of requests, for all tests of conversations."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

import aiohttp
from frames import DONE, frames
from running import Front

from upstream.arena import Arena, Line, Step, Turn, Until

JsonMessage: TypeAlias = Mapping[str, Any]

_MARK = re.compile(r"«\d+»")


def user(text: str, **more: object) -> JsonMessage:
    """A user's message as a client sends it."""
    return {"role": "user", "content": text, **more}


def assistant(text: str, **more: object) -> JsonMessage:
    """An assistant's message as a client sends it."""
    return {"role": "assistant", "content": text, **more}


class Witness:
    """Answers for all models of an arena, and checks that they see exactly the messages of one request, in order.

    Each text of a test comes from `text`, which adds a unique mark. The messages that a model is shown must be those
    of a pending request; violations are recorded in `strangers`.
    """

    def __init__(self, arena: Arena) -> None:
        self.turns: list[Turn] = []
        self.strangers: list[str] = []
        #: If given, answers wait for it after their first delta, so that evaluations stay busy.
        self.go_on: asyncio.Event | None = None
        #: If given, answers keep their transport open after the finish until it is set.
        self.let_go: asyncio.Event | None = None
        self._begun = asyncio.Semaphore(0)
        self._numbers = count(1)
        self._under_way: list[list[str]] = []
        arena.script = self._answer

    def text(self, words: str = "") -> str:
        """A unique text."""
        return f"«{next(self._numbers)}»{words}"

    async def begun(self, answers: int = 1) -> None:
        """Wait until this many more answers have begun."""
        for _ in range(answers):
            await asyncio.wait_for(self._begun.acquire(), 10)

    @contextmanager
    def expecting(self, messages: Iterable[JsonMessage]) -> Iterator[None]:
        """Expect a request with these messages. Raises AssertionError if a model is shown anything else."""
        marks = marks_of(messages)
        self._under_way.append(marks)
        try:
            yield
        finally:
            self._under_way.remove(marks)
        assert not self.strangers, self.strangers

    def _answer(self, turn: Turn) -> Iterator[Step]:
        self.turns.append(turn)
        if shown(turn) not in self._under_way:
            self.strangers.append(f"a model was shown {shown(turn)}, pending are {self._under_way}")
        return self._steps()

    def _steps(self) -> Iterator[Step]:
        go_on, let_go = self.go_on, self.let_go
        yield Line("a0", self.text())
        self._begun.release()
        if go_on is not None:
            yield Until(go_on)
        yield Line("a0", " and")
        yield Line("a0", " so on.")
        yield Line("ad", {"finishReason": "stop"})
        if let_go is not None:
            yield Until(let_go)


def shown(turn: Turn) -> list[str]:
    """The marks of all messages that a model is shown, in order."""
    return _MARK.findall("\n".join(message.content for message in turn.messages))


def marks_of(messages: Iterable[JsonMessage]) -> list[str]:
    """The marks of all messages of a request, in order."""
    return _MARK.findall("\n".join(_texts(messages)))


def _texts(messages: Iterable[JsonMessage]) -> Iterator[str]:
    for message in messages:
        yield message["content"] or ""
        yield from (call["function"]["arguments"] for call in message.get("tool_calls", ()))


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a client; `kind` and `why` are from `x-bridge-conversation`, '' if no evaluation answered."""

    status: int
    kind: str
    why: str
    evaluation: str
    text: str
    code: str | None

    @property
    def place(self) -> tuple[str, str]:
        """The answer's place in a conversation, and the reason for it."""
        return self.kind, self.why

    @property
    def message(self) -> JsonMessage:
        """The answer as a message of the next request."""
        return assistant(self.text)


async def ask(
    bridge: Front,
    witness: Witness,
    messages: Sequence[JsonMessage],
    *,
    stream: bool,
    model: str | None = None,
    key: str | None = None,
) -> Reply:
    """Send a request, read the whole answer, and check that its model saw this request's messages.

    It declares, as SDKs do, that it is not a retry, so that equal concurrent requests are answered separately.
    """
    headers = {"x-stainless-retry-count": "0"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    with witness.expecting(messages):
        body = bridge.chat(messages=list(messages), model=model or bridge.model(), stream=stream)
        async with await bridge.post(body, headers=headers) as response:
            reply = read(response, await response.read())
    if reply.evaluation:
        last = [turn for turn in witness.turns if turn.evaluation.id == reply.evaluation][-1]
        assert shown(last) == marks_of(messages), reply
    return reply


def read(response: aiohttp.ClientResponse, body: bytes) -> Reply:
    """Parse an answer, streamed or whole."""
    kind, _, why = response.headers.get("x-bridge-conversation", "").partition("; why=")
    _, _, evaluation = response.headers.get("x-bridge-evaluation", "").rpartition("/c/")
    if response.content_type == "text/event-stream":
        chunks = [json.loads(frame) for frame in frames(body) if frame != DONE]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", ())]
        text = "".join(delta.get("content") or "" for delta in deltas)
        error = chunks[-1].get("error")
    else:
        answer = json.loads(body)
        error = answer.get("error")
        text = "" if error else answer["choices"][0]["message"]["content"]
    return Reply(response.status, kind, why, evaluation, text, error and error["code"])
