"""Two bridges with one Redis act as one (conversations, limits, keys and accounts), and keep working in an outage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pictures import png, user_with
from polling import until
from running import RunningBridge, api_key
from several_bridges import SeveralBridges, several_bridges

from bridge.access import keys
from bridge.shared.availability import Phase
from bridge.shared.connection import Command, Reply
from bridge.shared.script import ScriptCall
from handlers.request.appkeys import SHARING
from upstream.arena import Arena


@pytest.fixture
async def several(arena: Arena, tmp_path: Path) -> AsyncIterator[SeveralBridges]:
    async with several_bridges(arena, tmp_path) as several:
        yield several


def phase(bridge: RunningBridge) -> Phase:
    sharing = bridge.app[SHARING]
    assert sharing is not None
    return sharing.link.availability.phase


async def say(bridge: RunningBridge, messages: list[dict[str, Any]]) -> tuple[str, str]:
    """Ask; return the answer, and its `x-bridge-conversation` header."""
    async with await bridge.post({"model": bridge.model(), "messages": messages}) as response:
        body = await response.json()
        assert response.status == 200, body
        return body["choices"][0]["message"]["content"], response.headers["x-bridge-conversation"]


def told(messages: list[dict[str, Any]], answer: str, text: str) -> list[dict[str, Any]]:
    return [*messages, {"role": "assistant", "content": answer}, {"role": "user", "content": text}]


async def test_any_process_continues_a_conversation(several: SeveralBridges) -> None:
    messages = [{"role": "user", "content": "one"}]
    answer, conversation = await say(several[0], messages)
    assert conversation == "new; why=first"
    for turn in range(4):
        messages = told(messages, answer, f"turn {turn}")
        answer, conversation = await say(several[(turn + 1) % 2], messages)
        assert conversation == "follow-up; why=known"
    answer, conversation = await say(several[1], messages)
    assert conversation == "regenerate; why=repeated"


async def test_only_one_of_several_concurrent_turns_continues_the_evaluation(several: SeveralBridges) -> None:
    messages = [{"role": "user", "content": "one"}]
    answer, _ = await say(several[0], messages)
    messages = told(messages, answer, "two")
    both = await asyncio.gather(*[say(several[number % 2], messages) for number in range(6)])
    assert [conversation for _, conversation in both].count("follow-up; why=known") == 1


async def test_requests_per_minute_of_a_key_are_counted_across_processes(several: SeveralBridges) -> None:
    secret, key = api_key(name="narrow", rpm=5)
    await several[0].state.update_keys(lambda known: keys.add(known, key))
    await until(lambda: several[1].state.keys.find(secret) is not None, within=10)
    statuses: list[int] = []
    left: list[str] = []
    for number in range(8):
        bridge = several[number % 2]
        async with await bridge.post(bridge.chat("hi"), headers={"Authorization": f"Bearer {secret}"}) as response:
            statuses.append(response.status)
            left.append(response.headers["x-ratelimit-remaining-requests"])
    assert statuses == [200] * 5 + [429] * 3
    assert left == ["4", "3", "2", "1", "0", "0", "0", "0"]


async def test_concurrent_requests_of_a_key_are_counted_across_processes(several: SeveralBridges) -> None:
    secret, key = api_key(name="narrow", concurrency=1)
    await several[0].state.update_keys(lambda known: keys.add(known, key))
    await until(lambda: several[1].state.keys.find(secret) is not None, within=10)
    headers = {"Authorization": f"Bearer {secret}"}
    both = await asyncio.gather(*[several[n % 2].post(several[n % 2].chat("hi"), headers=headers) for n in range(6)])
    statuses = [response.status for response in both]
    for response in both:
        await response.read()
    assert statuses.count(200) >= 1
    for number in range(6):  # one after the other, on any process
        bridge = several[number % 2]
        async with await bridge.post(bridge.chat("hi"), headers=headers) as response:
            assert response.status == 200


async def test_a_picture_is_uploaded_once_for_all_processes(several: SeveralBridges) -> None:
    arena = several[0].arena
    name = next(
        model.public_name
        for model in arena.models
        if model.organization and "image" in model.inputs and set(model.outputs) == {"text"}
    )
    for number in (0, 1, 0):
        bridge = several[number]
        body = {"model": name, "messages": [user_with(f"turn {number}", png())]}
        async with await bridge.post(body) as response:
            assert response.status == 200, await response.text()
    assert [call.method for call in arena.storage.calls].count("PUT") == 1


async def respond(bridge: RunningBridge, text: str, previous: str | None = None) -> tuple[int, dict[str, Any]]:
    body = {"model": bridge.model(), "input": text, "previous_response_id": previous}
    async with bridge.http.post(f"{bridge.base_url}/responses", json=body, headers=bridge.headers) as response:
        return response.status, await response.json()


async def stored(bridge: RunningBridge, method: str, id_: str) -> int:
    async with bridge.http.request(method, f"{bridge.base_url}/responses/{id_}", headers=bridge.headers) as response:
        return response.status


async def test_any_process_continues_a_stored_response_until_it_is_deleted(several: SeveralBridges) -> None:
    status, first = await respond(several[0], "one")
    before = first["id"]
    for turn in range(3):
        status, answer = await respond(several[(turn + 1) % 2], f"turn {turn}", before)
        assert status == 200
        before = answer["id"]
    assert [await stored(bridge, "GET", before) for bridge in several.bridges] == [200, 200]
    assert await stored(several[0], "DELETE", first["id"]) == 200
    assert [await stored(bridge, "GET", first["id"]) for bridge in several.bridges] == [404, 404]
    for bridge in several.bridges:
        status, answer = await respond(bridge, "again", before)
        assert (status, answer["error"]["code"]) == (400, "previous_response_not_found")


async def test_an_answer_ends_only_after_the_other_processes_can_continue_it(
    several: SeveralBridges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the caller could continue it on another process that does not have it yet."""
    sharing, order = several[0].app[SHARING], list[str]()
    assert sharing is not None
    send = sharing.link.send

    def slowly(*commands: Command) -> asyncio.Future[list[Reply]]:
        return sharing.link.spawn(sent(commands), name="slow Redis")

    async def sent(commands: tuple[Command, ...]) -> list[Reply]:
        if keeps := any(isinstance(each, ScriptCall) and each.script.name == "keep" for each in commands):
            await asyncio.sleep(0.05)  # time in which the answer could end
        replies = await send(*commands)
        order.extend(["known"] * keeps)
        return replies

    monkeypatch.setattr(sharing.link, "send", slowly)
    _, first = await respond(several[0], "one")
    order.append("ended")
    body = {"model": several[0].model(), "input": "two", "stream": True}
    url = f"{several[0].base_url}/responses"
    async with several[0].http.post(url, json=body, headers=several[0].headers) as response:
        await response.read()
    order.append("ended")
    assert await stored(several[0], "DELETE", first["id"]) == 200
    order.append("ended")
    assert order == ["known", "ended"] * 3


async def test_responses_stored_while_redis_is_down_are_shared_once_it_is_back(several: SeveralBridges) -> None:
    await several.redis.kill()
    _, first = await respond(several[0], "one")
    status, second = await respond(several[0], "two", first["id"])
    assert status == 200
    await several.redis.start()
    await until(lambda: phase(several[0]) is phase(several[1]) is Phase.UP, within=5)
    status, _ = await respond(several[1], "three", second["id"])
    assert status == 200


@pytest.fixture
async def hasty(arena: Arena, tmp_path: Path) -> AsyncIterator[SeveralBridges]:
    async with several_bridges(arena, tmp_path, timeout=HASTY_TIMEOUT) as several:
        yield several


HASTY_TIMEOUT = 1.0


async def test_a_frozen_redis_fails_no_request(hasty: SeveralBridges) -> None:
    several = hasty
    messages = [{"role": "user", "content": "one"}]
    answer, _ = await say(several[0], messages)
    several.redis.freeze()
    began = time.monotonic()
    alone = await asyncio.gather(
        *[say(several[number % 2], told(messages, answer, f"two {number}")) for number in range(4)]
    )
    assert time.monotonic() - began < HASTY_TIMEOUT + 4
    assert {conversation for _, conversation in alone} == {"new; why=state"}
    async with several[0].http.get(f"{several[0].origin}/health") as response:
        health = await response.json()
    assert (response.status, health["status"], health["reason"]) == (200, "degraded", "state")
    several.redis.thaw()
    await until(lambda: phase(several[0]) is phase(several[1]) is Phase.UP, within=10)
    answer, conversation = await say(several[0], [{"role": "user", "content": "again"}])
    assert conversation == "new; why=first"
    messages = told([{"role": "user", "content": "again"}], answer, "and again")
    assert (await say(several[1], messages))[1] == "follow-up; why=known"


async def test_a_redis_that_restarts_empty_is_used_as_before(several: SeveralBridges) -> None:
    await say(several[0], [{"role": "user", "content": "one"}])
    await several.redis.kill()
    await say(several[1], [{"role": "user", "content": "two"}])
    await several.redis.start()
    await until(lambda: phase(several[0]) is phase(several[1]) is Phase.UP, within=10)
    answer, conversation = await say(several[0], [{"role": "user", "content": "three"}])
    assert conversation == "new; why=first"
    messages = told([{"role": "user", "content": "three"}], answer, "four")
    assert (await say(several[1], messages))[1] == "follow-up; why=known"
    secret, key = api_key(name="later")
    await several[0].state.update_keys(lambda known: keys.add(known, key))
    await until(lambda: several[1].state.keys.find(secret) is not None, within=10)
    assert several[1].state.keys.find(several[1].key) is not None
