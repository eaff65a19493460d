"""Limits on a hostile site: endless heads, trailers, lines and answers, each over a real connection."""

from __future__ import annotations

import asyncio
import math
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest
from peer import towards

from upstream.answer import MAX_BYTES_BEFORE_CONTENT, PIECE_BYTES, ArenaAnswer
from upstream.http.connection import MAX_BYTES_WITHOUT_BODY, MAX_HEAD_BYTES, MAX_HEADERS
from upstream.http.exchange_types import Exchanges, HttpError, NotHttp
from upstream.protocol.errors import EmptyAnswer, ProtocolViolated, SilentAnswer, Truncated
from upstream.protocol.events import Citations, Event, Failure, Finish, TextDeltas
from upstream.protocol.memory_budget import MemoryBudget
from upstream.protocol.wire import Wire

KIB = 1024
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TEXT = b'a0:"x"\n'
FINISH = b'ad:{"finishReason":"stop"}\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Site:
    """Sends `begin`, then `again` repeatedly while it is read, up to `most` bytes, and then `end`."""

    def __init__(self, begin: bytes, again: bytes = b"", end: bytes = b"", *, most: int = 64 * KIB * KIB) -> None:
        self._begin, self._end, self._most = begin, end, most
        self._again = again * max(1, 16 * KIB // max(1, len(again)))
        self.sent = 0
        self.gone = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self._begin)
            while self._again and self.sent < self._most:
                writer.write(self._again)
                await writer.drain()
                self.sent += len(self._again)
            writer.write(self._end)
            await reader.read()
        except OSError:
            pass
        finally:
            self.gone.set()


@asynccontextmanager
async def answering(site: Site, budget: MemoryBudget | None = None) -> AsyncIterator[ArenaAnswer]:
    async with towards(site) as (exchanges, origin), asyncio.timeout(30):
        response = await exchanges.request("POST", origin, "/", {}, b"{}", math.inf, 3600)
        answer = ArenaAnswer(response, monotonic() + 30, 30, 30, memory_budget=budget)
        try:
            yield answer
        finally:
            await answer.aclose()


async def events_of(answer: ArenaAnswer) -> list[Event]:
    events: list[Event] = []
    while not answer.ended:
        events += await answer.read()
    return events


# Heads


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nA: ", b"a", id="one header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", id="small headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"Set-Cookie: a=b; path=/\r\n", id="cookies"),
        pytest.param(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n", id="interim answers"),
        pytest.param(b"HTTP/1.1 200 ", b"O", id="a reason"),
        pytest.param(b"", b"\r\n", id="empty lines"),
    ],
)
async def test_an_endless_response_head_fails_the_request(begin: bytes, again: bytes) -> None:
    site = Site(begin, again)
    async with towards(site) as (exchanges, origin), asyncio.timeout(10):
        with pytest.raises(HttpError):
            await exchanges.request("GET", origin, "/", {})
        await site.gone.wait()
        assert site.sent < 16 * KIB * KIB


@pytest.mark.parametrize(
    ("headers", "good"),
    [
        pytest.param([b"A: b"] * (MAX_HEADERS - 1), True, id="as many as may be"),
        pytest.param([b"A: b"] * MAX_HEADERS, False, id="more"),
        pytest.param([b"Set-Cookie: a=" + b"b" * 4000] * 15, True, id="a long session in pieces"),
        pytest.param([b"Set-Cookie: a=" + b"b" * 4000] * 26, False, id="a longer one"),
    ],
)
async def test_the_length_of_a_response_head_is_limited(headers: list[bytes], good: bool) -> None:
    site = Site(b"\r\n".join([b"HTTP/1.1 200 OK", *headers, b"Content-Length: 0", b"", b""]))
    async with towards(site) as (exchanges, origin), asyncio.timeout(10):
        if good:
            response = await exchanges.request("GET", origin, "/", {})
            assert len(response.headers) == len(headers) + 1
            response.release()
        else:
            with pytest.raises(NotHttp):
                await exchanges.request("GET", origin, "/", {})


# Bytes after the head that are not part of the body


ENDLESS = {
    "trailers": (b"0\r\n", b"A: b\r\n"),
    "one trailer": (b"0\r\nA: ", b"a"),
    "the name of a trailer": (b"0\r\n", b"a"),
    "a chunk's extension": (b"5;a=", b"a"),
    "a chunk's size": (b"", b"0"),
}


@pytest.mark.parametrize(("begin", "again"), ENDLESS.values(), ids=ENDLESS)
async def test_an_answer_with_too_many_bytes_besides_its_body_is_truncated(begin: bytes, again: bytes) -> None:
    site = Site(HEAD + chunk(TEXT) + begin, again)
    tracemalloc.start()
    try:
        async with answering(site) as answer:
            events = await events_of(answer)
            await site.gone.wait()
            _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(events[0], TextDeltas)
    assert isinstance(events[-1], Failure)
    assert isinstance(events[-1].error, Truncated)
    assert most < 16 * MAX_BYTES_WITHOUT_BODY
    assert site.sent < 16 * KIB * KIB


@pytest.mark.parametrize(("begin", "again"), ENDLESS.values(), ids=ENDLESS)
async def test_endless_bytes_besides_the_body_close_the_connection_even_if_nobody_reads_the_answer(
    begin: bytes, again: bytes
) -> None:
    site = Site(HEAD + chunk(TEXT) + begin, again)
    async with answering(site) as answer:
        assert isinstance((await answer.read())[0], TextDeltas)
        await site.gone.wait()
        assert site.sent < 16 * KIB * KIB


async def test_trailers_are_not_headers_of_the_response() -> None:
    site = Site(HEAD + chunk(TEXT + FINISH) + b"0\r\nContent-Type: text/html\r\nSet-Cookie: a=b\r\n\r\n")
    async with towards(site) as (exchanges, origin), asyncio.timeout(10):
        response = await exchanges.request("GET", origin, "/", {})
        answer = ArenaAnswer(response, monotonic() + 10, 10, 10)
        assert isinstance((await events_of(answer))[-1], Finish)
        await answer.aclose()
        assert dict(response.headers) == {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
        assert len(exchanges.pool) == 1


async def test_an_answer_with_few_bytes_besides_its_body_is_read_whole() -> None:
    extension = b";a=" + b"b" * 1000
    body = b"".join(b"1%b\r\n%c\r\n" % (extension, byte) for byte in TEXT * 20 + FINISH)
    assert len(body) > 2 * MAX_BYTES_WITHOUT_BODY
    async with answering(Site(HEAD + body + b"0\r\nA: b\r\n\r\n")) as answer:
        events = await events_of(answer)
    assert "".join(event.text for event in events if isinstance(event, TextDeltas)) == "x" * 20
    assert isinstance(events[-1], Finish)


# Lines


async def test_unfinished_lines_of_all_answers_share_a_memory_budget() -> None:
    """As many lines are buffered as the budget allows; the next one fails, and its share becomes available again."""
    budget = MemoryBudget(limit=1024 * KIB)
    site = Site(HEAD + chunk(b'a0:"' + b"x" * 600 * KIB))

    async def judged(exchanges: Exchanges, origin: str) -> Failure:
        response = await exchanges.request("GET", origin, "/", {}, None, math.inf, 2.0)
        answer = ArenaAnswer(response, monotonic() + 2.0, 2.0, 2.0, memory_budget=budget)
        (event,) = await answer.read()
        await answer.aclose()
        assert isinstance(event, Failure)
        return event

    async with towards(site) as (exchanges, origin), asyncio.timeout(30):
        failures = await asyncio.gather(*(judged(exchanges, origin) for _ in range(3)))
    told = Counter(type(failure.error) for failure in failures)
    assert told[SilentAnswer] >= 1  # its line was buffered until it timed out
    assert told == {SilentAnswer: told[SilentAnswer], ProtocolViolated: 3 - told[SilentAnswer]}
    assert told[ProtocolViolated] >= 1
    assert budget.total == 0


async def test_finished_lines_use_no_memory_budget() -> None:
    budget = MemoryBudget(limit=1024 * KIB)
    line = b'a0:"' + b"x" * 600 * KIB + b'"\n'
    async with answering(Site(HEAD + chunk(line) * 5 + chunk(FINISH)), budget) as answer:
        events = await events_of(answer)
    assert sum(len(event.text) for event in events if isinstance(event, TextDeltas)) == 5 * 600 * KIB
    assert isinstance(events[-1], Finish)
    assert budget.total == 0


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b'a0:"x"\nag:"y"\n', id="kinds in turn"),
        pytest.param(b"zz:1\n", id="unknown tags"),
        pytest.param(b"no tag\n", id="no tags"),
        pytest.param(b"\n", id="empty lines"),
        pytest.param(b'a0:"x"\r\n', id="CRLF"),
        pytest.param(rb'a0:"\ud800"' + b"\n", id="lone surrogates"),
        pytest.param(b"a2:0\n", id="items that are none"),
        pytest.param(b"ac:0\n", id="citations that are none"),
    ],
)
async def test_a_read_of_many_lines_yields_to_other_tasks(lines: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are parsed in pieces, and other tasks run after each piece or two."""
    fed: list[int] = []
    feed = Wire.feed

    def count_fed(wire: Wire, data: bytes) -> list[Event]:
        fed.append(len(data))
        return feed(wire, data)

    monkeypatch.setattr(Wire, "feed", count_fed)
    size, turns = 64 * KIB, 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with (
        answering(Site(HEAD + chunk(lines * (size // len(lines))) + chunk(FINISH))) as answer,
        asyncio.TaskGroup() as tasks,
    ):
        counting = tasks.create_task(count_turns())
        assert isinstance((await events_of(answer))[-1], Finish)
        counting.cancel()
    assert max(fed) <= 2 * PIECE_BYTES
    assert turns >= size // (2 * PIECE_BYTES)


# Before the first content


UNSAID = {
    "citations": b'ac:{"argsTextDelta":"{\\"source\\":{\\"url\\":\\"https://a/\\"}}"}\n',
    "empty text": b'a0:""\n',
    "empty thoughts": b'ag:""\n',
    "both in turn": b'a0:""\nag:""\n',
    "bookkeeping": b'ae:{"x":1}\n',
    "heartbeats": b'a2:[{"type":"heartbeat"}]\n',
    "unknown tags": b"zz:1\n",
    "empty lines": b"\n",
}


@pytest.mark.parametrize("line", UNSAID.values(), ids=UNSAID)
async def test_an_endless_answer_without_content_violates_the_protocol(line: bytes) -> None:
    lines = line * (8 * KIB // len(line))
    site = Site(HEAD, chunk(lines))
    async with answering(site) as answer:
        with pytest.raises(ProtocolViolated, match="without any content"):
            await answer.begin()
        await answer.aclose()
        await site.gone.wait()
        assert site.sent < MAX_BYTES_BEFORE_CONTENT + 16 * KIB * KIB


@pytest.mark.parametrize("line", [UNSAID["empty text"], UNSAID["empty thoughts"], UNSAID["both in turn"]])
async def test_empty_deltas_before_the_first_content_are_not_kept(line: bytes) -> None:
    lines = line * (1024 * KIB // len(line))
    async with answering(Site(HEAD + chunk(lines) + chunk(TEXT + FINISH))) as answer:
        await answer.begin()
        events = answer._unread
        assert len(events) < 30_000  # of 180,000: only those of the first and the last read are kept
        assert isinstance((await events_of(answer))[-1], Finish)


async def test_each_line_before_the_first_content_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def says_something(event: Event) -> bool:
        nonlocal looked
        looked += 1
        return isinstance(event, TextDeltas)

    monkeypatch.setattr("upstream.answer._has_content", says_something)
    line, lines = UNSAID["citations"], 20_000
    async with answering(Site(HEAD + chunk(line * lines) + chunk(TEXT + FINISH))) as answer:
        await answer.begin()
        events = await events_of(answer)
    assert sum(isinstance(event, Citations) for event in events) == lines
    assert looked <= lines + 2


async def test_a_response_without_a_body_fails_as_truncated_or_empty() -> None:
    for head in (b"Content-Length: 0", b"Connection: close"):
        async with answering(Site(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")) as answer:
            if head.endswith(b"close"):
                answer._response.close()
            with pytest.raises((Truncated, EmptyAnswer)):
                await answer.begin()


def test_a_share_of_the_memory_budget_counts_only_beyond_its_free_amount() -> None:
    budget = MemoryBudget(limit=100)
    first, second = budget.share(), budget.share()
    assert first.set(64 * KIB)
    assert budget.total == 0
    assert first.set(64 * KIB + 60)
    assert not second.set(64 * KIB + 41)
    assert second.set(64 * KIB + 40)
    assert budget.total == budget.limit
    assert first.set(0)
    assert (budget.total, second.set(64 * KIB + 100)) == (40, True)
    assert second.set(0)
    assert budget.total == 0


def test_the_limits_on_response_heads_and_bytes_besides_the_body_are_64_kib() -> None:
    assert (MAX_HEAD_BYTES, MAX_BYTES_WITHOUT_BODY) == (64 * KIB, 64 * KIB)
