"""Pictures by URL (`images.fetch_urls`): fetched from public addresses only, and only for valid requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from frames import frames
from internet import Internet, playing_the_internet
from leaving import nobody_returns
from pictures import SMALL, picture_part, png
from request_log import RequestLog
from running import Overrides, RunningBridge, running_bridge

from handlers.request.appkeys import BODY_BUDGET
from handlers.request.budget import TOTAL_BYTES
from upstream.arena import Arena

SEES_MANY = "gemini-4-pro"
SEES_NONE = "qwen4-max-preview"
A = png(0xA)
CAT = "http://public.example/cat"
FETCHING: Overrides = {"images": {"fetch_urls": True}}

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
async def internet(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Internet]:
    async with playing_the_internet(monkeypatch) as internet:
        yield internet


def linked(*urls: str) -> dict[str, Any]:
    """A user's message with pictures by URL."""
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}} for url in urls]}


def seen(arena: Arena) -> list[bytes]:
    """The pictures that the model was shown with the last turn, as the storage has them."""
    evaluation = arena.evaluations[str(arena.chats[-1].evaluation_id)]
    turn = [message for message in evaluation.messages if message.role == "user"][-1]
    stored = {found.sha256: found.data for found in arena.storage.objects.values()}
    return [stored[each["sha256"]] for each in turn.attachments]


async def refusal(bridge: RunningBridge, *urls: str) -> str:
    """Send pictures of which the last is refused with 400; return the error's message."""
    answer = await bridge.post(bridge.chat(messages=[linked(*urls)], model=SEES_MANY))
    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (400, "invalid_image")
    assert error["param"] == f"messages[0].content[{len(urls) - 1}].image_url.url"
    return str(error["message"])


async def test_urls_are_not_fetched_unless_fetch_urls_is_on(bridge: RunningBridge, internet: Internet) -> None:
    assert "images.fetch_urls" in await refusal(bridge, f"http://127.0.0.1:{internet.port}/cat")
    assert internet.served == []


async def test_a_link_to_an_internal_address_is_refused(arena: Arena, tmp_path: Path, internet: Internet) -> None:
    async with running_bridge(arena, tmp_path, FETCHING) as bridge:
        for host in ("127.0.0.1", "localhost", "[::1]", "0x7f.1", "[::ffff:127.0.0.1]"):
            assert "cannot be used" in await refusal(bridge, f"http://{host}:{internet.port}/cat")
        assert internet.served == []
        assert not arena.chats


@streamed_and_not
async def test_a_public_picture_is_fetched(stream: bool, arena: Arena, tmp_path: Path, internet: Internet) -> None:
    async with running_bridge(arena, tmp_path, FETCHING) as bridge:
        messages = [linked(CAT, CAT), {"role": "user", "content": [picture_part(A)]}]
        async with await bridge.post(bridge.chat(messages=messages, model=SEES_MANY, stream=stream)) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()
        assert seen(arena) == [SMALL["image/webp"], SMALL["image/webp"], A]
        assert internet.served == ["/cat"]
        assert "404" in await refusal(bridge, CAT, "http://public.example/missing")
        assert "cannot be used" in await refusal(bridge, "http://public.example/away")
        assert "is not a PNG, JPEG" in await refusal(bridge, "http://public.example/text")
        assert internet.served == ["/cat", "/cat", "/missing", "/away", "/text"]
        assert bridge.app[BODY_BUDGET].free == TOTAL_BYTES


async def test_nothing_is_fetched_for_a_request_with_too_many_pictures(
    arena: Arena, tmp_path: Path, internet: Internet
) -> None:
    async with running_bridge(arena, tmp_path, {"images": {"fetch_urls": True, "max_per_request": 2}}) as bridge:
        await refusal(bridge, *(f"http://public.example/{number}" for number in range(3)))
        assert internet.served == []


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "a parameter": ({"temperature": "hot"}, 400, "invalid_type"),
    "a parameter that is not supported": ({"logprobs": True}, 400, "unsupported_parameter"),
    "stream_options without a stream": ({"stream_options": {}}, 400, "invalid_value"),
    "a message behind it": ({"messages": [linked(CAT), {"role": "nobody", "content": "x"}]}, 400, "invalid_value"),
    "a part behind it": (
        {"messages": [linked(CAT, "data:image/png;base64,AAAA")]},
        400,
        "invalid_image",
    ),
    "no model": ({"model": None}, 400, "missing_required_parameter"),
    "an unknown model": ({"model": "nobody"}, 404, "model_not_found"),
    "a model that the key may not use": ({"model": "grok-5-fast"}, 403, "model_not_allowed"),
}


@pytest.mark.parametrize(("wrong", "status", "code"), WRONG.values(), ids=WRONG)
async def test_nothing_is_fetched_for_an_invalid_request(
    wrong: dict[str, Any], status: int, code: str, arena: Arena, tmp_path: Path, internet: Internet
) -> None:
    async with running_bridge(arena, tmp_path, FETCHING, key_options={"models": (SEES_MANY,)}) as bridge:
        answer = await bridge.post({"model": SEES_MANY, "messages": [linked(CAT)], **wrong})
        assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)
    assert internet.served == []
    assert not arena.chats


async def test_nothing_is_fetched_for_a_model_that_takes_no_pictures(
    arena: Arena, tmp_path: Path, internet: Internet
) -> None:
    async with running_bridge(arena, tmp_path, FETCHING) as bridge:
        messages = [linked(CAT), {"role": "user", "content": "/say hello"}]
        answer = await bridge.post(bridge.chat(messages=messages, model=SEES_NONE))
        assert (answer.status, answer.headers["x-bridge-ignored"]) == (200, "images")
    assert internet.served == []


SLOWLY: Overrides = {**FETCHING, "stream": {"keepalive_seconds": 0.05}}
COMMENT = b": keep-alive\n\n"


async def test_a_stream_sends_keepalives_while_a_picture_is_fetched(
    arena: Arena, tmp_path: Path, internet: Internet
) -> None:
    internet.answers.clear()
    async with running_bridge(arena, tmp_path, SLOWLY) as bridge:
        body = bridge.chat(messages=[linked(CAT)], model=SEES_MANY, stream=True)
        async with asyncio.timeout(20), await bridge.post(body) as answer:
            assert [await answer.content.readuntil(b"\n\n") for _ in range(3)] == [COMMENT] * 3
            assert not arena.chats
            internet.answers.set()
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        assert seen(arena) == [SMALL["image/webp"]]


@pytest.mark.parametrize("path", ["missing", "away", "text"])
async def test_an_unfetchable_picture_ends_a_begun_stream_with_an_error(
    path: str, arena: Arena, tmp_path: Path, internet: Internet
) -> None:
    internet.answers.clear()
    async with running_bridge(arena, tmp_path, SLOWLY) as bridge:
        body = bridge.chat(messages=[linked(f"http://public.example/{path}")], model=SEES_MANY, stream=True)
        async with asyncio.timeout(20), await bridge.post(body) as answer:
            assert await answer.content.readuntil(b"\n\n") == COMMENT
            internet.answers.set()
            (event,) = frames(await answer.read())
        error = json.loads(event)["error"]
        assert (error["code"], error["param"]) == ("invalid_image", "messages[0].content[0].image_url.url")
        assert bridge.calls_held == 0
        assert bridge.app[BODY_BUDGET].free == TOTAL_BYTES
    assert not arena.chats


async def test_a_caller_that_leaves_ends_the_fetching(
    arena: Arena, tmp_path: Path, internet: Internet, request_log: RequestLog
) -> None:
    internet.answers.clear()
    async with running_bridge(arena, tmp_path, SLOWLY) as bridge:
        body = bridge.chat(messages=[linked(CAT)], model=SEES_MANY, stream=True)
        async with asyncio.timeout(20), await bridge.post(body) as answer:
            assert await answer.content.readuntil(b"\n\n") == COMMENT
        await nobody_returns(bridge)
        assert (await request_log.line(within=10.0))["reason"] == "client_gone"
        assert bridge.calls_held == 0
        assert bridge.app[BODY_BUDGET].free == TOTAL_BYTES
    assert not arena.chats


SEVERAL_WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "an unknown model": ({"model": "nobody"}, 404, "model_not_found"),
    "a model that the key may not use": ({"model": "grok-5-fast"}, 403, "model_not_allowed"),
    "too many models": ({"model": "+".join([SEES_MANY] * 5), "n": 1}, 400, "invalid_value"),
}


@pytest.mark.parametrize(("wrong", "status", "code"), SEVERAL_WRONG.values(), ids=SEVERAL_WRONG)
async def test_nothing_is_fetched_for_an_invalid_request_for_several_answers(
    wrong: dict[str, Any], status: int, code: str, arena: Arena, tmp_path: Path, internet: Internet
) -> None:
    async with running_bridge(arena, tmp_path, FETCHING, key_options={"models": (SEES_MANY,)}) as bridge:
        answer = await bridge.post({"model": SEES_MANY, "n": 2, "messages": [linked(CAT)], **wrong})
        assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)
    assert internet.served == []
    assert not arena.chats


@streamed_and_not
async def test_several_answers_fetch_a_picture_once_and_only_for_models_that_take_pictures(
    stream: bool, arena: Arena, tmp_path: Path, internet: Internet
) -> None:
    async with running_bridge(arena, tmp_path, FETCHING) as bridge:
        messages = [linked(CAT), {"role": "user", "content": "/say hello"}]
        for model, n, shown in ((SEES_NONE, 2, 0), (SEES_MANY, 2, 2), (f"{SEES_NONE}+{SEES_MANY}", 1, 1)):
            internet.served.clear()
            before = len(arena.chats)
            async with await bridge.post(bridge.chat(messages=messages, model=model, n=n, stream=stream)) as answer:
                assert (answer.status, (await answer.read()).count(b"hello")) == (200, 2)
            assert internet.served == ["/cat"] * min(shown, 1), model
            assert len(arena.chats) - before == 2
        assert bridge.app[BODY_BUDGET].free == TOTAL_BYTES


async def test_an_unfetchable_picture_fails_a_request_for_several_answers_once(
    arena: Arena, tmp_path: Path, internet: Internet
) -> None:
    async with running_bridge(arena, tmp_path, FETCHING) as bridge:
        for more in ({"n": 2}, {"model": f"{SEES_MANY}+{SEES_MANY}"}):
            internet.served.clear()
            body = {**bridge.chat(messages=[linked("http://public.example/missing")], model=SEES_MANY), **more}
            answer = await bridge.post(body)
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_image")
            assert internet.served == ["/missing"]
        assert bridge.app[BODY_BUDGET].free == TOTAL_BYTES
    assert not arena.chats


async def test_a_fallback_model_gets_the_picture_without_another_fetch(
    arena: Arena, tmp_path: Path, internet: Internet
) -> None:
    overrides: Overrides = {**FETCHING, "models": {"aliases": {"sees": [SEES_MANY, SEES_MANY]}}}
    async with running_bridge(arena, tmp_path, overrides) as bridge:
        arena.faults.arm("rejected")
        answer = await bridge.post(bridge.chat(messages=[linked(CAT)], model="sees"))
        assert answer.status == 200, await answer.text()
        assert len(arena.chats) == 2
    assert internet.served == ["/cat"]


async def test_a_stream_of_several_answers_sends_keepalives_while_a_picture_is_fetched(
    arena: Arena, tmp_path: Path, internet: Internet
) -> None:
    internet.answers.clear()
    async with running_bridge(arena, tmp_path, SLOWLY) as bridge:
        body = bridge.chat(messages=[linked(CAT)], model=SEES_MANY, stream=True, n=2)
        async with asyncio.timeout(20), await bridge.post(body) as answer:
            assert [await answer.content.readuntil(b"\n\n") for _ in range(3)] == [COMMENT] * 3
            internet.answers.set()
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
