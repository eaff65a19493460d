"""One driver serves every dialect, and stages can change answers on their way, streamed and whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import orjson
import pytest
from caller import calling
from frames import frames
from running import RunningBridge, running_bridge

from bridge.answering.chat import ChatRequest, Usage
from bridge.answering.events import AnswerEvent
from bridge.answering.messages import Message
from bridge.answering.stages import StageMaker
from bridge.dialects.dialect import Dialect, Stamp
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.dialects.openai.chat import ChatCompletionRequest, ChatCompletions
from bridge.dialects.openai.errors import OpenAI
from bridge.errors import ApiError
from upstream.arena import Arena, Line, Step, Turn, Until
from upstream.protocol.events import TextDeltas


class Plain(OpenAI):
    """A minimal dialect: requests have a model and a question, answers are plain text, and errors are in capitals."""

    name: Final = "plain"

    def links(self, fields: Fields, owner: str) -> Iterator[str]:
        del fields, owner
        return iter(())

    def read(self, fields: Fields, files: FileReader, owner: str) -> PlainRequest:
        del files, owner
        question = Message("user", fields.string("ask") or "")
        return PlainRequest(
            ChatRequest(fields.string("model") or "", (question,), stream=fields.boolean("stream") or False)
        )


class PlainRequest:
    """A request in that dialect, which is also the encoder of its streamed answer."""

    keepalive = b"(wait)"

    def __init__(self, chat: ChatRequest) -> None:
        self.chat = chat
        self.said = b""

    def encoder(self, _: Stamp) -> PlainRequest:
        return self

    def collector(self, _: Stamp) -> PlainCollector:
        return PlainCollector()

    def start(self) -> bytes:
        return b"("

    def idle(self) -> bytes:
        return b"..."

    def encode(self, batch: Sequence[AnswerEvent]) -> bytes:
        return "".join(event.text for event in batch if isinstance(event, TextDeltas)).encode()

    def finish(self, reason: str | None, usage: Callable[[], Usage]) -> bytes:
        return f") {reason} {usage().completion > 0}".encode()

    def error(self, error: ApiError) -> bytes:
        return f"! {error.code.upper()}".encode()


class PlainCollector:
    """Collects a whole answer of that dialect."""

    def __init__(self) -> None:
        self.text = ""

    @property
    def size(self) -> int:
        return len(self.text)

    def add(self, batch: Sequence[AnswerEvent]) -> None:
        self.text += "".join(event.text for event in batch if isinstance(event, TextDeltas))

    def finish(self, reason: str | None, usage: Usage) -> bytes:
        return orjson.dumps({"said": self.text, "because": reason, "counted": usage.completion > 0})


class Staged(ChatCompletions):
    """Chat completions whose only stage is the test's."""

    def __init__(self, stage: StageMaker) -> None:
        self._stage = stage

    def read(self, fields: Fields, files: FileReader, owner: str = "") -> ChatCompletionRequest:
        request = super().read(fields, files, owner)
        return request._replace(chat=request.chat._replace(stages=(self._stage,)))


class UpperCase:
    """A stage that converts all text to capitals."""

    done = False
    finish_reason: str | None = None
    faithful = False

    def feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        return [
            TextDeltas(event.text.upper(), orjson.dumps(event.text.upper())) if isinstance(event, TextDeltas) else event
            for event in batch
        ]

    def end(self) -> list[AnswerEvent]:
        return []


class FirstLine:
    """A stage that ends an answer after its first line, and emits no text before that."""

    def __init__(self) -> None:
        self.done = False
        self.finish_reason: str | None = None
        self.faithful = True
        self._held = ""

    def feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        for event in batch:
            if isinstance(event, TextDeltas) and not self.done:
                self._held += event.text
                if "\n" in self._held:
                    self.done, self.faithful, self.finish_reason = True, False, "length"
        return []

    def end(self) -> list[AnswerEvent]:
        line = self._held.partition("\n")[0]
        return [TextDeltas(line, orjson.dumps(line))]


def says(*deltas: str) -> Callable[[Turn], AsyncIterator[Step]]:
    """A script for the arena: these deltas, then the end."""

    async def script(_: Turn) -> AsyncIterator[Step]:
        for delta in deltas:
            yield Line("a0", delta)
        yield Line("ad", {"finishReason": "stop"})

    return script


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    dialects: dict[str, Dialect] = {"/plain": Plain(), "/upper": Staged(UpperCase), "/line": Staged(FirstLine)}
    async with running_bridge(arena, tmp_path, dialects=dialects) as bridge:
        yield bridge


async def ask(bridge: RunningBridge, path: str, body: object) -> tuple[int, bytes]:
    async with bridge.http.post(f"{bridge.base_url}{path}", json=body, headers=bridge.headers) as answer:
        return answer.status, await answer.read()


async def test_a_dialect_of_ten_lines_is_served_streamed_and_whole(arena: Arena, bridge: RunningBridge) -> None:
    arena.script = says("Hel", "lo")
    asked = {"model": bridge.model(), "ask": "hi"}
    assert await ask(bridge, "/plain", {**asked, "stream": True}) == (200, b"(Hello) stop True")
    status, body = await ask(bridge, "/plain", asked)
    assert (status, orjson.loads(body)) == (200, {"said": "Hello", "because": "stop", "counted": True})


async def test_a_broken_stream_ends_with_the_dialects_own_error(arena: Arena, bridge: RunningBridge) -> None:
    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "Hel")
        yield Line("a3", "no more")

    arena.script = script
    _, body = await ask(bridge, "/plain", {"model": bridge.model(), "ask": "hi", "stream": True})
    assert body == b"(Hel! UPSTREAM_ERROR"


async def test_a_stage_changes_the_answer_that_the_caller_gets(arena: Arena, bridge: RunningBridge) -> None:
    arena.script = says("Hel", "lo \u00e9")
    status, body = await ask(bridge, "/upper", bridge.chat("hi"))
    assert status == 200
    assert orjson.loads(body)["choices"][0]["message"]["content"] == "HELLO \u00c9"
    status, body = await ask(bridge, "/upper", bridge.chat("hi again", stream=True))
    chunks = [orjson.loads(frame) for frame in frames(body)[:-1]]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "HELLO \u00c9"


async def test_a_stage_passes_each_delta_on_as_it_arrives(arena: Arena, bridge: RunningBridge) -> None:
    read = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Step]:
        for word in ("one", "two", "three"):
            yield Line("a0", word)
            yield Until(read)
            read.clear()
        yield Line("ad", {"finishReason": "stop"})

    arena.script = script
    async with asyncio.timeout(10), calling(bridge.origin, bridge.key, path="/v1/upper") as caller:
        await caller.ask(bridge.chat("count", stream=True))
        for word in (b'"ONE"', b'"TWO"', b'"THREE"'):
            await caller.sees(word)
            read.set()
        await caller.sees(b"[DONE]")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stage_that_is_done_closes_the_upstream_call(arena: Arena, bridge: RunningBridge, stream: bool) -> None:
    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "first ")
        yield Line("a0", "line\nsecond")
        yield Until(asyncio.Event())  # for as long as the bridge keeps the call open

    arena.script = script
    async with asyncio.timeout(10):
        _, body = await ask(bridge, "/line", bridge.chat("two lines", stream=stream))
        await arena.chats[-1].done.wait()
    assert b'"first line"' in body
    assert b"second" not in body
    assert b'"finish_reason":"length"' in body


async def test_an_answer_changed_by_a_stage_is_not_continued(arena: Arena, bridge: RunningBridge) -> None:
    arena.script = says("one\n", "two")
    await ask(bridge, "/line", bridge.chat("hi"))
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "one"}]
    async with bridge.http.post(
        f"{bridge.base_url}/line",
        json=bridge.chat(messages=[*turns, {"role": "user", "content": "go on"}]),
        headers=bridge.headers,
    ) as answer:
        assert answer.headers["x-bridge-conversation"].startswith("new; why=unknown")


async def test_an_answer_unchanged_by_a_stage_is_continued(arena: Arena, bridge: RunningBridge) -> None:
    arena.script = says("o", "ne")
    await ask(bridge, "/line", bridge.chat("hi"))
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "one"}]
    async with bridge.http.post(
        f"{bridge.base_url}/line",
        json=bridge.chat(messages=[*turns, {"role": "user", "content": "go on"}]),
        headers=bridge.headers,
    ) as answer:
        assert answer.headers["x-bridge-conversation"].startswith("follow-up")
