"""Callers read exactly what upstream wrote: byte for byte, once, in order, and each delta as it arrives."""

from __future__ import annotations

import asyncio
import json
import random
import unicodedata
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
from caller import calling, exchange
from frames import DONE, frames, frames_by_lines
from running import RunningBridge, running_bridge

from upstream.arena import Arena, Line, Pause, Raw, Step, Turn, Until

STREAMS = 200
#: Characters that have broken readers before: unusual line ends, JSON syntax, ends of planes, parts of emoji.
AWKWARD = (
    "\u2028\u2029\u0085\r\n\t\v\f\x00\x1c\x1e\x7f\"\\/'<>&\ufeff\ufffe\uffff\ufffd\u200d\ufe0f\U0001f9a6\U0010ffff"
)


async def test_parallel_streams_each_deliver_their_own_text(arena: Arena, tmp_path: Path) -> None:
    """All streams are open at once: none is answered before the last request has arrived."""
    answers = [some_deltas(random.Random(seed)) for seed in range(STREAMS)]
    lines = [lines_of(deltas, random.Random(seed)) for seed, deltas in enumerate(answers)]
    asked = 0
    all_asked = asyncio.Event()

    def script(turn: Turn) -> Iterator[Step]:
        nonlocal asked
        asked += 1
        if asked == STREAMS:
            all_asked.set()
        number = int(turn.prompt)
        yield Until(all_asked)
        yield from speaking(lines[number], random.Random(number))

    arena.script = script
    limits = {"limits": {"concurrency": STREAMS}}
    async with (
        running_bridge(arena, tmp_path, limits) as bridge,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        bodies = await asyncio.gather(*(read(bridge, http, str(number)) for number in range(STREAMS)))
    ids = set()
    for number, (deltas, body) in enumerate(zip(answers, bodies, strict=True)):
        chunks = check_stream(body)
        texts = [chunk["choices"][0]["delta"]["content"] for chunk in chunks[1:-1]]
        assert "".join(texts) == "".join(deltas), f"stream {number}"
        assert len(texts) == len(lines[number]), f"stream {number}"
        ids.add(chunks[0]["id"])
    assert len(ids) == STREAMS


def some_deltas(rng: random.Random) -> list[str]:
    """Texts of various lengths from all planes; only the first is certain not to be empty."""
    return ["¶"] + ["".join(character(rng) for _ in range(rng.choice((0, 1, 1, 2, 5, 40)))) for _ in range(30)]


def character(rng: random.Random) -> str:
    """A random code point, never a surrogate: an awkward one, or one from a random plane."""
    if rng.random() < 0.3:
        return rng.choice(AWKWARD)
    while unicodedata.category(drawn := chr(rng.randrange(17) * 0x10000 + rng.randrange(0x10000))) == "Cs":
        pass
    return drawn


def lines_of(deltas: list[str], rng: random.Random) -> list[bytes]:
    """The lines of the deltas as sites may write them: plain, escaped, or with an emoji split over two deltas."""
    lines: list[bytes] = []
    for delta in deltas:
        match rng.randrange(3):
            case 0:
                lines.append(b"a0:%s\n" % json.dumps(delta).encode())
            case 1 if delta and delta[-1] > "\uffff":
                pair = delta[-1].encode("utf-16-be")
                high, low = (chr(int.from_bytes(half)) for half in (pair[:2], pair[2:]))
                lines += [Line("a0", delta[:-1] + high).encode(), Line("a0", low).encode()]
            case _:
                lines.append(Line("a0", delta).encode())
    return lines


def speaking(lines: list[bytes], rng: random.Random) -> Iterator[Step]:
    """An answer of these lines, some of which arrive in two pieces."""
    for line in lines:
        cut = rng.randrange(-len(line), len(line))
        yield from (Raw(line[:cut]), Raw(line[cut:])) if cut > 0 else (Raw(line),)
    yield Line("ad", {"finishReason": "stop"})


async def read(bridge: RunningBridge, http: aiohttp.ClientSession, prompt: str) -> bytes:
    """Ask for a streamed answer; return its raw body."""
    body = bridge.chat(prompt, stream=True)
    async with http.post(f"{bridge.base_url}/chat/completions", json=body, headers=bridge.headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        return await response.read()


def check_stream(body: bytes) -> list[dict[str, Any]]:
    """Check a complete stream against the contract, parsed in two ways; return its chunks."""
    *found, done = frames(body)
    assert frames_by_lines(body) == [*found, done]
    assert done == DONE
    assert DONE not in found
    chunks = [json.loads(data) for data in found]
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    first, *middle, last = [chunk["choices"][0] for chunk in chunks]
    assert first["delta"] == {"role": "assistant", "content": ""}
    assert all(choice["delta"].keys() == {"content"} for choice in middle)
    assert all(choice["finish_reason"] is None for choice in (first, *middle))
    assert (last["delta"], last["finish_reason"]) == ({}, "stop")
    return chunks


async def test_each_delta_is_sent_as_soon_as_it_arrives(bridge: RunningBridge, arena: Arena) -> None:
    """Upstream sends the next word only after the caller has read the previous one."""
    words = ["one ", "two ", "\ud83e", "\udda6 ", "four"]
    seen = [asyncio.Event() for _ in words]

    async def script(_: Turn) -> AsyncIterator[Step]:
        for word, event in zip(words, seen, strict=True):
            yield Line("a0", word)
            yield Until(event)
        yield Line("ad", {"finishReason": "stop"})

    arena.script = script
    async with await bridge.post(bridge.chat("speak", stream=True)) as response:
        assert b'"role"' in await response.content.readuntil(b"\n\n")
        for expected, event in zip(("one ", "two ", "", "🦦 ", "four"), seen, strict=True):
            [frame] = frames(await response.content.readuntil(b"\n\n"))
            assert json.loads(frame)["choices"][0]["delta"] == {"content": expected}
            event.set()
        assert frames(await response.read())[-1] == DONE


async def test_an_unstreamed_answer_is_the_concatenation_of_all_deltas(bridge: RunningBridge, arena: Arena) -> None:
    deltas = some_deltas(random.Random("whole"))
    lines = lines_of(deltas, random.Random("lines"))
    arena.script = lambda _: speaking(lines, random.Random("cuts"))
    async with await bridge.post(bridge.chat("speak")) as response:
        completion = json.loads(await response.read())
    assert completion["choices"][0]["message"]["content"] == "".join(deltas)


def test_the_test_texts_cover_every_plane_and_every_awkward_character() -> None:
    """Every plane and every awkward character occurs; otherwise the tests above would prove little."""
    text = "".join("".join(some_deltas(random.Random(seed))) for seed in range(STREAMS))
    assert {ord(char) >> 16 for char in text} == set(range(17))
    assert set(AWKWARD) <= set(text)


async def test_headers_leave_with_the_first_delta_in_one_write(bridge: RunningBridge) -> None:
    """By default aiohttp sends a stream's headers separately; its private switch for that saves a system call."""
    async with calling(bridge.origin, bridge.key) as caller:
        await caller.ask(bridge.chat("/say hello", stream=True))
        first = await caller.reader.read(65_536)
    head, _, body = first.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b'"content":"hello"' in body


async def test_a_caller_of_http_1_0_gets_the_same_frames_without_chunks(bridge: RunningBridge, arena: Arena) -> None:
    def script(_: Turn) -> Iterator[Step]:
        for word in ("one ", "two ", "three"):
            yield Line("a0", word)
            yield Pause(0.01)
        yield Line("ad", {"finishReason": "stop"})

    arena.script = script
    body = json.dumps(bridge.chat("speak", stream=True))
    lines = (
        "POST /v1/chat/completions HTTP/1.0",
        f"Authorization: Bearer {bridge.key}",
        f"Content-Length: {len(body)}",
    )
    answer = await exchange(bridge.origin, "\r\n".join((*lines, "", body)))
    headers, _, frames_sent = answer.partition("\r\n\r\n")
    assert "chunked" not in headers.lower()
    _, *middle, _ = check_stream(frames_sent.encode())
    assert [chunk["choices"][0]["delta"]["content"] for chunk in middle] == ["one ", "two ", "three"]
