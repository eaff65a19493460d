"""docs/behaviour.md, "Pictures and documents": each picture is uploaded once, models get the right
ones, and a bad one causes no call.
"""

from __future__ import annotations

import asyncio
import io
import json
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from frames import DONE, frames
from leaving import leave_when, nobody_returns
from pictures import BAD_PARTS, MAX_BYTES, BadPart, png, user_with
from process import Home
from running import RunningBridge, running_bridge
from tenacity import wait_none

from handlers.request.appkeys import BODY_BUDGET
from handlers.request.budget import TOTAL_BYTES
from upstream.arena import Arena, Call
from upstream.gate import FAILURES_TO_OPEN

SEES_MANY = "gemini-4-pro"
SEES_ONE = "grok-5-fast"
SEES_NONE = "qwen4-max-preview"

A, B, C = png(0xA), png(0xB), png(0xC)

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upstream.retry._back_off", wait_none())


@dataclass
class Chat:
    """A client in the middle of a conversation: it sends its whole history each time."""

    bridge: RunningBridge
    stream: bool = False
    model: str = SEES_MANY
    messages: list[Mapping[str, Any]] = field(default_factory=list)

    async def say(self, text: str, *pictures: bytes) -> str:
        """Send the next turn; return what `x-bridge-conversation` says."""
        self.messages.append(user_with(text, *pictures))
        body = self.bridge.chat(messages=self.messages, model=self.model, stream=self.stream)
        async with await self.bridge.post(body) as answer:
            assert answer.status == 200, await answer.text()
            self.messages.append({"role": "assistant", "content": text_of(await answer.read(), stream=self.stream)})
            return answer.headers["x-bridge-conversation"].partition(";")[0]


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def chat(bridge: RunningBridge, request: pytest.FixtureRequest) -> Chat:
    return Chat(bridge, bool(request.param))


def text_of(body: bytes, *, stream: bool) -> str:
    """The text of a complete answer."""
    if not stream:
        return str(json.loads(body)["choices"][0]["message"]["content"])
    *chunks, done = frames(body)
    assert done == DONE
    return "".join(json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks)


def encoded(body: object) -> io.BytesIO:
    """A large body as a file object, which the HTTP client prefers."""
    return io.BytesIO(json.dumps(body).encode())


def calls(arena: Arena) -> list[Call]:
    """The calls about evaluations."""
    return arena.chats


def steps(arena: Arena) -> Counter[str]:
    """How often each step of an upload was taken."""
    kinds = Counter(call.kind for call in (*arena.calls, *arena.storage.calls))
    return Counter({kind: kinds[kind] for kind in ("upload-url", "put", "sign") if kinds[kind]})


def seen(arena: Arena) -> list[bytes]:
    """The pictures that the model was shown with the last turn, as the storage has them."""
    evaluation = arena.evaluations[str(calls(arena)[-1].evaluation_id)]
    turn = [message for message in evaluation.messages if message.role == "user"][-1]
    stored = {found.sha256: found.data for found in arena.storage.objects.values()}
    return [stored[each["sha256"]] for each in turn.attachments]


def prompt(call: Call) -> str:
    return str(json.loads(call.body)["userMessage"]["content"])


# Each picture once


async def test_a_follow_up_uploads_only_new_pictures(arena: Arena, chat: Chat) -> None:
    assert await chat.say("what is this?", A) == "new"
    assert seen(arena) == [A]
    assert await chat.say("are you sure?") == "follow-up"
    assert seen(arena) == []
    assert await chat.say("look once more", A) == "follow-up"
    assert seen(arena) == [A]
    assert steps(arena) == {"upload-url": 1, "put": 1, "sign": 1}
    assert await chat.say("and now?", B, A) == "follow-up"
    assert seen(arena) == [B, A]
    assert steps(arena) == {"upload-url": 2, "put": 2, "sign": 2}
    assert len(arena.evaluations) == 1


async def test_a_repeated_request_with_a_picture_regenerates_without_an_upload(arena: Arena, chat: Chat) -> None:
    await chat.say("what is this?", A)
    del chat.messages[:]
    assert await chat.say("what is this?", A) == "regenerate"
    assert steps(arena) == {"upload-url": 1, "put": 1, "sign": 1}


async def test_a_history_with_another_picture_starts_a_new_evaluation(arena: Arena, chat: Chat) -> None:
    await chat.say("what is this?", A)
    answer = chat.messages[-1]
    for pictures in ((B,), (), (A, A), (A, B)):
        chat.messages[:] = [user_with("what is this?", *pictures), answer]
        assert await chat.say("are you sure?") == "new"
        assert seen(arena) == list(pictures)
    chat.messages[:] = [user_with("what is this?", A), answer]
    assert await chat.say("are you sure?") == "follow-up"


async def test_earlier_pictures_are_sent_with_the_history_and_numbered(arena: Arena, chat: Chat) -> None:
    chat.messages += [user_with("first", A, B), {"role": "assistant", "content": "I see"}]
    assert await chat.say("second", C) == "new"
    assert seen(arena) == [A, B, C]
    assert prompt(calls(arena)[-1]).endswith(
        "[User, picture 1, picture 2]\nfirst\n\n[Assistant]\nI see\n\n[User, picture 3]\nsecond"
    )


async def test_a_picture_without_text_is_sent_alone(arena: Arena, chat: Chat) -> None:
    await chat.say("", A)
    assert (seen(arena), prompt(calls(arena)[-1])) == ([A], "")


async def test_a_picture_is_uploaded_again_for_another_account(arena: Arena, tmp_path: Path) -> None:
    sessions = {session.user_id: session for session in map(arena.sign_in, ("ada@example.org", "bob@example.org"))}
    async with running_bridge(arena, tmp_path, sessions=tuple(sessions.values())) as bridge:
        chat = Chat(bridge)
        await chat.say("what is this?", A)
        first = str(calls(arena)[-1].account)
        arena.expire(sessions[first])
        assert await chat.say("are you sure?") == "new"
        assert str(calls(arena)[-1].account) != first
        assert seen(arena) == [A]
        assert [call.account for call in arena.storage.calls] == [first, calls(arena)[-1].account]


OTHER_ACCOUNT = {"no call is left for it": ("rate_limited", "create"), "its cookie is dead": ("expired", "upload-url")}


@pytest.mark.parametrize(("fault", "on"), OTHER_ACCOUNT.values(), ids=OTHER_ACCOUNT)
async def test_the_account_of_a_repeated_attempt_uploads_the_picture_itself(
    fault: str, on: str, arena: Arena, tmp_path: Path
) -> None:
    sessions = (arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org"))
    arena.faults.arm(fault, on=on)
    async with running_bridge(arena, tmp_path, sessions=sessions) as bridge:
        await Chat(bridge).say("what is this?", A)
    owner = arena.evaluations[str(calls(arena)[-1].evaluation_id)].owner
    assert arena.storage.calls[-1].account == owner
    assert seen(arena) == [A]


async def test_a_cookie_rotated_during_an_upload_is_used_for_the_chat(arena: Arena, chat: Chat) -> None:
    for step in ("upload-url", "sign"):
        arena.faults.arm("rotate_cookie", on=step)
    await chat.say("what is this?", A)
    assert await chat.say("are you sure?") == "follow-up"
    assert not arena.faults.armed()


async def test_a_restarted_conversation_uploads_no_picture_again_within_the_hour(arena: Arena, chat: Chat) -> None:
    await chat.say("what is this?", A)
    del chat.messages[:]
    assert await chat.say("what is that?", A) == "new"
    assert (seen(arena), steps(arena)) == ([A], {"upload-url": 1, "put": 1, "sign": 1})


async def test_a_url_about_to_expire_is_signed_again(arena: Arena, chat: Chat) -> None:
    arena.storage.expires = 200
    await chat.say("what is this?", A)
    arena.storage.expires = 3600
    for _ in range(2):
        await chat.say("and now?", A)
        assert seen(arena) == [A]
        assert steps(arena) == {"upload-url": 1, "put": 1, "sign": 2}


async def test_a_picture_missing_from_the_storage_is_uploaded_again(arena: Arena, chat: Chat) -> None:
    arena.storage.expires = 200
    await chat.say("what is this?", A)
    (key,) = arena.storage.objects
    arena.storage.forget(key)
    await chat.say("and now?", A)
    assert (seen(arena), steps(arena)["put"]) == ([A], 2)


async def test_uploads_succeed_after_a_deployment_of_the_site(arena: Arena, chat: Chat) -> None:
    await chat.say("what is this?", A)
    arena.deploy()
    await chat.say("and this?", B)
    assert (seen(arena), steps(arena)["put"]) == ([B], 2)


async def test_concurrent_requests_with_one_picture_upload_it_once(arena: Arena, bridge: RunningBridge) -> None:
    await asyncio.gather(*(Chat(bridge).say(f"{number}", A) for number in range(10)))
    assert steps(arena) == {"upload-url": 1, "put": 1, "sign": 1}


# Uploads that fail


@dataclass(frozen=True)
class Trouble:
    """A fault of an upload, and how often it occurs; `times=None` means always."""

    fault: str
    times: int | None = 1
    options: Mapping[str, Any] = field(default_factory=dict)


OVERCOME = {
    "503 once": Trouble("put_unavailable"),
    "503 twice": Trouble("put_unavailable", 2),
    "500 from the site": Trouble("server_error", 2, {"on": "upload-url"}),
    "reset in the middle": Trouble("reset_middle", 1, {"on": "put", "after": 1}),
    "reset at the end, though stored": Trouble("reset_middle", 1, {"on": "put", "after": 99}),
    "closed before the answer": Trouble("close_before_headers", 1, {"on": "put"}),
    "slow": Trouble("slow", 1, {"on": "put", "delta_seconds": 0.02}),
    "an upload URL that has expired": Trouble("expired_url", 1, {"on": "upload-url"}),
    "the storage calls it expired": Trouble("put_expired"),
    "a stale action id": Trouble("stale_action"),
    "reset while it is signed": Trouble("reset_before_headers", 1, {"on": "sign"}),
}

FATAL = {
    "503 for good": Trouble("put_unavailable", None),
    "500 from the site for good": Trouble("server_error", None, {"on": "put"}),
    "forged": Trouble("put_forged", None),
    "expired for good": Trouble("expired_url", None, {"on": "upload-url"}),
    "no upload URL": Trouble("action_failed", None, {"on": "upload-url"}),
    "not signed": Trouble("action_failed", None, {"on": "sign"}),
    "resets for good": Trouble("reset_middle", None, {"on": "put", "after": 1}),
    "silence": Trouble("no_headers", None, {"on": "put"}),
}


@pytest.mark.parametrize("trouble", OVERCOME.values(), ids=OVERCOME)
async def test_an_upload_overcomes_passing_faults(trouble: Trouble, arena: Arena, chat: Chat) -> None:
    arena.faults.arm(trouble.fault, trouble.times, **trouble.options)
    large = png(size=100_000)
    await chat.say("what is this?", large)
    assert not arena.faults.armed()
    assert seen(arena) == [large]
    assert len(calls(arena)) == 1


@streamed_and_not
@pytest.mark.parametrize("trouble", FATAL.values(), ids=FATAL)
async def test_an_upload_that_keeps_failing_is_a_502_image_upload_failed(
    trouble: Trouble, stream: bool, arena: Arena, tmp_path: Path
) -> None:
    arena.faults.arm(trouble.fault, trouble.times, **trouble.options)
    async with running_bridge(arena, tmp_path, {"upstream": {"upload_timeout": 0.5}}) as bridge:
        body = bridge.chat(messages=[user_with("see", png(size=100_000))], model=SEES_MANY, stream=stream)
        async with await bridge.post(body) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["type"], error["code"]) == (502, "upstream_error", "image_upload_failed")
            assert answer.headers["x-should-retry"] == "false"
            assert "X-Amz" not in error["message"]
        assert not calls(arena)
        assert not bridge.calls_held
        arena.faults.clear()
        await Chat(bridge).say("and now?", A)  # the account is not blamed
        assert seen(arena) == [A]


@streamed_and_not
async def test_a_caller_that_leaves_closes_the_upload(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("no_headers", on="put")
    body = bridge.chat(messages=[user_with("see", A)], model=SEES_MANY, stream=stream)
    await leave_when(lambda: len(arena.storage.calls) == 1, bridge.post(body))
    await nobody_returns(bridge)
    (call,) = arena.storage.calls
    async with asyncio.timeout(10):
        await call.closed.wait()
    await Chat(bridge).say("and now?", A)  # the abandoned upload does not block the next one
    assert not calls(arena)[1:]


# What a model accepts


@streamed_and_not
async def test_a_model_that_takes_one_picture_refuses_several(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    chat = Chat(bridge, stream, SEES_ONE)
    await chat.say("what is this?", A)
    assert seen(arena) == [A]
    several: tuple[list[Mapping[str, Any]], ...] = (
        [user_with("which?", A, B)],
        [user_with("this", A), {"role": "assistant", "content": "that"}, user_with("or this", B)],
    )
    before = len(arena.calls)
    for messages in several:
        answer = await bridge.post(bridge.chat(messages=messages, model=SEES_ONE, stream=stream))
        error = (await answer.json())["error"]
        assert (answer.status, error["code"], error["param"]) == (400, "invalid_image", "messages")
        assert SEES_ONE in error["message"]
    assert len(arena.calls) == before


@streamed_and_not
async def test_a_model_that_takes_none_gets_the_text_alone(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    body = bridge.chat(messages=[user_with("/say hello", A)], model=SEES_NONE, stream=stream, seed=1)
    async with await bridge.post(body) as answer:
        assert text_of(await answer.read(), stream=stream) == "hello"
        assert answer.headers["x-bridge-ignored"] == "seed, images"
    assert (seen(arena), prompt(calls(arena)[-1]), steps(arena)) == ([], "/say hello", {})


@streamed_and_not
@pytest.mark.parametrize("text", ["", " \n"])
async def test_a_message_of_pictures_alone_is_refused_for_a_model_that_takes_none(
    text: str, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    body = bridge.chat(messages=[user_with(text, A)], model=SEES_NONE, stream=stream)
    answer = await bridge.post(body)
    error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "invalid_value", "messages")
    assert "takes no pictures" in error["message"]
    assert not calls(arena)


# What is not a picture


@pytest.mark.parametrize("bad", BAD_PARTS.values(), ids=BAD_PARTS)
async def test_a_bad_picture_is_named_in_the_error_before_any_upstream_call(
    bad: BadPart, arena: Arena, bridge: RunningBridge
) -> None:
    part = bad.part()
    messages = [user_with("fine", A), {"role": "user", "content": [{"type": "text", "text": "see"}, part]}]
    for model in (SEES_MANY, SEES_NONE):
        body = encoded(bridge.chat(messages=messages, model=model))
        answer = await bridge.http.post(f"{bridge.base_url}/chat/completions", data=body, headers=bridge.headers)
        error = (await answer.json())["error"]
        assert (answer.status, error["type"], error["code"]) == (400, "invalid_request_error", bad.code)
        assert error["param"] == f"messages[1].content[1].{bad.param}"
        assert answer.headers["x-bridge-reason"] == "rejected"
    assert {call.kind for call in arena.calls} <= {"catalog", "page", "me"}  # only the models and the account
    assert not arena.storage.calls


async def test_an_eleventh_picture_is_refused(arena: Arena, bridge: RunningBridge) -> None:
    answer = await bridge.post(bridge.chat(messages=[user_with("see", *map(png, range(11)))], model=SEES_MANY))
    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (400, "invalid_image")
    assert error["param"] == "messages[0].content[11].image_url.url"
    await Chat(bridge).say("see", *map(png, range(10)))
    assert seen(arena) == [*map(png, range(10))]


async def test_pictures_over_the_configured_size_or_number_are_refused(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path, {"images": {"max_bytes": 2000, "max_per_request": 1}}) as bridge:
        await Chat(bridge).say("see", png(size=2000))
        for pictures, code in (((png(size=2001),), "image_too_large"), ((A, B), "invalid_image")):
            answer = await bridge.post(bridge.chat(messages=[user_with("see", *pictures)], model=SEES_MANY))
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, code)


# Memory


class Gauge:
    """The memory of a process, sampled continuously."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak = self.now

    @property
    def now(self) -> int:
        return int(self._process.memory_info().rss)

    async def watch(self) -> None:
        while True:
            self.peak = max(self.peak, self.now)
            await asyncio.sleep(0.002)


async def test_a_picture_of_ten_mebibytes_takes_less_than_five_times_its_memory(arena: Arena, tmp_path: Path) -> None:
    home = Home(arena, tmp_path)
    await home.prepare()
    async with home.serve() as daemon, aiohttp.ClientSession(headers=home.headers) as http:

        async def ask(picture: bytes) -> None:
            body = encoded({"model": SEES_MANY, "messages": [user_with("see", picture)]})
            async with http.post(f"{daemon.origin}/v1/chat/completions", data=body) as answer:
                assert answer.status == 200, await answer.text()

        await ask(A)
        gauge = Gauge(daemon.process.pid)
        idle = gauge.now
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(gauge.watch())
            for number in range(3):
                await ask(png(number, MAX_BYTES))
            watching.cancel()
    assert [call.bytes for call in arena.storage.calls][1:] == [MAX_BYTES] * 3
    assert gauge.peak - idle < 5 * MAX_BYTES


@pytest.mark.parametrize("requests", [20, pytest.param(50, marks=pytest.mark.slow)])
async def test_many_requests_with_ten_pictures_each_do_not_delay_other_requests(
    arena: Arena, tmp_path: Path, requests: int
) -> None:
    home = Home(arena, tmp_path)
    await home.prepare()
    each, size = 10, 300_000
    url = "/v1/chat/completions"
    done = asyncio.Event()
    async with (
        home.serve() as daemon,
        aiohttp.ClientSession(daemon.origin, headers=home.headers, connector=aiohttp.TCPConnector(limit=0)) as http,
    ):

        async def ask(number: int) -> None:
            pictures = [png(number * each + n, size) for n in range(each)]
            body = encoded({"model": SEES_MANY, "messages": [user_with("/echo", *pictures)]})
            async with http.post(url, data=body) as answer:
                assert answer.status == 200, await answer.text()
                (message,) = json.loads(text_of(await answer.read(), stream=False))
            digests = [sha256(picture).hexdigest() for picture in pictures]
            assert [attachment["sha256"] for attachment in message["attachments"]] == digests

        async def first_delta() -> float:
            began = time.monotonic()
            body = {"model": SEES_NONE, "messages": [{"role": "user", "content": "/say hello"}], "stream": True}
            async with http.post(url, json=body) as answer:
                await answer.content.readuntil(b"hello")
                return time.monotonic() - began

        async def others() -> list[float]:
            waits = []
            while not done.is_set():
                waits.append(await first_delta())
            return waits

        gauge = Gauge(daemon.process.pid)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(gauge.watch())
            streams = group.create_task(others())
            await asyncio.gather(*map(ask, range(requests)))
            done.set()
            waits = await streams
            watching.cancel()
    assert steps(arena)["put"] == requests * each
    assert statistics.median(waits) < 1.0
    assert gauge.peak < (100 + 10 * requests) * 1024 * 1024


@pytest.mark.parametrize("fault", ["expired", "rate_limited"])
async def test_refused_scripts_mark_no_account(fault: str, arena: Arena, tmp_path: Path) -> None:
    """Scripts are read without a cookie, so no account is to blame for a refusal."""
    sessions = tuple(arena.sign_in(f"{name}@example.org") for name in ("ada", "bob"))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        arena.faults.arm(fault, None, on="script")
        answer = await bridge.post(bridge.chat(messages=[user_with("look", A)], model=SEES_MANY))
        assert (answer.status, (await answer.json())["error"]["code"]) == (502, "image_upload_failed")
        assert len(bridge.state.pool.usable("chat")) == 2


@pytest.mark.parametrize(("status", "attempts"), [(500, 3), (503, 3)])
async def test_failing_uploads_open_no_circuit_and_are_attempted_three_times(
    status: int, attempts: int, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("server_error", None, on="upload-url", status=status)
    for number in range(FAILURES_TO_OPEN):
        answer = await bridge.post(bridge.chat(messages=[user_with("look", png(number))], model=SEES_MANY))
        assert (answer.status, (await answer.json())["error"]["code"]) == (502, "image_upload_failed")
        if number == 0:
            assert sum(call.kind == "upload-url" for call in arena.calls) == attempts
    assert (await bridge.post(bridge.chat("/say hello"))).status == 200


async def test_the_memory_reserved_for_a_chunked_body_is_released_once_it_is_read(
    arena: Arena, bridge: RunningBridge
) -> None:
    """The room reserved for a chunked body is released once it has been read, since its answer may last long."""
    arena.faults.arm("silent_middle", None)

    async def chunked() -> AsyncIterator[bytes]:
        yield json.dumps(bridge.chat(messages=[user_with("look", A)], model=SEES_MANY, stream=True)).encode()

    url = f"{bridge.base_url}/chat/completions"
    answers = [await bridge.http.post(url, data=chunked(), headers=bridge.headers) for _ in range(3)]
    assert bridge.app[BODY_BUDGET].free == TOTAL_BYTES
    for answer in answers:
        answer.close()
