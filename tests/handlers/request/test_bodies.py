"""Content codings of bodies, and bodies that are almost JSON in UTF-8, as real clients send them."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import brotli
import pytest
from running import RunningBridge, running_bridge

from upstream.arena import Arena

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1024 * 1024
PAGE = "http://localhost:3000"


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge that must still answer after the test, and hold no calls."""
    overrides = {"server": {"cors_origins": [PAGE], "max_body_bytes": MIB}}
    async with running_bridge(arena, tmp_path / "state", overrides) as bridge:
        yield bridge
        assert (await bridge.post(bridge.chat("/say still here"))).status == 200
        assert bridge.calls_held == 0


def shown(arena: Arena) -> str:
    """The user's message in the last call to the site."""
    body: dict[str, Any] = json.loads(arena.calls[-1].body)
    return str(body["userMessage"]["content"])


def raw_deflate(data: bytes) -> bytes:
    """Compress to raw deflate data without zlib's header, which some clients send as "deflate"."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


Compress = Callable[[bytes], bytes]

KNOWN: dict[str, tuple[str, Compress]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip in capitals": ("GZIP", gzip.compress),
    "gzip in two members": ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    "deflate": ("deflate", zlib.compress),
    "deflate without zlib's frame": ("deflate", raw_deflate),
    "brotli": ("br", brotli.compress),
    "brotli in capitals": ("BR", brotli.compress),
    "zstd": ("zstd", zstd.compress),
    "zstd at its best": ("zstd", lambda data: zstd.compress(data, 19)),
    "zstd in two frames": ("zstd", lambda data: zstd.compress(data[:9]) + zstd.compress(data[9:])),
    "identity": ("identity", bytes),
    "nothing": ("", bytes),
}


@pytest.mark.parametrize(("coding", "compress"), KNOWN.values(), ids=KNOWN)
async def test_a_body_in_a_known_coding_is_read(coding: str, compress: Compress, bridge: RunningBridge) -> None:
    body = compress(json.dumps(bridge.chat("/say bonjour")).encode())
    answer = await bridge.post(body, headers={"Content-Encoding": coding})
    assert (await answer.json())["choices"][0]["message"]["content"] == "bonjour"


UNKNOWN = ["compress", "x-gzip", "gzip, br", "gzip, identity", "lz4", "utf-8", "aws-chunked", "*", "none", "gzip;q=1"]


@pytest.mark.parametrize("coding", UNKNOWN)
async def test_an_unknown_coding_is_415_and_not_read_as_plain(coding: str, arena: Arena, bridge: RunningBridge) -> None:
    plain = json.dumps(bridge.chat("/say hello")).encode()
    for body in (plain, gzip.compress(plain)):
        answer = await bridge.post(body, headers={"Content-Encoding": coding, "Origin": PAGE})
        error = (await answer.json())["error"]
        assert (answer.status, error["type"]) == (415, "invalid_request_error")
        assert error["code"] == "unsupported_encoding"
        assert f"'{coding}'" in error["message"]
        assert "gzip, deflate, br, zstd" in error["message"]
        assert answer.headers["Accept-Encoding"] == "gzip, deflate, br, zstd"
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert not any(call.kind == "create" for call in arena.calls)


async def test_a_request_with_two_content_encoding_headers_is_415(bridge: RunningBridge) -> None:
    headers = [("Authorization", f"Bearer {bridge.key}"), ("Content-Encoding", "gzip"), ("Content-Encoding", "br")]
    url = f"{bridge.base_url}/chat/completions"
    answer = await bridge.http.post(url, data=b"{}", headers=headers)
    assert answer.status == 415
    assert "'gzip, br'" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize("path", ["/images/generations", "/images/edits"])
async def test_an_unknown_coding_of_an_image_request_is_415(path: str, bridge: RunningBridge) -> None:
    headers = {**bridge.headers, "Content-Encoding": "compress", "Content-Type": "multipart/form-data; boundary=b"}
    answer = await bridge.http.post(bridge.base_url + path, data=b"{}", headers=headers)
    assert answer.status == 415


BROKEN = {
    "gzip that is none": ("gzip", b"hello"),
    "deflate that is none": ("deflate", b"\xff\xff\xff"),
    "brotli that is none": ("br", b"hello, hello, hello"),
    "brotli that is plain JSON": ("br", b'{"model": "m", "messages": []}'),
    "zstd that is none": ("zstd", b"hello"),
    "zstd cut off": ("zstd", zstd.compress(b'{"model": "m"}')[:-4]),
    "brotli cut off": ("br", brotli.compress(b'{"model": "m"}')[:-4]),
    "gzip called zstd": ("zstd", gzip.compress(b"{}")),
}


@pytest.mark.parametrize(("coding", "body"), BROKEN.values(), ids=BROKEN)
async def test_a_body_with_broken_compression_is_rejected_with_400(
    coding: str, body: bytes, bridge: RunningBridge, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await bridge.post(body, headers={"Content-Encoding": coding})
    assert answer.status == 400
    assert (await answer.json())["error"]["code"] in ("invalid_body", "invalid_json")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


BOMBS: dict[str, tuple[str, Compress]] = {
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "brotli": ("br", brotli.compress),
    "zstd": ("zstd", zstd.compress),
    "zstd in many frames": ("zstd", lambda data: zstd.compress(data[:MIB]) * (len(data) // MIB)),
}


@pytest.mark.parametrize(("coding", "compress"), BOMBS.values(), ids=BOMBS)
async def test_a_compression_bomb_is_413_in_every_coding(
    coding: str, compress: Compress, bridge: RunningBridge
) -> None:
    bomb = compress(b" " * (64 * MIB))
    assert len(bomb) < MIB // 8
    answer = await bridge.post(bomb, headers={"Content-Encoding": coding})
    assert (answer.status, (await answer.json())["error"]["code"]) == (413, "request_too_large")


NAMED = {
    "Latin-1": (lambda text: text.encode("latin-1"), "is not UTF-8: byte "),
    "UTF-16": (lambda text: text.encode("utf-16"), "begins with the bytes ff fe: it is UTF-16"),
    "UTF-16 without its mark": (lambda text: text.encode("utf-16-le"), "it looks like UTF-16"),
    "gzip without its header": (lambda text: gzip.compress(text.encode()), "send 'Content-Encoding: gzip'"),
    "zstd without its header": (lambda text: zstd.compress(text.encode()), "send 'Content-Encoding: zstd'"),
}


@pytest.mark.parametrize(("encode", "said"), NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("size", [0, MIB // 2], ids=["small", "large"])
async def test_invalid_utf8_is_reported_with_its_line(
    encode: Callable[[str], bytes], said: str, size: int, bridge: RunningBridge
) -> None:
    text = json.dumps(bridge.chat("/say déjà" + " " * size), ensure_ascii=False)
    answer = await bridge.post(encode(text)[:MIB])
    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (400, "invalid_json")
    assert said in error["message"]


async def test_a_byte_order_mark_is_skipped(bridge: RunningBridge) -> None:
    answer = await bridge.post(b"\xef\xbb\xbf" + json.dumps(bridge.chat("/say hello")).encode())
    assert (await answer.json())["choices"][0]["message"]["content"] == "hello"


@pytest.mark.parametrize("half", [r"\ud83d", r"\ude00", r"\ud83d\ud83d", r"\uD83D/", r"\ude00\ud83d"])
async def test_a_lone_surrogate_in_a_prompt_is_replaced_and_answered(
    half: str, arena: Arena, bridge: RunningBridge
) -> None:
    answer = await bridge.post(json.dumps(bridge.chat("/say half: HALF")).replace("HALF", half).encode())
    assert answer.status == 200
    assert shown(arena).startswith("/say half: \N{REPLACEMENT CHARACTER}")
