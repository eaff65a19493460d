"""HTTP/1.0: a body without a length ends with its connection, whatever `Connection: keep-alive` asks for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from frames import DONE, frames
from running import RunningBridge, running_bridge
from yarl import URL

from upstream.arena import Arena, Line, Pause, Step

STOP = Line("ad", {"finishReason": "stop"})
FAILED = Line("a3", "The model is tired")
#: How long upstream is silent, and the interval of the bridge's keep-alive comments, in seconds.
SILENCE, KEEPALIVE = 0.25, 0.05


@asynccontextmanager
async def connected(bridge: RunningBridge) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection, with a timeout for the whole test."""
    url = URL(bridge.origin)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        async with asyncio.timeout(10):  # far below the 130 s for which idle connections are kept
            yield reader, writer
    finally:
        writer.transport.abort()


def request(bridge: RunningBridge, target: str, *fields: str, body: object = None) -> bytes:
    """A request as curl's `-0` sends it."""
    data = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{'GET' if body is None else 'POST'} {target} HTTP/1.0",
        f"Authorization: Bearer {bridge.key}",
        f"Content-Length: {len(data)}",
        *fields,
        "",
        "",
    )
    return "\r\n".join(head).encode() + data


@pytest.fixture
async def lively(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge that soon sends keep-alive comments."""
    overrides = {"stream": {"keepalive_seconds": KEEPALIVE}}
    async with running_bridge(arena, tmp_path / "state", overrides) as bridge:
        yield bridge
        assert bridge.calls_held == 0


STREAMS: dict[str, tuple[Sequence[Step], bytes]] = {
    "an answer": ([Line("a0", "hello"), STOP], b"data: [DONE]\n\n"),
    "an answer of many deltas": ([*[Line("a0", f"{n} ") for n in range(500)], STOP], b"data: [DONE]\n\n"),
    "an answer behind comments": ([Pause(SILENCE), Line("a0", "hello"), STOP], b"data: [DONE]\n\n"),
    "comments amid an answer": ([Line("a0", "hel"), Pause(SILENCE), Line("a0", "lo"), STOP], b"data: [DONE]\n\n"),
    "an error behind some text": ([Line("a0", "hel"), Pause(0.05), FAILED], b"}\n\n"),
    "an error behind comments": ([Pause(SILENCE), FAILED], b"}\n\n"),
    "an empty answer": ([STOP], b"}\n\n"),
}


@pytest.mark.parametrize("connection", ["keep-alive", "Keep-Alive", "close", None])
@pytest.mark.parametrize(("steps", "end"), STREAMS.values(), ids=STREAMS)
async def test_a_stream_to_an_http_1_0_client_ends_by_closing_the_connection(
    steps: Sequence[Step], end: bytes, connection: str | None, arena: Arena, lively: RunningBridge
) -> None:
    arena.script = lambda _: list(steps)
    fields = () if connection is None else (f"Connection: {connection}",)
    async with connected(lively) as (reader, writer):
        writer.write(request(lively, "/v1/chat/completions", *fields, body=lively.chat("hi", stream=True)))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if head.startswith(b"http/1.0 502 ") and end == b"}\n\n":
            return  # the failure came before the first comment, as in the next test
        body = await reader.read()
    assert head.startswith(b"http/1.0 200 ")
    assert b"keep-alive" not in head
    assert b"transfer-encoding" not in head
    assert body.endswith(end)
    assert (frames(body)[-1] == DONE) == (end == b"data: [DONE]\n\n")


async def test_an_error_before_a_stream_keeps_the_connection_alive_on_request(bridge: RunningBridge) -> None:
    async with connected(bridge) as (reader, writer):
        for _ in range(2):
            body = bridge.chat("hi", stream=True, model="nobody")
            writer.write(request(bridge, "/v1/chat/completions", "Connection: keep-alive", body=body))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.0 404")
            assert b"connection: keep-alive" in head
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            assert json.loads(await reader.readexactly(length))["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("target", ["/v1/models", "/health", "/livez", "/v1/nope"])
async def test_an_answer_with_a_length_keeps_the_connection_alive_on_request(
    target: str, bridge: RunningBridge
) -> None:
    async with connected(bridge) as (reader, writer):
        for _ in range(2):
            writer.write(request(bridge, target, "Connection: keep-alive"))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b"connection: keep-alive" in head
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        writer.write(request(bridge, target))
        await reader.read()  # returns once the connection is closed


async def test_a_chat_that_is_not_streamed_keeps_the_connection_alive_on_request(bridge: RunningBridge) -> None:
    async with connected(bridge) as (reader, writer):
        for _ in range(2):
            sent = request(bridge, "/v1/chat/completions", "Connection: keep-alive", body=bridge.chat("/say hi"))
            writer.write(sent)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b"connection: keep-alive" in head
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
