"""Bodies without pictures count towards the memory budget too, unless they are small."""

from __future__ import annotations

import asyncio

import pytest
from polling import until
from running import RunningBridge
from yarl import URL

from handlers.request.appkeys import BODY_BUDGET
from handlers.request.budget import SMALL_BYTES, TOTAL_BYTES, UNCOUNTED_BYTES
from upstream.arena import Arena, Line, Until

END = Line("ad", {"finishReason": "stop"})


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("size", [UNCOUNTED_BYTES + 1, 100_000])
async def test_a_text_counts_towards_the_memory_budget_while_its_answer_runs(
    size: int, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    def script(_: object) -> list[Line | Until]:
        begun.set()
        return [Line("a0", "one"), Until(go_on), END]

    arena.script = script
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(bridge.post(bridge.chat("x" * size, stream=stream)))
        async with asyncio.timeout(20):
            await begun.wait()
        assert size <= TOTAL_BYTES - bridge.app[BODY_BUDGET].free <= size + 1000
        go_on.set()
        async with await asking as answer:
            assert answer.status == 200
            await answer.read()
    await until(lambda: bridge.app[BODY_BUDGET].free == TOTAL_BYTES)


async def test_a_small_text_does_not_count_towards_the_memory_budget(arena: Arena, bridge: RunningBridge) -> None:
    taken: list[int] = []

    def script(_: object) -> list[Line]:
        taken.append(TOTAL_BYTES - bridge.app[BODY_BUDGET].free)
        return [Line("a0", "one"), END]

    arena.script = script
    assert (await bridge.post(bridge.chat("x" * (UNCOUNTED_BYTES - 1000)))).status == 200
    assert taken == [0]


async def test_an_image_prompt_counts_towards_the_memory_budget_while_it_arrives(bridge: RunningBridge) -> None:
    budget, url, size = bridge.app[BODY_BUDGET], URL(bridge.origin), SMALL_BYTES - 1000
    _, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bridge.key}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n".encode())
    await until(lambda: budget.free == TOTAL_BYTES - size)
    writer.transport.abort()
    await until(lambda: budget.free == TOTAL_BYTES)


@pytest.mark.parametrize(
    ("path", "name", "said"),
    [
        ("/chat/completions", "messages", "The request has 12600 messages"),
        ("/responses", "input", "The request has 12600 messages"),
        ("/messages", "messages", "prompt is too long: 28350 tokens > 28250 maximum"),
    ],
)
async def test_a_request_with_more_messages_than_fit_into_a_prompt_is_400(
    path: str, name: str, said: str, arena: Arena, bridge: RunningBridge
) -> None:
    messages = [{"role": "user", "content": ""}] * 12_600
    body = {"model": bridge.chat()["model"], "max_tokens": 5, name: messages}
    async with bridge.http.post(bridge.base_url + path, json=body, headers=bridge.headers) as answer:
        assert said in await answer.text()
    assert answer.status == 400
    assert not arena.evaluations
