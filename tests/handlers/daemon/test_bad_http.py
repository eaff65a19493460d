"""Heads that are too large: the refusal names the part and its limit, and the page that asked may read it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from running import RunningBridge, running_bridge
from yarl import URL

from handlers.daemon.bad_http import MAX_FIELD_BYTES, MAX_FIELDS, MAX_HEAD_BYTES, MAX_TARGET_BYTES, UnfinishedHead
from handlers.request.cors import cors_headers
from upstream.arena import Arena

PAGE = "http://localhost:3000"
ANOTHER = "https://chat.example"
STRANGER = "https://evil.example"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    error: dict[str, str]


async def ask(bridge: RunningBridge, target: str, *fields: str, slowly: bool = False) -> Answer:
    """Send a request, at once or in many small pieces, and read its answer."""
    url = URL(bridge.origin)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = (f"GET {target} HTTP/1.1", "Host: bridge", *fields, "", "")
    sent = "\r\n".join(lines).encode()
    with closing(writer):
        async with asyncio.timeout(20):
            for start in range(0, len(sent), 1000 if slowly else len(sent)):
                writer.write(sent[start : start + 1000] if slowly else sent)
                await writer.drain()
                if slowly:
                    await asyncio.sleep(0)  # so that the bridge reads the piece separately
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers["Content-Length"]))
    return Answer(int(head[0].split()[1]), headers, json.loads(body).get("error", {}))


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge that two pages may call."""
    async with running_bridge(arena, tmp_path / "state", {"server": {"cors_origins": [PAGE, ANOTHER]}}) as bridge:
        yield bridge


def key(bridge: RunningBridge) -> str:
    return f"Authorization: Bearer {bridge.key}"


SERVED = {
    "a cookie of 9 KB": ["Cookie: " + "a" * 9000],
    "a cookie of nearly 64 KiB": ["Cookie: " + "a" * (MAX_FIELD_BYTES - 10)],
    "a token of 20 KB": ["X-Forwarded-Access-Token: " + "a" * 20_000],
    "many cookies": ["Cookie: " + "; ".join(f"c{n}=" + "a" * 400 for n in range(100))],
    "a user agent of 30 KB": ["User-Agent: " + "a" * 30_000],
    "a referer of 16 KB": ["Referer: http://x/?" + "a" * 16_000],
    "100 KB in all": [f"X-{n}: " + "a" * 20_000 for n in range(5)],
}


@pytest.mark.parametrize("slowly", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("fields", SERVED.values(), ids=SERVED)
async def test_large_header_fields_are_served(fields: list[str], slowly: bool, bridge: RunningBridge) -> None:
    answer = await ask(bridge, "/v1/models", *fields, key(bridge), slowly=slowly)
    assert answer.status == 200


TOO_LARGE: dict[str, tuple[Sequence[str], str, int]] = {
    "a cookie": (["Cookie: " + "a" * (MAX_FIELD_BYTES + 1)], "The header field 'Cookie' is larger", MAX_FIELD_BYTES),
    "a key": (["Authorization: Bearer " + "a" * 90_000], "The header field 'Authorization' is", MAX_FIELD_BYTES),
    "a field of another's": (["x-ms-token: " + "a" * 70_000], "The header field 'x-ms-token' is", MAX_FIELD_BYTES),
    "the last of some": (["A: " + "a" * 30_000, "B: " + "b" * 66_000], "The header field 'B' is", MAX_FIELD_BYTES),
    "behind a short one": (["Referer: x", "Cookie: " + "a" * 66_000], "The header field 'Cookie'", MAX_FIELD_BYTES),
    "a name": (["a" * 70_000 + ": b"], "A header field is larger", MAX_FIELD_BYTES),
    "all together": ([f"X-{n}: " + "a" * 30_000 for n in range(6)], "are larger than", MAX_HEAD_BYTES),
    "their number": ([f"X-{n}: a" for n in range(150)], "has more than", MAX_FIELDS),
}


@pytest.mark.parametrize("slowly", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize(("fields", "said", "limit"), TOO_LARGE.values(), ids=TOO_LARGE)
async def test_too_large_header_fields_are_431_with_their_name_and_the_limit(
    fields: Sequence[str], said: str, limit: int, slowly: bool, bridge: RunningBridge
) -> None:
    answer = await ask(bridge, "/v1/models", f"Origin: {PAGE}", *fields, key(bridge), slowly=slowly)
    assert (answer.status, answer.error["type"]) == (431, "invalid_request_error")
    assert answer.error["code"] == "request_too_large"
    assert said in answer.error["message"]
    assert f" {limit} " in answer.error["message"]
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "x-request-id" in answer.headers["Access-Control-Expose-Headers"]


TARGETS = {
    "a query of 9 KB": "/v1/models?q=" + "a" * 9000,
    "a path of 9 KB": "/v1/models/" + "a" * 9000,
    "a query of 70 KB": "/v1/chat/completions?messages=" + "a" * 70_000,
    "a path of percent signs": "/v1/" + "%2F" * 3000,
    "one byte too many": "/" + "a" * MAX_TARGET_BYTES,
}


@pytest.mark.parametrize("slowly", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
async def test_a_long_target_is_414_with_the_limit(target: str, slowly: bool, bridge: RunningBridge) -> None:
    answer = await ask(bridge, target, f"Origin: {PAGE}", key(bridge), slowly=slowly)
    assert (answer.status, answer.error["type"]) == (414, "invalid_request_error")
    assert answer.error["code"] == "request_too_large"
    assert f" {MAX_TARGET_BYTES} bytes" in answer.error["message"]


async def test_the_longest_target_is_served(bridge: RunningBridge) -> None:
    target = "/v1/models?q=".ljust(MAX_TARGET_BYTES, "a")
    assert (await ask(bridge, target, key(bridge))).status == 200


BROKEN = {
    "a method that nobody knows": (b"BREW /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", "its method is unknown"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x11" * 60, "https to an http port?"),
    "no Host": (b"GET /v1/models HTTP/1.1\r\n\r\n", "it has no Host header"),
    "two Hosts": (b"GET /v1/models HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "repeats a header field"),
    "letters that are not ASCII": ("GET /v1/models/é HTTP/1.1\r\nHost: x\r\n\r\n".encode(), "percent-encoded"),
}


@pytest.mark.parametrize(("sent", "said"), BROKEN.values(), ids=BROKEN)
async def test_the_refusal_of_broken_http_names_the_error(sent: bytes, said: str, bridge: RunningBridge) -> None:
    url = URL(bridge.origin)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    with closing(writer):
        writer.write(sent)
        async with asyncio.timeout(20):
            head, body = (await reader.read()).split(b"\r\n\r\n", 1)
    error = json.loads(body)["error"]
    assert (int(head.split()[1]), error["code"]) == (400, "invalid_http")
    assert said in error["message"]


#: `server.cors_origins`, the Origin sent before the field that is too large, and the origin that may read the answer.
READERS = {
    "an allowed page": ([PAGE, ANOTHER], ANOTHER, ANOTHER),
    "a stranger's page": ([PAGE, ANOTHER], STRANGER, None),
    "a page by its pattern": (["http://127.0.0.1:*"], "http://127.0.0.1:81", "http://127.0.0.1:81"),
    "every page": (["*"], STRANGER, STRANGER),
    "every page, whose name has not come": (["*"], None, "*"),
    "the only page, whose name has not come": ([PAGE], None, PAGE),
    "one of two, whose name has not come": ([PAGE, ANOTHER], None, None),
    "one of many, whose name has not come": (["http://127.0.0.1:*"], None, None),
    "nobody": ([], PAGE, None),
}


@pytest.mark.parametrize(("allowed", "origin", "reader"), READERS.values(), ids=READERS)
def test_an_allowed_origin_may_read_a_refusal(allowed: list[str], origin: str | None, reader: str | None) -> None:
    headers = cors_headers(origin, allowed)
    assert headers.get("Access-Control-Allow-Origin") == reader
    assert ("Vary" in headers) == bool(allowed)


@a_share(of=5)
@given(st.lists(st.integers(1, 400)))
def test_an_unfinished_head_yields_its_last_field_and_origin_however_it_is_split(sizes: list[int]) -> None:
    head = f"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\norigin: {PAGE}\r\nCookie: {'a' * 500}".encode()
    remembered = UnfinishedHead()
    at = 0
    for size in (*sizes, len(head)):
        remembered.feed(head[at : at + size])
        at += size
    remembered.feed(b"a" * 70_000)
    assert (remembered.field, remembered.origin) == ("Cookie", PAGE)
