"""Attacks by callers without a key: `python tests/attacks/no_key.py [name ...]`."""

from __future__ import annotations

import asyncio
import random

from stand import Attack, Target, burst, flood, hold, in_parallel, main

HOST = b"Host: bridge.example\r\n"
CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
LOGIN = (
    b"POST /dashboard/login HTTP/1.1\r\n" + HOST + b"Content-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: %d\r\n\r\n"
)


def _flooding(connections: int, head: bytes, piece: bytes) -> Attack:
    async def attack(target: Target) -> None:
        await in_parallel(connections, lambda _: flood(target, head, piece))

    return attack


def _bursting(connections: int, sent: bytes) -> Attack:
    async def attack(target: Target) -> None:
        await in_parallel(connections, lambda _: burst(target, sent))

    return attack


def _holding(connections: int, sent: bytes, *, again: bool = True) -> Attack:
    async def attack(target: Target) -> None:
        await in_parallel(connections, lambda _: hold(target, sent), again=again)

    return attack


async def _dribbling_heads(target: Target) -> None:
    """Send a thousand heads slowly, one header at a time."""

    async def dribble(_: int) -> None:
        _reader, writer = await target.connect()
        try:
            writer.write(b"GET / HTTP/1.1\r\n" + HOST)
            while True:
                writer.write(b"X-%d: a\r\n" % random.randrange(10_000))
                await writer.drain()
                await asyncio.sleep(0.05)
        finally:
            writer.transport.abort()

    await in_parallel(1000, dribble)


async def _stalled_handshakes(target: Target) -> None:
    """Open TCP connections that send nothing; with --tls, these are stalled handshakes."""
    await in_parallel(1000, lambda _: hold(Target(target.port, target.key, target.model), b""))


async def _asking(target: Target, count: int, sent: bytes) -> None:
    """Send requests over new connections, as fast as they are answered."""

    async def ask(_: int) -> None:
        reader, writer = await target.connect()
        try:
            writer.write(sent)
            await reader.read(4096)
        finally:
            writer.transport.abort()

    await in_parallel(count, ask)


MODELS = b"GET /v1/models HTTP/1.1\r\n" + HOST + b"\r\n"

ATTACKS: dict[str, Attack] = {
    # endless data that is not valid HTTP
    "trailers": _bursting(4, CHUNKED + b"0\r\n" + (b"X-A: " + b"a" * 900 + b"\r\n") * 10_000),
    "huge-trailer": _bursting(4, CHUNKED + b"0\r\nX: " + b"a" * 9_000_000),
    "huge-header": _bursting(4, b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9_000_000),
    "many-headers": _bursting(
        4, b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 8000) for n in range(150))
    ),
    "junk": _bursting(4, b"\0" * 9_000_000),
    "broken-chunks": _bursting(4, CHUNKED + b"5\r\nhello\r\n" + b"nonsense\r\n" * 900_000),
    "junk-behind-a-request": _bursting(4, MODELS + b"\0" * 9_000_000),
    "empty-lines": _flooding(10, b"", b"\r\n" * 32768),
    # small pieces
    "tiny-chunks-1": _flooding(1, CHUNKED, b"1\r\n \r\n" * 10_000),
    "tiny-chunks-10": _flooding(10, CHUNKED, b"1\r\n \r\n" * 10_000),
    "chunk-extensions": _flooding(10, CHUNKED, b"1;a=" + b"b" * 60_000 + b"\r\n \r\n"),
    "small-extensions": _flooding(10, CHUNKED, b"1;a\r\n \r\n" * 6000),
    "login-chunks": _flooding(
        10, LOGIN.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked"), b"1\r\na\r\n" * 10_000
    ),
    "large-chunks": _flooding(10, CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n"),
    "pipelined": _flooding(10, b"", MODELS * 500),
    "pipelined-pages": _flooding(10, b"", MODELS.replace(b"/v1/models", b"/dashboard/login") * 500),
    # forms and heads that stop half-way
    "half-forms": _holding(2500, LOGIN % 250_001 + b"a" * 250_000),
    "half-forms-once": _holding(2500, LOGIN % 250_001 + b"a" * 250_000, again=False),
    "half-heads-once": _holding(
        2500, b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 7000) for n in range(9)), again=False
    ),
    "half-small-forms-once": _holding(2500, LOGIN % 4000 + b"a" * 3999, again=False),
    "half-small-forms": _holding(2500, LOGIN % 4000 + b"a" * 3999),
    "half-chunked-forms": _holding(
        2500, LOGIN.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") + b"3d090\r\n" + b"a" * 249_999
    ),
    "half-heads": _holding(
        2500, b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 7000) for n in range(9))
    ),
    "pipelined-behind-a-form": _holding(
        1000,
        LOGIN % 4000 + b"a" * 4000 + (MODELS[:-2] + b"X: " + b"a" * 7000 + b"\r\n\r\n") * 30,
    ),
    # connections
    "silent": _stalled_handshakes,
    "dribbling-heads": _dribbling_heads,
    "asking": lambda target: _asking(target, 50, MODELS),
    "asking-500": lambda target: _asking(target, 500, MODELS),
}

if __name__ == "__main__":
    main(__file__, ATTACKS)
