"""Callers that disconnect at any moment: the upstream call ends, and no slot, task or logged error remains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from caller import Caller, calling
from peer import pool_of
from request_log import RequestLog
from running import RunningBridge, running_bridge

from bridge.answering import tokens
from bridge.answering.messages import Message
from handlers.request.appkeys import CLIENT, DRAIN
from upstream.arena import Arena, Line, Step, Turn, Until

#: How long anything may outlive its caller, in seconds (docs/behaviour.md, "What never happens").
SECONDS = 1.0


@dataclass
class Play:
    """An answer of some lines, followed by silence; its events report the progress."""

    lines: tuple[str, ...] = ()
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    said: asyncio.Event = field(default_factory=asyncio.Event)

    def script(self, _: Turn) -> AsyncIterator[Step]:
        """Play the answer, as the arena's script."""
        self.begun.set()
        return self._steps()

    async def _steps(self) -> AsyncIterator[Step]:
        for line in self.lines:
            yield Line("a0", line)
        self.said.set()
        yield Until(asyncio.Event())


@dataclass(frozen=True)
class Moment:
    """A moment at which the caller leaves; `comes` returns when it has been reached."""

    name: str
    comes: Callable[[Caller, Play], Awaitable[object]]
    stream: bool = True
    lines: tuple[str, ...] = ()
    fault: str | None = None


MOMENTS = (
    Moment("streaming, in the middle", lambda caller, _: caller.sees(b'"content":"two"'), lines=("one", "two")),
    Moment("streaming, before upstream's status", lambda _, play: play.begun.wait(), fault="no_headers"),
    Moment("streaming, before the first byte", lambda _, play: play.said.wait()),
    Moment("streaming, during keep-alives", lambda caller, _: caller.sees(b": keep-alive\n\n")),
    Moment("streaming, in the middle's silence", lambda caller, _: caller.sees(b": keep-alive\n\n"), lines=("one",)),
    Moment("whole, before upstream's status", lambda _, play: play.begun.wait(), stream=False, fault="no_headers"),
    Moment("whole, before the first byte", lambda _, play: play.said.wait(), stream=False),
    Moment("whole, in the middle", lambda _, play: play.said.wait(), stream=False, lines=("one", "two")),
    Moment("reading slowly", lambda caller, _: caller.sees(b'"role"'), lines=("x" * 65536,) * 500),
)


LEAVING = pytest.mark.parametrize("leave", [Caller.leave, Caller.vanish], ids=["close", "reset"])


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge that has answered once, and soon sends keep-alives."""
    async with running_bridge(
        arena, tmp_path, {"stream": {"keepalive_seconds": 0.05}, "limits": {"join_repeats": False}}
    ) as bridge:
        async with await bridge.post(bridge.chat("hello")) as response:
            await response.read()
        yield bridge


@LEAVING
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name)
async def test_a_caller_that_disconnects_leaves_no_upstream_call_slot_or_task(
    bridge: RunningBridge,
    arena: Arena,
    request_log: RequestLog,
    caplog: pytest.LogCaptureFixture,
    moment: Moment,
    leave: Callable[[Caller], None],
) -> None:
    play = Play(moment.lines)
    arena.script = play.script
    if moment.fault is not None:
        arena.faults.arm(moment.fault)
    before = asyncio.all_tasks()
    async with calling(bridge.origin, bridge.key, receive_bytes=4096) as caller:
        await caller.ask(bridge.chat("hello", stream=moment.stream))
        async with asyncio.timeout(SECONDS):
            await moment.comes(caller, play)
        assert bridge.calls_held == 2  # one for the key, and one for the account
        leave(caller)
        line = await request_log.line(SECONDS)
        await asyncio.wait_for(arena.chats[-1].closed.wait(), SECONDS)
    check_gone(line)
    await check_nothing_left(bridge, before, caplog)
    assert len(arena.chats) == 2  # the fixture's and this one, without another attempt


@LEAVING
async def test_a_caller_that_disconnects_while_sending_its_body_leaves_nothing_behind(
    bridge: RunningBridge,
    request_log: RequestLog,
    caplog: pytest.LogCaptureFixture,
    leave: Callable[[Caller], None],
) -> None:
    before = asyncio.all_tasks()
    async with calling(bridge.origin, bridge.key) as caller:
        await caller.send_head(1000, "Expect: 100-continue")
        await caller.sees(b"100 Continue\r\n\r\n")
        caller.writer.write(b'{"model":')
        await caller.writer.drain()
        leave(caller)
        check_gone(await request_log.line(SECONDS))
    await check_nothing_left(bridge, before, caplog)


@LEAVING
async def test_a_caller_that_disconnects_while_its_tokens_are_counted_leaves_nothing_behind(
    bridge: RunningBridge,
    request_log: RequestLog,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    leave: Callable[[Caller], None],
) -> None:
    """A turn of more than `PIECE_CHARS` characters is counted in a thread, which takes a moment."""
    async with await bridge.post(bridge.chat("/say one")) as response:
        answer = (await response.json())["choices"][0]["message"]
    await request_log.line(SECONDS)
    counting = asyncio.Event()
    counted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def count(_: Sequence[Message]) -> int:
        counting.set()
        return await counted

    monkeypatch.setattr(tokens, "prompt_tokens", count)
    before = asyncio.all_tasks()
    turns = [{"role": "user", "content": "/say one"}, answer, {"role": "user", "content": "/say two"}]
    async with calling(bridge.origin, bridge.key) as caller:
        await caller.ask(bridge.chat(messages=turns, stream=True))
        await asyncio.wait_for(counting.wait(), SECONDS)
        leave(caller)
        check_gone(await request_log.line(SECONDS))
    await check_nothing_left(bridge, before, caplog)
    assert pool_of(bridge.app[CLIENT]).busy == 0


@LEAVING
@pytest.mark.parametrize("join_repeats", [False, True], ids=["alone", "may be joined"])
async def test_a_caller_that_disconnects_after_the_whole_answer_is_logged_as_answered(
    arena: Arena, tmp_path: Path, request_log: RequestLog, leave: Callable[[Caller], None], join_repeats: bool
) -> None:
    """nginx closes its connection after each answer. Upstream's response ends a packet later, and is waited for."""
    end = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "one")
        yield Line("ad", {"finishReason": "stop"})
        yield Until(end)

    arena.script = script
    async with running_bridge(arena, tmp_path, {"limits": {"join_repeats": join_repeats}}) as bridge:
        async with calling(bridge.origin, bridge.key) as caller:
            await caller.ask(bridge.chat("hello", stream=True))
            await caller.sees(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            leave(caller)
        await asyncio.sleep(0.1)  # time for the bridge to notice
        end.set()
        line = await request_log.line(SECONDS)
        assert (line["status"], line["reason"], line["tokens_out"]) == (200, "ok", 1)
        assert not arena.chats[-1].closed.is_set(), "the connection to the site can be used again"
        assert (bridge.calls_held, bridge.app[DRAIN].running) == (0, 0)


def check_gone(line: dict[str, object]) -> None:
    """Check that the request's log line says that the caller left, without an error code."""
    assert (line["status"], line["reason"], line.get("code")) == (499, "client_gone", None)


async def check_nothing_left(
    bridge: RunningBridge, before: set[asyncio.Task[object]], caplog: pytest.LogCaptureFixture
) -> None:
    """Check that no slot, account or task is still in use, and that no error was logged."""
    if new := asyncio.all_tasks() - before:
        _, left = await asyncio.wait(new, timeout=SECONDS)
        assert left == set()
    assert bridge.calls_held == 0
    assert bridge.app[DRAIN].running == 0
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
