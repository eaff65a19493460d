"""A repeated request joins the answer to the first instead of starting another (`limits.join_repeats`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from caller import Caller, calling
from cutting import cutting
from kept_requests import kept
from polling import until
from running import RunningBridge, api_key, running_bridge

from bridge.state.state import keys_document
from bridge.tasks import TaskOwner
from handlers.request import joinable, joinable_answer
from handlers.request.appkeys import BUDGETS, CALL_QUEUE, DRAIN, JOINABLE, STATS
from handlers.request.joinable_answer import JoinableAnswer
from upstream.arena import Arena, Line, Step, Turn, Until

FIRST = {"x-stainless-retry-count": "0"}
RETRY = {"x-stainless-retry-count": "1"}
LEAVING = pytest.mark.parametrize("leave", [Caller.leave, Caller.vanish], ids=["close", "reset"])


@dataclass
class Play:
    """A script of answers in three parts, of which the second waits for `go`. Each answer says its number."""

    size: int = 1
    go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0

    async def __call__(self, turn: Turn) -> AsyncIterator[Step]:
        self.asked += 1
        yield Line("a0", f"answer {self.asked} " * self.size)
        self.begun.set()
        yield Until(self.go)
        yield Line("a0", f"to {turn.prompt} ")
        yield Line("a0", "ends")
        yield Line("ad", {"finishReason": "stop"})


@pytest.fixture
def play(arena: Arena) -> Play:
    play = Play()
    arena.script = play
    return play


def joinable_in(bridge: RunningBridge) -> list[JoinableAnswer]:
    """The answers that can be joined."""
    answers = bridge.app[JOINABLE]
    return list(answers)


def running(bridge: RunningBridge) -> JoinableAnswer:
    """The only answer that can be joined."""
    (answer,) = joinable_in(bridge)
    return answer


def joined_by(bridge: RunningBridge, callers: int) -> bool:
    """Whether one of these answers has been joined by this many callers."""
    return any(each.joined == callers for each in joinable_in(bridge))


async def ask(
    bridge: RunningBridge, body: Mapping[str, object], *, path: str = "chat/completions", **headers: str
) -> tuple[int, bytes]:
    async with bridge.http.post(
        f"{bridge.base_url}/{path}", json=body, headers={**bridge.headers, **headers}
    ) as answer:
        return answer.status, await answer.read()


def asking(
    tasks: TaskOwner, bridge: RunningBridge, body: Mapping[str, object], **more: Any
) -> asyncio.Task[tuple[int, bytes]]:
    return tasks.spawn(ask(bridge, body, **more), name="call")


def text(body: bytes) -> str:
    return str(orjson.loads(body)["choices"][0]["message"]["content"])


# Who joins


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", ["chat/completions", "completions", "messages", "responses"])
async def test_joined_callers_get_the_same_bytes_in_every_api(
    tasks: TaskOwner, arena: Arena, bridge: RunningBridge, play: Play, path: str, stream: bool
) -> None:
    bodies: dict[str, dict[str, object]] = {
        "chat/completions": bridge.chat("hi", n=2 if stream else 1),
        "completions": {"model": bridge.model(), "prompt": "hi"},
        "messages": {**bridge.chat("hi"), "max_tokens": 100},
        "responses": {"model": bridge.model(), "input": "hi"},
    }
    body = {**bodies[path], "stream": stream}
    first = asking(tasks, bridge, body, path=path)
    await play.begun.wait()
    second = asking(tasks, bridge, body, path=path)
    await until(lambda: running(bridge).joined == 1)
    play.go.set()
    assert (await first)[0] == 200
    assert await first == await second
    assert play.asked == len(arena.chats) == (2 if "n" in body and stream else 1)
    assert not joinable_in(bridge)
    assert (bridge.calls_held, bridge.app[JOINABLE].kept_bytes) == (0, 0)


async def test_requests_that_differ_in_key_history_or_model_never_join(
    tasks: TaskOwner, arena: Arena, tmp_path: Path
) -> None:
    arena.script = play = Play()
    async with running_bridge(arena, tmp_path) as bridge:
        secret, key = api_key()
        await keys_document(bridge.folder).update(lambda kept: (*kept, key))
        await until(lambda: bridge.state.keys.find(secret) is not None)
        another = next(each.public_name for each in arena.models if each.public_name != bridge.model())
        chats = (
            bridge.chat("hi"),
            bridge.chat("hi "),
            bridge.chat("hi", model=another),
            bridge.chat("hi", stream=True),
            bridge.chat("hi", user="another"),
        )
        calls = [asking(tasks, bridge, chat) for chat in chats]
        calls.append(asking(tasks, bridge, chats[0], Authorization=f"Bearer {secret}"))
        long = "k" * 60_000
        calls += [asking(tasks, bridge, chats[0], **{"Idempotency-Key": name}) for name in ("a", "b", long, f"{long}b")]
        await until(lambda: play.asked == len(calls))
        play.go.set()
        for call in calls:
            assert (await call)[0] == 200
        assert len(arena.chats) == len(calls)


async def test_requests_with_a_long_idempotency_key_join_and_only_its_digest_is_kept(
    tasks: TaskOwner, bridge: RunningBridge, play: Play
) -> None:
    """Only its digest is kept, as headers may be 64 KiB long and answers are kept for ten seconds after their end."""
    chat, headers = bridge.chat("hi"), {"Idempotency-Key": "\u00e9" * 20_000}
    calls = [asking(tasks, bridge, chat, **headers) for _ in range(2)]
    await until(lambda: sum(answer.joined for answer in bridge.app[JOINABLE]) == 1)
    assert all(len(answer.identity.idempotency_key) == 64 for answer in bridge.app[JOINABLE])
    play.go.set()
    assert [(await call)[0] for call in calls] == [200, 200]
    assert play.asked == 1


async def test_concurrent_first_tries_of_an_sdk_and_a_retry_of_either_stay_apart(
    tasks: TaskOwner, bridge: RunningBridge, play: Play
) -> None:
    """Callers draw samples with equal requests side by side, which their SDK marks as first tries."""
    chat = bridge.chat("hi")
    samples = [asking(tasks, bridge, chat, **FIRST) for _ in range(2)]
    await until(lambda: play.asked == 2)
    third = asking(tasks, bridge, chat, **RETRY)  # it could be a retry of either
    await until(lambda: play.asked == 3)
    play.go.set()
    assert len({text((await call)[1]) for call in (*samples, third)}) == 3


async def test_a_retry_joins_an_answer_whose_end_was_written(bridge: RunningBridge, play: Play) -> None:
    play.go.set()
    chat = bridge.chat("hi")
    first = await ask(bridge, chat, **FIRST)
    assert await ask(bridge, chat, **RETRY) == first
    assert await ask(bridge, chat, **RETRY) == first
    assert text((await ask(bridge, chat, **FIRST))[1]) != text(first[1]), "it wants another answer"
    assert play.asked == 2
    assert text((await ask(bridge, chat))[1]) != text(first[1])
    assert play.asked == 3


async def test_a_request_with_x_bridge_join_false_joins_nothing_and_ends_at_once(
    tasks: TaskOwner, arena: Arena, bridge: RunningBridge, play: Play
) -> None:
    headers, chat = {"x-bridge-join": "false"}, bridge.chat("hi", stream=True)
    apart = asking(tasks, bridge, chat, **headers)
    await play.begun.wait()
    assert joinable_in(bridge) == []
    apart.cancel()
    await asyncio.wait_for(arena.chats[0].closed.wait(), 30)

    play.begun.clear()
    calls = [asking(tasks, bridge, chat)]
    await play.begun.wait()
    calls.append(asking(tasks, bridge, chat, **headers))
    await until(lambda: play.asked == 3)
    play.go.set()
    (_, first), (_, second) = await asyncio.gather(*calls)
    assert (b"answer 2" in first, b"answer 3" in second) == (True, True)


async def test_requests_stay_apart_where_join_repeats_is_off(
    tasks: TaskOwner, arena: Arena, play: Play, tmp_path: Path
) -> None:
    async with running_bridge(arena, tmp_path, {"limits": {"join_repeats": False}}) as bridge:
        calls = [asking(tasks, bridge, bridge.chat("hi"), **RETRY) for _ in range(3)]
        await until(lambda: play.asked == 3)
        play.go.set()
        await asyncio.gather(*calls)
        assert len(arena.chats) == 3


@pytest.mark.parametrize("callers", [30, pytest.param(1000, marks=pytest.mark.slow)])
async def test_many_callers_cost_one_upstream_stream(
    tasks: TaskOwner, arena: Arena, play: Play, tmp_path: Path, callers: int
) -> None:
    async with running_bridge(arena, tmp_path, {"limits": {"concurrency": 1000}}) as bridge:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as bridge.http:
            calls: list[asyncio.Task[tuple[int, bytes]]] = []
            while len(calls) < callers:  # in steps, as the bridge limits connections that have shown no key
                calls += [asking(tasks, bridge, bridge.chat("hi", stream=True)) for _ in range(min(callers, 100))]
                await until(partial(joined_by, bridge, len(calls) - 1))
            play.go.set()
            answers = await asyncio.gather(*calls)
        assert len(set(answers)) == 1
        assert answers[0][0] == 200
        assert len(arena.chats) == 1
        assert (bridge.calls_held, bridge.app[JOINABLE].kept_bytes) == (0, 0)


# The caller leaves


@LEAVING
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_returning_caller_gets_the_answer_from_its_beginning(
    tasks: TaskOwner, arena: Arena, bridge: RunningBridge, play: Play, leave: Callable[[Caller], None], stream: bool
) -> None:
    chat = bridge.chat("hi", stream=stream)
    async with calling(bridge.origin, bridge.key) as caller:
        await caller.ask(chat)
        await play.begun.wait()
        leave(caller)
        await until(lambda: not running(bridge).attended)
    assert bridge.calls_held == 1, "the account; the key's slot is free"
    again = tasks.spawn(bridge.post(chat), name="call")
    await until(lambda: running(bridge).joined == 1)
    play.go.set()
    async with await again as answer:
        assert answer.headers["x-bridge-conversation"] == "joined; why=same"
        assert answer.headers["x-bridge-evaluation"].endswith(str(arena.chats[0].evaluation_id))
        told = await answer.read()
    assert all(word in told for word in (b"answer 1", b"to hi", b"ends"))
    assert len(arena.chats) == 1
    await until(lambda: bridge.calls_held == 0)
    history = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "answer 1 to hi ends"},
        {"role": "user", "content": "more"},
    ]
    async with await bridge.post(bridge.chat(messages=history)) as followed:
        assert followed.headers["x-bridge-conversation"] == "follow-up; why=known"
    assert [call.evaluation_id for call in arena.chats] == [arena.chats[0].evaluation_id] * 2


async def test_a_caller_that_returns_after_the_end_gets_the_whole_answer(
    arena: Arena, bridge: RunningBridge, play: Play
) -> None:
    chat = bridge.chat("hi")
    async with calling(bridge.origin, bridge.key) as caller:
        await caller.ask(chat)
        await play.begun.wait()
        caller.vanish()
        await until(lambda: not running(bridge).attended)
    play.go.set()
    await until(lambda: running(bridge).ended)
    first = await ask(bridge, chat, **FIRST)
    assert text(first[1]) == "answer 1 to hi ends"
    assert len(arena.chats) == 1


@pytest.mark.parametrize("how", ["in time", "too many", "shutdown"])
async def test_an_abandoned_answer_to_which_no_caller_returns_is_closed_upstream(
    arena: Arena, bridge: RunningBridge, play: Play, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async with calling(bridge.origin, bridge.key) as caller:
        await caller.ask(bridge.chat("hi", stream=True))
        await caller.sees(b"answer 1")
        caller.leave()
        await until(lambda: not running(bridge).attended)
    assert not arena.chats[0].closed.is_set()
    match how:
        case "in time":
            running(bridge).on_timer()  # as would happen after ten seconds
        case "too many":
            monkeypatch.setattr(joinable, "MAX_UNATTENDED_PER_KEY", 1)
            play.begun.clear()
            async with calling(bridge.origin, bridge.key) as caller:
                await caller.ask(bridge.chat("another"))
                await play.begun.wait()
                caller.leave()
                await arena.chats[0].closed.wait()
            running(bridge).on_timer()
        case "shutdown":
            bridge.app[DRAIN].begin()
    for call in arena.chats:
        await asyncio.wait_for(call.closed.wait(), 10)
    await until(lambda: (bridge.calls_held, bridge.app[DRAIN].running) == (0, 0))
    assert not joinable_in(bridge)
    assert bridge.app[JOINABLE].kept_bytes == 0
    assert {entry.status for entry in await kept(bridge)} == {499}


async def test_joined_callers_keep_an_answer_running_and_may_leave(
    arena: Arena, bridge: RunningBridge, play: Play
) -> None:
    chat = bridge.chat("hi", stream=True)
    async with (
        calling(bridge.origin, bridge.key) as first,
        calling(bridge.origin, bridge.key) as second,
        calling(bridge.origin, bridge.key) as third,
    ):
        for number, caller in enumerate((first, second, third)):
            await caller.ask(chat)
            await until(partial(joined_by, bridge, number))
            await caller.sees(b"answer 1")
        first.vanish()
        await until(lambda: not running(bridge).attended)
        second.leave()
        await until(lambda: running(bridge).joined == 1)
        play.go.set()
        await third.sees(b"ends")
        await third.sees(b"[DONE]")
    assert len(arena.chats) == 1


# Bounds


async def test_a_long_answer_admits_no_more_callers_but_still_reaches_joined_ones(
    tasks: TaskOwner, bridge: RunningBridge, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joinable_answer, "MAX_ANSWER_BYTES", 10_000)
    chat = bridge.chat("hi " + "long " * 3000, stream=True)
    first = asking(tasks, bridge, chat)
    await play.begun.wait()
    second = asking(tasks, bridge, chat)
    await until(lambda: running(bridge).joined == 1)
    play.go.set()
    assert await first == await second
    assert bridge.app[JOINABLE].kept_bytes == 0
    play.go.clear()
    play.begun.clear()
    play.size = 2000
    third = asking(tasks, bridge, chat)
    await play.begun.wait()
    await until(lambda: not joinable_in(bridge))
    fourth = asking(tasks, bridge, chat)
    await until(lambda: play.asked == 3)
    play.go.set()
    await asyncio.gather(third, fourth)
    assert bridge.app[JOINABLE].kept_bytes == 0


async def test_an_abandoned_long_answer_is_closed_at_once(
    arena: Arena, bridge: RunningBridge, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joinable_answer, "MAX_ANSWER_BYTES", 10_000)
    play.size = 2000
    async with calling(bridge.origin, bridge.key) as caller:
        await caller.ask(bridge.chat("hi", stream=True))
        await play.begun.wait()
        await until(lambda: not joinable_in(bridge))
        caller.vanish()
        await asyncio.wait_for(arena.chats[0].closed.wait(), 10)


# What is counted, and what goes wrong


async def test_an_answer_that_was_joined_is_counted_once(
    tasks: TaskOwner, arena: Arena, play: Play, tmp_path: Path
) -> None:
    options = {"concurrency": 1, "day_requests": 2}
    async with running_bridge(arena, tmp_path, key_options=options) as bridge:
        chat = bridge.chat("hi")
        async with calling(bridge.origin, bridge.key) as caller:
            await caller.ask(chat)
            await play.begun.wait()
            caller.vanish()
            await until(lambda: not running(bridge).attended)
        second = asking(tasks, bridge, chat)
        await until(lambda: running(bridge).joined == 1)
        play.go.set()
        assert (await second)[0] == 200
        await until(lambda: not joinable_in(bridge))
        joined, first = await kept(bridge)
        assert (first.status, first.conversation, first.written > 0) == (499, "new; why=first", True)
        assert (joined.status, joined.conversation, joined.written) == (200, "joined; why=same", 0)
        assert (joined.model, joined.account, joined.attempts) == (first.model, "", ())
        (key,) = bridge.state.keys
        used = bridge.app[BUDGETS].used(key.id)
        assert used == (1, first.read + first.written)


async def test_a_joining_request_needs_no_free_slot_of_its_key(
    tasks: TaskOwner, play: Play, arena: Arena, tmp_path: Path
) -> None:
    options = {"concurrency": 1}
    async with running_bridge(arena, tmp_path, {"limits": {"queue_seconds": 60}}, key_options=options) as bridge:
        calls = [asking(tasks, bridge, bridge.chat("hi"))]
        await play.begun.wait()
        calls.append(asking(tasks, bridge, bridge.chat("hi")))
        await until(lambda: running(bridge).joined == 1)
        waiting = bridge.chat("something else")
        async with calling(bridge.origin, bridge.key) as caller:
            await caller.ask(waiting)
            await until(lambda: len(joinable_in(bridge)) == 2)
            caller.vanish()  # nothing was sent upstream, so it gives up its place
            await until(lambda: len(joinable_in(bridge)) == 1)
        play.go.set()
        assert await calls[0] == await calls[1]
        assert len(arena.chats) == 1


def failing(arena: Arena, *before: Line) -> tuple[asyncio.Event, asyncio.Event]:
    """Script an answer that fails after these lines: it sets the first event after them, and awaits the second."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def fail(_: Turn) -> AsyncIterator[Step]:
        for line in before:
            yield line
        begun.set()
        yield Until(go)
        yield Line("a3", "no more")

    arena.script = fail
    return begun, go


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_failure_before_the_answer_reaches_all_joined_callers(
    tasks: TaskOwner, arena: Arena, bridge: RunningBridge, stream: bool
) -> None:
    begun, go = failing(arena)
    chat = bridge.chat("hi", stream=stream)
    calls = [asking(tasks, bridge, chat)]
    await begun.wait()
    calls.append(asking(tasks, bridge, chat))
    await until(lambda: running(bridge).joined == 1)
    go.set()
    one, other = [(status, orjson.loads(body)["error"]["message"]) for status, body in await asyncio.gather(*calls)]
    assert one == other
    assert one[0] == 502
    assert not joinable_in(bridge)
    assert {entry.model for entry in await kept(bridge)} == {bridge.model()}


@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses"])
async def test_a_stream_that_breaks_off_does_so_for_all_joined_callers(
    tasks: TaskOwner, arena: Arena, bridge: RunningBridge, path: str
) -> None:
    begun, go = failing(arena, Line("a0", "half of "))
    chat = {"model": bridge.model(), "input": "hi"} if path == "responses" else bridge.chat("hi", max_tokens=100)
    calls = [asking(tasks, bridge, {**chat, "stream": True}, path=path)]
    await begun.wait()
    calls.append(asking(tasks, bridge, {**chat, "stream": True}, path=path))
    await until(lambda: running(bridge).joined == 1)
    go.set()
    one, other = await asyncio.gather(*calls)
    assert one == other
    assert one[0] == 200
    assert b"no more" in one[1]
    first, second = await kept(bridge)
    assert (first.word, first.code, first.message) == (second.word, second.code, second.message)
    assert first.word != "ok"


async def test_a_broken_stream_is_recorded_as_a_failure_for_the_caller_that_joined(
    tasks: TaskOwner, arena: Arena, bridge: RunningBridge
) -> None:
    begun, go = failing(arena, Line("a0", "half of "))
    chat = bridge.chat("hi", stream=True)
    async with calling(bridge.origin, bridge.key) as caller:
        await caller.ask(chat)
        await begun.wait()
        second = asking(tasks, bridge, chat)
        await until(lambda: running(bridge).joined == 1)
        caller.vanish()
        await until(lambda: not running(bridge).attended)
    go.set()
    assert b"no more" in (await second)[1]
    joined, first = sorted(await kept(bridge), key=lambda entry: entry.status)
    assert (first.status, first.word) == (499, "client_gone")
    assert (joined.status, joined.word, joined.code) == (200, "upstream_error", "upstream_error")
    totals = bridge.app[STATS].stats.totals
    assert (totals.requests, totals.errors, totals.gone) == (2, 1, 1)


async def test_a_failure_before_a_joined_stream_begins_carries_the_current_time(arena: Arena, tmp_path: Path) -> None:
    begun, go = failing(arena)
    async with running_bridge(arena, tmp_path, {"stream": {"keepalive_seconds": 0.05}}) as bridge:
        body = {"model": bridge.model(), "input": "hi", "stream": True}
        async with calling(bridge.origin, bridge.key, path="/v1/responses") as caller:
            await caller.ask(body)
            await begun.wait()
            caller.vanish()
            await until(lambda: not running(bridge).attended)
        url = f"{bridge.base_url}/responses"
        async with bridge.http.post(url, json=body, headers=bridge.headers) as answer:
            await answer.content.readuntil(b"\n\n")
            go.set()
            told = await answer.read()
    (failed,) = [orjson.loads(line[6:]) for line in told.split(b"\n") if b'"response.failed"' in line]
    assert abs(failed["response"]["created_at"] - time.time()) < 600


async def test_each_choice_of_a_joined_stream_begins_once_for_every_caller(
    tasks: TaskOwner, arena: Arena, tmp_path: Path
) -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def late(_: Turn) -> AsyncIterator[Step]:
        begun.set()
        yield Until(go)
        yield Line("a0", "hello")
        yield Line("ad", {"finishReason": "stop"})

    arena.script = late
    keepalive = {"stream": {"keepalive": "chunk", "keepalive_seconds": 0.05}}
    async with running_bridge(arena, tmp_path, keepalive) as bridge:
        seen: list[bytes] = []

        async def ask_and_see() -> list[tuple[int, str]]:
            async with await bridge.post(bridge.chat("hi", n=2, stream=True)) as answer:
                seen.append(await answer.content.readuntil(b"\n\n"))
                told = seen[-1] + await answer.read()
            chunks = [orjson.loads(line[6:]) for line in told.split(b"\n") if line.startswith(b"data: {")]
            deltas = [(choice["index"], choice["delta"]) for chunk in chunks for choice in chunk["choices"]]
            return sorted((index, delta["role"]) for index, delta in deltas if "role" in delta)

        calls = [tasks.spawn(ask_and_see(), name="call")]
        await begun.wait()
        calls.append(tasks.spawn(ask_and_see(), name="call"))
        await until(lambda: len(seen) == 2)
        go.set()
        assert await asyncio.gather(*calls) == [[(0, "assistant"), (1, "assistant")]] * 2


async def test_a_queued_request_gives_up_its_place_once_all_its_callers_have_left(
    play: Play, arena: Arena, tmp_path: Path
) -> None:
    options = {"concurrency": 1}
    async with (
        running_bridge(arena, tmp_path, {"limits": {"queue_seconds": 60}}, key_options=options) as bridge,
        calling(bridge.origin, bridge.key) as running_one,
        calling(bridge.origin, bridge.key) as first,
        calling(bridge.origin, bridge.key) as second,
    ):
        await running_one.ask(bridge.chat("hi"))
        await play.begun.wait()
        await first.ask(bridge.chat("something else"))
        await until(lambda: len(bridge.app[CALL_QUEUE]) == 1)
        await second.ask(bridge.chat("something else"))
        await until(lambda: joined_by(bridge, 1))
        first.vanish()
        await until(lambda: any(not answer.attended for answer in joinable_in(bridge)))
        assert len(bridge.app[CALL_QUEUE]) == 1
        second.vanish()
        await until(lambda: len(bridge.app[CALL_QUEUE]) == 0, within=5)
        play.go.set()


async def test_the_last_request_of_a_budget_is_joined_by_its_retry(
    tasks: TaskOwner, arena: Arena, play: Play, tmp_path: Path
) -> None:
    async with running_bridge(arena, tmp_path, key_options={"day_requests": 1}) as bridge:
        chat = bridge.chat("hi")
        async with calling(bridge.origin, bridge.key) as caller:
            await caller.ask(chat)
            await play.begun.wait()
            caller.vanish()
            await until(lambda: not running(bridge).attended)
        second = asking(tasks, bridge, chat, **RETRY)
        await until(lambda: joined_by(bridge, 1) or second.done())
        play.go.set()
        assert (await second)[0] == 200
        assert (await ask(bridge, bridge.chat("another")))[0] == 429


@pytest.mark.parametrize("left", ["before", "after"])
async def test_a_joined_caller_is_answered_although_the_daemon_is_stopping(
    tasks: TaskOwner, bridge: RunningBridge, play: Play, left: str
) -> None:
    chat = bridge.chat("hi", stream=True)
    async with calling(bridge.origin, bridge.key) as caller:
        await caller.ask(chat)
        await play.begun.wait()
        second = asking(tasks, bridge, chat)
        await until(lambda: running(bridge).joined == 1)
        if left == "before":
            caller.vanish()
            await until(lambda: not running(bridge).attended)
        bridge.app[DRAIN].begin()
        if left == "after":
            answer = running(bridge)
            caller.vanish()
            await until(lambda: not answer.attended)
        play.go.set()
        status, body = await second
    assert (status, body.endswith(b"data: [DONE]\n\n")) == (200, True)


# The SDK


@pytest.mark.parametrize("step", [97, pytest.param(1, marks=pytest.mark.slow)])
async def test_the_sdk_gets_one_whole_answer_wherever_its_connection_is_cut(
    arena: Arena, bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """It recovers by its own retries, and the site sees only one evaluation for each call."""
    monkeypatch.setattr(joinable, "GRACE_SECONDS", 600.0)  # generous, for busy machines
    places = asyncio.Semaphore(100)
    async with cutting(bridge.origin) as (origin, cut):
        sdk = bridge.sdk(base_url=f"{origin}/v1", max_retries=2, default_headers={"Connection": "close"})

        async def whole(at: int) -> str:
            cut[f"whole {at}"] = at
            answer = await sdk.chat.completions.create(model=bridge.model(), messages=said(f"/say whole {at}."))
            return answer.choices[0].message.content or ""

        async def streamed(at: int) -> str:
            cut[f"streamed {at}"] = at
            chunks = await sdk.chat.completions.create(
                model=bridge.model(), messages=said(f"/say streamed {at}."), stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

        async def one(ask: Callable[[int], Awaitable[str]], at: int) -> str:
            async with places:
                return await ask(at)

        points = [(whole, at) for at in range(0, 1000, step)] + [(streamed, at) for at in range(0, 300, step)]
        answers = await asyncio.gather(*(one(ask, at) for ask, at in points))
    assert answers == [f"{ask.__name__} {at}." for ask, at in points]
    assert len(arena.chats) == len(answers)


def said(words: str) -> Any:
    """A history of one message, untyped because the SDK's type for it is a union of TypedDicts."""
    return [{"role": "user", "content": words}]
