"""Measures the memory and time that endless answers cost the client.

python tests/attacks/site_memory.py [NAME]      (at most 40 s; the root of the checkout on PYTHONPATH)

A peer in a separate process sends each answer for 4 s, or until the end of the data from `attack`.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from time import perf_counter, process_time

import psutil

from bridge.dialects.openai.chat_answer import CompletionCollector, Header
from bridge.errors import ApiError
from upstream.client import ClientSettings, connect
from upstream.credentials import Credentials
from upstream.loop.timers import Timers
from upstream.protocol.errors import UpstreamError
from upstream.protocol.evaluations import Call

MIB = 1024 * 1024
SECONDS = 4.0
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TEXT = b'a0:"x"\n'
CITATION = b'ac:{"argsTextDelta":"{\\"source\\":{\\"url\\":\\"https://a/\\"}}"}\n'
DELTA = b'a0:"' + b"x" * 1000 + b'"\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def repeated(data: bytes, size: int) -> Iterator[bytes]:
    piece = data * (64 * 1024 // len(data) + 1)
    for _ in range(size // len(piece)):
        yield piece


def attack(name: str) -> Iterator[bytes]:
    """The data that the peer sends on each connection."""
    match name:
        case "trailers":
            yield HEAD + chunk(TEXT) + b"0\r\n"
            yield from repeated(b"A: b\r\n", 4096 * MIB)
        case "one trailer":
            yield HEAD + chunk(TEXT) + b"0\r\nA: "
            yield from repeated(b"a", 4096 * MIB)
        case "headers":
            yield b"HTTP/1.1 200 OK\r\n"
            yield from repeated(b"a:\r\n", 4096 * MIB)
        case "citations first":
            yield HEAD
            for piece in repeated(CITATION, 17 * MIB):
                yield chunk(piece)
            yield chunk(TEXT + b"ad:{}\n")
        case "empty deltas first":
            yield HEAD
            for piece in repeated(b'a0:""\nag:""\n', 4 * MIB):
                yield chunk(piece)
            yield chunk(TEXT + b"ad:{}\n")
        case "open lines":
            yield HEAD + chunk(TEXT + b'a0:"')
            for piece in repeated(b"x", 8 * MIB - 64 * 1024):
                yield chunk(piece)
        case "a whole answer":
            yield HEAD
            for piece in repeated(DELTA, 4096 * MIB):
                yield chunk(piece)


ATTACKS = {
    "trailers": 1,
    "one trailer": 1,
    "headers": 1,
    "citations first": 1,
    "empty deltas first": 1,
    "open lines": 100,
    "a whole answer": 1,
}


async def serve(name: str) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for data in attack(name):
                writer.write(data)
                await writer.drain()
            await reader.read()

    server = await asyncio.start_server(play, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def suffer(name: str) -> str:
    """Make the calls and read their answers as for a request that is not streamed; return the most common outcome."""
    peer = await asyncio.create_subprocess_exec(sys.executable, __file__, "serve", name, stdout=asyncio.subprocess.PIPE)
    try:
        assert peer.stdout is not None
        origin = f"http://127.0.0.1:{int(await peer.stdout.readline())}"
        settings = ClientSettings(origin, frozenset({origin}), "a browser's", "", 5.0, 30.0, 200)
        async with connect(settings, Timers()) as client:
            call = Call("POST", "/", b"{}", "0", "0")

            async def ask() -> str:
                answer = await client.open(call, Credentials("", lambda _: None), first_byte_timeout=30)
                completion = CompletionCollector(Header("", 0, ""))
                try:
                    await answer.begin()
                    while not answer.ended:
                        completion.add(await answer.read())
                finally:
                    await answer.aclose()
                return "read"

            async def judged() -> str:
                try:
                    async with asyncio.timeout(SECONDS):
                        return await ask()
                except (UpstreamError, ApiError) as error:
                    return error.message
                except TimeoutError:
                    return f"still read after {SECONDS:g} s"

            said = await asyncio.gather(*(judged() for _ in range(ATTACKS[name])))
            return max(said, key=said.count)
    finally:
        peer.kill()
        await peer.wait()


def measure(name: str) -> None:
    """Run one attack in this process and print its cost."""
    resource.setrlimit(resource.RLIMIT_AS, (6144 * MIB, 6144 * MIB))
    before = psutil.Process().memory_info().rss
    began, worked = perf_counter(), process_time()
    said = asyncio.run(suffer(name))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    grown = max(0, peak - before) / MIB
    print(
        f"{name:20}{grown:7.0f} MiB{perf_counter() - began:7.1f} s{process_time() - worked:7.1f} s of CPU  {said[:70]}",
        flush=True,
    )


def main() -> None:
    """Measure each attack in a separate process."""
    match sys.argv[1:]:
        case ["serve", name]:
            asyncio.run(serve(name))
        case ["measure", name]:
            measure(name)
        case names:
            for name in names or ATTACKS:
                subprocess.run([sys.executable, __file__, "measure", name], check=False)


main()
