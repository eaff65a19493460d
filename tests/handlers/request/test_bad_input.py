"""Whatever is sent, the answer is OpenAI's error object or a closed connection, and the next caller is served.

docs/reliability.md, "Bad requests", summarizes the raw HTTP cases.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from request_log import RequestLog
from running import RunningBridge, running_bridge
from yarl import URL

from upstream.arena import Arena

BODY_LIMIT = 1024 * 1024
ERROR_FIELDS = {"message", "type", "param", "code"}


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge that must still answer a good request after the test, and hold no calls."""
    async with running_bridge(arena, tmp_path / "state") as bridge:
        yield bridge
        answer = await bridge.post(bridge.chat("/say still here"))
        assert (await answer.json())["choices"][0]["message"]["content"] == "still here"
        assert bridge.calls_held == 0


async def send(bridge: RunningBridge, body: bytes, **headers: str) -> aiohttp.ClientResponse:
    """POST these bytes as a chat."""
    return await bridge.http.post(
        f"{bridge.base_url}/chat/completions", data=io.BytesIO(body), headers={**bridge.headers, **headers}
    )


async def error_of(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the error object of an answer, after checking the headers that every answer has."""
    assert answer.content_type == "application/json"
    assert answer.headers["x-request-id"]
    assert answer.headers["Server"] == "lmarena-bridge"
    body = await answer.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == ERROR_FIELDS
    error: dict[str, Any] = body["error"]
    return error


# Bodies

BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "invalid_json"),
    "no JSON": (b"hello", "invalid_json"),
    "a form": (b"model=m&messages=hi", "invalid_json"),
    "a list": (b"[]", "invalid_type"),
    "null": (b"null", "invalid_type"),
    "NULs": (b"\x00" * 1000, "invalid_json"),
    "invalid UTF-8": (b'{"model":"\xff"}', "invalid_json"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "missing_required_parameter"),
    "NaN": (b'{"temperature":NaN}', "invalid_json"),
    "1e999": (b'{"temperature":1e999}', "invalid_json"),
    "a lone surrogate": (rb'{"model":"\ud800"}', "missing_required_parameter"),
    "10,000 deep": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "invalid_json"),
    "20 MB of brackets, nested": (b"[" * 20_000_000, "invalid_json"),
    "20 MB of brackets, flat": (b"[" + b"[]," * 6_666_666 + b"[]]", "invalid_json"),
    "no model": (b'{"messages":[]}', "missing_required_parameter"),
    "no messages": (b'{"model":"m"}', "missing_required_parameter"),
    "empty messages": (b'{"model":"m","messages":[]}', "invalid_value"),
    "an integer over 64 bits": (
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"seed":1' + b"0" * 30 + b"}",
        "invalid_type",
    ),
}


@pytest.mark.parametrize(("body", "code"), BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_malformed_body_is_rejected_with_400_before_any_upstream_request(
    body: bytes, code: str, arena: Arena, bridge: RunningBridge
) -> None:
    answer = await send(bridge, body)
    error = await error_of(answer)
    assert (answer.status, error["type"], error["code"]) == (400, "invalid_request_error", code)
    assert answer.headers["x-bridge-reason"] == "rejected"
    assert len(error["message"]) < 300
    assert not any(call.kind == "create" for call in arena.calls)


async def test_a_chat_is_accepted_with_any_content_type(bridge: RunningBridge) -> None:
    body = json.dumps(bridge.chat("/say hello")).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "nonsense"):
        assert (await bridge.post(body, headers={"Content-Type": kind})).status == 200


async def test_a_gzipped_body_is_read(bridge: RunningBridge) -> None:
    body = gzip.compress(json.dumps(bridge.chat("/say hello")).encode())
    assert (await bridge.post(body, headers={"Content-Encoding": "gzip"})).status == 200


async def test_decoding_a_body_does_not_use_the_default_thread_pool(bridge: RunningBridge) -> None:
    """Compressed bodies are also decoded one at a time, since each may take 32 MiB or more."""
    assert (await bridge.post(bridge.chat("/say hello"))).status == 200  # reads the list of models
    busy = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(busy)
    body, done = gzip.compress(json.dumps(bridge.chat("/say hello")).encode()), threading.Event()
    waiting = busy.submit(done.wait, 20)
    async with asyncio.timeout(10):
        assert (await bridge.post(body, headers={"Content-Encoding": "gzip"})).status == 200
    assert not waiting.done()
    done.set()


async def test_a_gzipped_json_bomb_is_rejected_with_400(bridge: RunningBridge) -> None:
    bomb = gzip.compress(b'{"model": "m", "messages": [' + b"[]," * 500_000 + b"[]]}")
    assert len(bomb) < 10_000
    answer = await bridge.post(bomb, headers={"Content-Encoding": "gzip"})
    assert (answer.status, (await error_of(answer))["message"]) == (400, "The body has too many JSON values.")


BROKEN_GZIP = {
    "no gzip": b"hello",
    "cut off": gzip.compress(b'{"model": "m"}')[:-4],
    "a broken sum": gzip.compress(b'{"model": "m"}')[:-8] + b"\0" * 8,
}


@pytest.mark.parametrize("body", BROKEN_GZIP.values(), ids=BROKEN_GZIP)
async def test_a_broken_gzip_body_is_rejected_with_400(
    body: bytes, bridge: RunningBridge, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await bridge.post(body, headers={"Content-Encoding": "gzip"})
    await error_of(answer)
    assert answer.status == 400
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def in_chunks(size: int) -> AsyncIterator[bytes]:
    """A body without a declared length, which is sent in chunks."""
    for _ in range(size // 65536):
        yield b" " * 65536


class TestTooLarge:
    @pytest.fixture
    async def bridge(self, arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
        overrides = {"server": {"max_body_bytes": BODY_LIMIT}}
        async with running_bridge(arena, tmp_path / "state", overrides) as bridge:
            yield bridge
            assert (await bridge.post(bridge.chat("/say still here"))).status == 200

    async def check(self, answer: aiohttp.ClientResponse) -> None:
        error = await error_of(answer)
        assert (answer.status, error["type"], error["code"]) == (413, "invalid_request_error", "request_too_large")
        assert str(BODY_LIMIT) in error["message"]
        assert answer.headers["Connection"] == "close"

    async def test_a_body_that_declares_a_length_above_the_limit_is_413(self, bridge: RunningBridge) -> None:
        await self.check(await send(bridge, b" " * (BODY_LIMIT + 1)))

    async def test_a_chunked_body_above_the_limit_is_413(self, bridge: RunningBridge) -> None:
        await self.check(
            await bridge.http.post(
                f"{bridge.base_url}/chat/completions", data=in_chunks(2 * BODY_LIMIT), headers=bridge.headers
            )
        )

    async def test_a_gzip_bomb_above_the_limit_is_413(self, bridge: RunningBridge) -> None:
        bomb = gzip.compress(b" " * (50 * BODY_LIMIT))
        assert len(bomb) < BODY_LIMIT // 16
        await self.check(await bridge.post(bomb, headers={"Content-Encoding": "gzip"}))

    async def test_a_body_of_exactly_the_limit_is_accepted(self, bridge: RunningBridge) -> None:
        body = json.dumps(bridge.chat("/say hello")).encode()
        assert (await send(bridge, body.ljust(BODY_LIMIT))).status == 200


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
async def test_a_body_that_arrives_too_slowly_is_408(declared: bool, arena: Arena, tmp_path: Path) -> None:
    framing = b"Content-Length: 1000\r\n\r\n{" if declared else b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
    async with running_bridge(arena, tmp_path / "state", {"server": {"body_timeout": 0.2}}) as bridge:
        raw = await exchange(bridge, CHAT + authorization(bridge) + framing)
        assert raw.status == 408
        assert raw.error["code"] == "request_timeout"
        assert b"Connection: close" in raw.head
        assert bridge.calls_held == 0


# Routes and methods

ROUTES = {
    "nothing there": ("GET", "/nope", 404, "not_found", None),
    "nothing under the prefix": ("GET", "/v1/nope", 404, "not_found", None),
    "another API": ("POST", "/v1/embeddings", 404, "not_found", None),
    "GET a chat": ("GET", "/v1/chat/completions", 405, "method_not_allowed", "POST"),
    "PUT a chat": ("PUT", "/api/v1/chat/completions", 405, "method_not_allowed", "POST"),
    "DELETE a model": ("DELETE", "/v1/models/x", 405, "method_not_allowed", "GET,HEAD"),
    "POST the models": ("POST", "/v1/models", 405, "method_not_allowed", "GET,HEAD"),
    "OPTIONS without CORS": ("OPTIONS", "/v1/models", 405, "method_not_allowed", "GET,HEAD"),
}


@pytest.mark.parametrize(("method", "path", "status", "code", "allow"), ROUTES.values(), ids=ROUTES)
async def test_an_unknown_route_is_404_and_a_wrong_method_is_405(
    method: str, path: str, status: int, code: str, allow: str | None, bridge: RunningBridge
) -> None:
    answer = await bridge.http.request(method, bridge.origin + path)
    error = await error_of(answer)
    assert (answer.status, error["type"], error["code"]) == (status, "invalid_request_error", code)
    assert answer.headers.get("Allow") == allow
    assert ("under /v1" in error["message"]) == (status == 404 and not path.startswith("/v1/"))


async def test_the_answer_to_a_head_request_has_no_body(bridge: RunningBridge) -> None:
    answer = await bridge.http.head(f"{bridge.base_url}/models", headers=bridge.headers)
    assert (answer.status, answer.content_type, await answer.read()) == (200, "application/json", b"")


# Keys

UNAUTHORIZED: dict[str, list[str]] = {
    "missing": [],
    "empty": [""],
    "no scheme, and something behind it": ["{key} x"],
    "another scheme": ["Basic {key}"],
    "no key": ["Bearer"],
    "a blank key": ["Bearer "],
    "an unknown key": ["Bearer sk-lmab-" + "a" * 32],
    "no key of ours": ["Bearer sk-proj-1234"],
    "cut short": ["Bearer {key:.20}"],
    "with something behind it": ["Bearer {key}x"],
    "in quotes": ['Bearer "{key}"'],
    "two in one": ["Bearer {key}, Bearer {key}"],
    "not ASCII": ["Bearer {key}é"],
    "given twice": ["Bearer {key}", "Bearer {key}"],
    "given twice, the second wrong": ["Bearer {key}", "Bearer wrong"],
}


@pytest.mark.parametrize("sent", UNAUTHORIZED.values(), ids=UNAUTHORIZED)
async def test_a_request_without_a_valid_key_is_401(sent: list[str], arena: Arena, bridge: RunningBridge) -> None:
    headers = [("Authorization", value.format(key=bridge.key)) for value in sent]
    for path in ("/chat/completions", "/models"):
        method = "POST" if path == "/chat/completions" else "GET"
        answer = await bridge.http.request(method, bridge.base_url + path, headers=headers)
        error = await error_of(answer)
        assert (answer.status, error["type"], error["code"]) == (401, "invalid_request_error", "invalid_api_key")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert bridge.key not in error["message"]
    assert not any(call.kind == "create" for call in arena.calls)


@pytest.mark.parametrize("value", ["bearer {key}", "BEARER {key}", "Bearer  {key}", "Bearer {key} "])
async def test_a_bearer_scheme_is_accepted_in_any_case_and_with_extra_blanks(value: str, bridge: RunningBridge) -> None:
    headers = {"Authorization": value.format(key=bridge.key)}
    assert (await bridge.http.get(f"{bridge.base_url}/models", headers=headers)).status == 200


# Request ids

SANE = ["req_1", "01J-abc.def_GHI", "a" * 128]
INSANE = ["", "a b", "a" * 129, "<script>", "a;b", "é", 'a"b']


@pytest.mark.parametrize("sent", SANE, ids=lambda sent: sent[:20])
async def test_a_valid_request_id_of_the_caller_is_kept(sent: str, bridge: RunningBridge) -> None:
    for body in (bridge.chat("/say hello"), bridge.chat("/say hello", stream=True), b"{"):
        answer = await bridge.post(body, headers={"x-request-id": sent})
        assert answer.headers.getall("x-request-id") == [sent]
        await answer.read()


@pytest.mark.parametrize("sent", INSANE, ids=lambda sent: sent[:20] or "empty")
async def test_an_invalid_request_id_of_the_caller_is_replaced(sent: str, bridge: RunningBridge) -> None:
    answer = await bridge.post(b"{", headers={"x-request-id": sent})
    (given,) = answer.headers.getall("x-request-id")
    assert re.fullmatch(r"req_[0-9a-f]{24}", given)


async def test_each_request_has_its_own_id(bridge: RunningBridge) -> None:
    assert len({(await bridge.post(b"{")).headers["x-request-id"] for _ in range(3)}) == 3


# Raw HTTP

HOST = b"Host: bridge.example\r\n"
MODELS = b"GET /v1/models HTTP/1.1\r\n" + HOST
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST
END = b"\r\n"
CANARY = b"canary-bytes"


class Raw(NamedTuple):
    """An answer, read from a raw socket."""

    status: int
    head: bytes
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


def authorization(bridge: RunningBridge) -> bytes:
    return f"Authorization: Bearer {bridge.key}\r\n".encode()


@asynccontextmanager
async def connected(bridge: RunningBridge) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a separate connection."""
    url = URL(bridge.origin)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        async with asyncio.timeout(5):
            yield reader, writer
    finally:
        writer.transport.abort()


async def read_answer(reader: asyncio.StreamReader) -> Raw:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
    return Raw(int(head.split()[1]), head, await reader.readexactly(int(length[1]) if length else 0))


async def exchange(bridge: RunningBridge, sent: bytes) -> Raw:
    """Send bytes on a separate connection, and read one answer."""
    async with connected(bridge) as (reader, writer):
        writer.write(sent)
        return await read_answer(reader)


#: Raw requests and the status of the refusal. KEY stands for a good Authorization header; most contain the canary.
REFUSED = {
    "length and chunks": (CHAT + b"KEYContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (CHAT + b"KEYContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
    "a negative length": (CHAT + b"KEYContent-Length: -1\r\n\r\n", 400),
    "a length beyond all bounds": (CHAT + b"KEYContent-Length: " + b"9" * 40 + b"\r\n\r\n", 400),
    "two hosts": (MODELS + HOST + b"KEY" + END, 400),
    "no host": (b"GET /v1/models HTTP/1.1\r\nKEY\r\n", 400),
    "bare LF": (b"GET /v1/models HTTP/1.1\nHost: x\nX-A: canary-bytes\n\n", 400),
    "an unknown transfer coding": (CHAT + b"KEYTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "a folded header": (MODELS + b"X-A: a\r\n canary-bytes\r\nKEY\r\n", 400),
    "a NUL in a header": (MODELS + b"X-A: canary-bytes\0\r\nKEY\r\n", 400),
    "a control character in a header": (MODELS + b"X-A: canary-bytes\x01\r\nKEY\r\n", 400),
    "a NUL in the key": (MODELS + b"Authorization: Bearer canary-bytes\0\r\n\r\n", 400),
    "a blank before the colon": (MODELS + b"X-A : canary-bytes\r\nKEY\r\n", 400),
    "a header without a colon": (MODELS + b"canary-bytes\r\nKEY\r\n", 400),
    "a chunk shorter than it says": (CHAT + b"KEYTransfer-Encoding: chunked\r\n\r\n5\r\nhi\r\n0\r\n\r\n", 400),
    "a chunk of no size": (CHAT + b"KEYTransfer-Encoding: chunked\r\n\r\ncanary-bytes\r\nhi\r\n0\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03canary-bytes" + b"\x11" * 60, 400),
    "a header of 72 KB": (MODELS + b"X-A: " + CANARY * 6000 + b"\r\nKEY\r\n", 431),
    "a key of 72 KB": (MODELS + b"Authorization: Bearer " + CANARY * 6000 + b"\r\n\r\n", 431),
    "a request line of 9 KB": (b"GET /v1/models?" + CANARY * 800 + b" HTTP/1.1\r\n" + HOST + b"KEY\r\n", 414),
    "200 headers": (MODELS + b"".join(b"X-%d: canary-bytes\r\n" % n for n in range(200)) + b"KEY\r\n", 431),
    "a method that is none": (b"G@T /canary-bytes HTTP/1.1\r\n" + HOST + END, 400),
    "an unheard-of method": (b"BREW /canary-bytes HTTP/1.1\r\n" + HOST + END, 400),
    "a path that is no UTF-8": (b"GET /v1/models/canary-bytes\xff HTTP/1.1\r\n" + HOST + b"KEY\r\n", 400),
    "HTTP/2.0": (b"GET /v1/models HTTP/2.0\r\n" + HOST + b"KEY\r\n", 505),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /v1/models\r\n\r\n", 505),
    "an expectation": (CHAT + b"KEYExpect: canary-bytes\r\nContent-Length: 2\r\n\r\n{}", 417),
    "an expectation nowhere": (
        b"POST /nope HTTP/1.1\r\n" + HOST + b"Expect: canary-bytes\r\nContent-Length: 2\r\n\r\n{}",
        417,
    ),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
async def test_broken_http_is_refused_and_never_quoted(
    sent: bytes, status: int, bridge: RunningBridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with connected(bridge) as (reader, writer):
        writer.write(sent.replace(b"KEY", authorization(bridge)))
        raw = await read_answer(reader)
        assert await reader.read() == b""  # and the connection is closed
    assert raw.status == status
    assert raw.error.keys() == ERROR_FIELDS
    assert raw.error["type"] == "invalid_request_error"
    assert b"x-request-id: req_" in raw.head.lower()
    assert b"aiohttp" not in raw.head
    for secret in (CANARY.decode(), bridge.key):
        assert secret not in (raw.head + raw.body).decode()
        assert secret not in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


#: What is sent in place of the next chunk, of its end, or of the trailers.
BROKEN_CHUNKS = {
    "no size": b"canary-bytes\r\n",
    "no end": b"1\r\n{canary-bytes\r\n",
    "a size beyond all bounds": b"f" * 40 + b"\r\ncanary-bytes",
    "a trailer that is none": b"0\r\ncanary-bytes\r\n\r\n",
    "trailers without end": b"0\r\n" + b"X-A: canary-bytes\r\n" * 200,
    "a trailer of 72 KB": b"0\r\nX-A: " + CANARY * 6000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("broken", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
async def test_a_broken_chunk_after_valid_ones_is_400_and_closes_the_connection(
    broken: bytes, bridge: RunningBridge, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler that reads the body gets the error at once, without waiting for `body_timeout`."""
    async with connected(bridge) as (reader, writer):
        writer.write(CHAT + authorization(bridge) + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        await reader.readuntil(b"100 Continue\r\n\r\n")  # the handler waits for the body
        writer.write(b"1\r\n{\r\n" + broken)
        raw = await read_answer(reader)
        assert await reader.read() == b""
    assert (raw.status, raw.error["code"]) == (400, "invalid_body")
    assert CANARY not in raw.body
    assert CANARY.decode() not in caplog.text


SERVED = {
    "absolute form: its scheme and host are ignored": b"GET http://evil.example/v1/models HTTP/1.1\r\n"
    + HOST
    + b"KEY\r\n",
    "HTTP/1.0": b"GET /v1/models HTTP/1.0\r\nKEY\r\n",
    "an upgrade that is not wanted": MODELS + b"Connection: Upgrade\r\nUpgrade: websocket\r\nKEY\r\n",
    "a query": b"GET /v1/models?limit=1 HTTP/1.1\r\n" + HOST + b"KEY\r\n",
    "bytes that are no UTF-8 in a header": MODELS + b"x-request-id: \xff\xfe\r\nKEY\r\n",
    "a header of 60 KB": MODELS + b"X-A: " + b"a" * 60_000 + b"\r\nKEY\r\n",
    "100 headers": MODELS + b"".join(b"X-%d: a\r\n" % n for n in range(100)) + b"KEY\r\n",
}


@pytest.mark.parametrize("sent", SERVED.values(), ids=SERVED)
async def test_unusual_but_valid_http_is_served(sent: bytes, bridge: RunningBridge) -> None:
    assert (await exchange(bridge, sent.replace(b"KEY", authorization(bridge)))).status == 200


NEVER_SPOKEN = {
    "a path of percent signs": b"GET /v1/%ff%00 HTTP/1.1\r\n" + HOST + b"KEY\r\n",
    "a model of percent signs": b"GET /v1/models/%ff%00%0d%0a HTTP/1.1\r\n" + HOST + b"KEY\r\n",
    "CONNECT": b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST + b"KEY\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"KEY\r\n",
    "a path up": b"GET /v1/../../etc/passwd HTTP/1.1\r\n" + HOST + b"KEY\r\n",
}


@pytest.mark.parametrize("sent", NEVER_SPOKEN.values(), ids=NEVER_SPOKEN)
async def test_odd_paths_are_404(sent: bytes, bridge: RunningBridge) -> None:
    raw = await exchange(bridge, sent.replace(b"KEY", authorization(bridge)))
    assert raw.status == 404
    assert raw.error.keys() == ERROR_FIELDS


async def test_a_body_sent_with_expect_100_continue_is_read(bridge: RunningBridge) -> None:
    body = json.dumps(bridge.chat("/say hello")).encode()
    assert (await bridge.post(body, expect100=True)).status == 200


async def test_pipelined_requests_are_answered_in_order(bridge: RunningBridge) -> None:
    asked = [f"ask-{n}".encode() for n in range(100)]
    async with connected(bridge) as (reader, writer):
        for name in asked:
            writer.write(b"GET /health HTTP/1.1\r\n" + HOST + b"x-request-id: " + name + b"\r\n\r\n")
        for name in asked:
            assert b"x-request-id: " + name + b"\r\n" in (await read_answer(reader)).head


async def test_a_connection_closed_in_the_middle_of_a_body_is_logged_as_client_gone(
    bridge: RunningBridge, request_log: RequestLog
) -> None:
    async with connected(bridge) as (_, writer):
        writer.write(CHAT + authorization(bridge) + b'Content-Length: 50\r\n\r\n{"model"')
        await writer.drain()
    assert (await request_log.line())["reason"] == "client_gone"
