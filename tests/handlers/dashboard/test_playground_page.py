"""The playground: the API's own answers for users who are logged in, with a key of its own."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import pytest
from dashboard import Dashboard
from frames import DONE, frames
from kept_requests import kept
from pictures import png
from running import RunningBridge

from bridge.diagnosis import ADVICE
from bridge.dialects.dialect import Stamp
from bridge.dialects.fields import read_object
from bridge.dialects.files import FileReader, FileRules
from bridge.errors import ApiError
from handlers.dashboard.markdown import rendered
from handlers.dashboard.operator_chat import OPERATOR_CHAT
from handlers.dashboard.owner import OWNER
from handlers.dashboard.playground import MAX_MARKDOWN_BYTES
from handlers.request.appkeys import DRAIN
from upstream.arena import Arena, Line, Step, Turn, Until
from upstream.protocol.errors import Reason

CHAT = "/dashboard/playground/chat"
DRAW = "/dashboard/playground/draw"
MARKDOWN = "/dashboard/playground/markdown"


def told(dashboard: Dashboard) -> dict[str, str]:
    """The headers that the page's script sends."""
    return {
        "Cookie": dashboard.cookie,
        "X-CSRF-Token": dashboard.csrf,
        "Content-Type": "application/json",
        "Origin": dashboard.bridge.origin,
        "Sec-Fetch-Site": "same-origin",
    }


async def ask(dashboard: Dashboard, path: str, body: object) -> aiohttp.ClientResponse:
    return await dashboard.bridge.http.post(
        dashboard.bridge.origin + path, data=json.dumps(body), headers=told(dashboard)
    )


async def test_the_playground_streams_an_answer_like_the_api(arena: Arena, dashboard: Dashboard) -> None:
    bridge, go_on = dashboard.bridge, asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "Good ")
        yield Until(go_on)
        yield Line("a0", "morning.")
        yield Line("ad", {"finishReason": "stop"})

    arena.script = script
    body = bridge.chat("hi", stream=True, stream_options={"include_usage": True})
    async with await ask(dashboard, CHAT, body) as answer:
        first = await answer.content.readuntil(b"Good ")
        go_on.set()
        text = first + await answer.read()
    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    found = list(frames(text))
    assert found[-1] == DONE
    chunks = [json.loads(frame) for frame in found[:-1]]
    assert "".join(c["delta"].get("content", "") for chunk in chunks for c in chunk["choices"]) == "Good morning."
    assert chunks[-1]["usage"]["completion_tokens"] > 0


async def test_a_message_can_have_a_picture(arena: Arena, dashboard: Dashboard) -> None:
    url = f"data:image/png;base64,{base64.b64encode(png(1)).decode()}"
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    body = dashboard.bridge.chat(messages=[{"role": "user", "content": parts}], model="gemini-4-pro")
    async with await ask(dashboard, CHAT, body) as answer:
        assert answer.status == 200
    (evaluation,) = arena.evaluations.values()
    assert len(evaluation.messages[0].attachments) == 1


async def test_the_playground_can_draw_a_picture(dashboard: Dashboard) -> None:
    body = {"model": "gpt-image-3", "prompt": "An otter", "response_format": "b64_json"}
    async with await ask(dashboard, DRAW, body) as answer:
        (drawn,) = (await answer.json())["data"]
    assert base64.b64decode(drawn["b64_json"])


async def test_errors_are_plain_sentences(arena: Arena, dashboard: Dashboard) -> None:
    arena.faults.arm("challenge")
    cases = [
        (CHAT, dashboard.bridge.chat("hi", model="it's"), 404, "The model 'it's' does not exist."),
        (CHAT, {"model": "x"}, 400, "messages"),
        (CHAT, [], 400, "object"),
        (DRAW, {"model": dashboard.bridge.model(), "prompt": "An otter"}, 400, "cannot draw"),
        (CHAT, dashboard.bridge.chat("hi"), 503, "cf_clearance"),
    ]
    for path, body, status, text in cases:
        async with await ask(dashboard, path, body) as answer:
            assert (answer.status, answer.content_type) == (status, "text/plain"), text
            assert text in await answer.text()


async def test_errors_say_what_to_do_on_the_dashboard(arena: Arena, dashboard: Dashboard) -> None:
    arena.faults.arm("challenge")
    async with await ask(dashboard, CHAT, dashboard.bridge.chat("hi")) as answer:
        said = await answer.text()
        assert said.endswith(
            "Open the site in your browser, copy any request to it as cURL, and paste that into Accounts."
        )
        assert answer.headers["x-bridge-reason"] == "challenge"
    arena.faults.arm("rate_limited", retry_after="18")
    async with await ask(dashboard, CHAT, dashboard.bridge.chat("hi")) as answer:
        assert "ait 18 s" in await answer.text()


def test_errors_within_a_stream_say_what_to_do_on_the_dashboard() -> None:
    advice = ADVICE[Reason.CHALLENGE].caller
    error = ApiError(503, "upstream_unavailable", f"LMArena wants a human. {advice}", reason=Reason.CHALLENGE)
    body = read_object(b'{"model": "a+b", "messages": [{"role": "user", "content": "hi"}]}')
    asked = OPERATOR_CHAT.read(body, FileReader(FileRules(1, 1), {}))
    encoder = asked.comparing_encoder(Stamp("1", 0, 1), ("a", "b"))
    for told in (encoder.fail_one(0, error), encoder.error(error), asked.encoder(Stamp("1", 0, 1)).error(error)):
        assert b"copy any request to it as cURL, and paste that into Accounts." in told


async def render(dashboard: Dashboard, text: str) -> aiohttp.ClientResponse:
    headers = {**told(dashboard), "Content-Type": "text/plain"}
    return await dashboard.bridge.http.post(dashboard.bridge.origin + MARKDOWN, data=text.encode(), headers=headers)


async def test_the_playground_renders_markdown(dashboard: Dashboard) -> None:
    async with await render(dashboard, "**so** <b>") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert await answer.text() == "<p><strong>so</strong> &lt;b&gt;</p>\n"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_markdown_that_is_too_long_or_too_slow_is_not_rendered(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await render(dashboard, "a" * (MAX_MARKDOWN_BYTES + 1)) as answer:
        assert answer.status == 413
    monkeypatch.setitem(cast("dict[str, float]", rendered.__kwdefaults__), "seconds", 0.0)
    async with await render(dashboard, "*a* " * 100) as answer:
        assert answer.status == 422


async def test_playground_requests_are_counted_under_a_key_that_nobody_can_use(dashboard: Dashboard) -> None:
    async with await ask(dashboard, CHAT, dashboard.bridge.chat("hi")) as answer:
        assert answer.status == 200
    (record,) = await kept(dashboard.bridge)
    assert (record.key, record.status) == ("dashboard", 200)
    for secret in (OWNER.name, OWNER.id, OWNER.hash, OWNER.hint):
        assert dashboard.bridge.state.keys.find(secret) is None
    page = await dashboard.get("/dashboard/keys")
    assert OWNER.hash not in page.text


async def test_leaving_the_playground_ends_the_upstream_call(arena: Arena, dashboard: Dashboard) -> None:
    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "once")
        yield Until(asyncio.Event())

    arena.script = script
    answer = await ask(dashboard, CHAT, dashboard.bridge.chat("hi", stream=True))
    await answer.content.readuntil(b"once")
    answer.close()
    await asyncio.wait_for(arena.chats[-1].closed.wait(), 10)


async def test_the_playground_sends_no_upstream_request_during_a_drain(arena: Arena, dashboard: Dashboard) -> None:
    dashboard.bridge.app[DRAIN].begin()
    async with await ask(dashboard, CHAT, dashboard.bridge.chat("hi")) as answer:
        assert answer.status == 503
    assert not [call for call in arena.calls if call.kind == "create"]


async def test_the_playground_requires_a_login(bridge: RunningBridge, dashboard: Dashboard) -> None:
    stranger = Dashboard(bridge, csrf=dashboard.csrf)
    for path in (CHAT, DRAW, MARKDOWN):
        async with await ask(stranger, path, bridge.chat("hi")) as answer:
            assert answer.status == 401
    assert not await kept(bridge)
