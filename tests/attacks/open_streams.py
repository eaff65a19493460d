"""Measures the memory and time that an open stream from the site costs, over http and https.

python tests/attacks/open_streams.py [500]      (about 20 s; the root of the checkout and tests/harness on PYTHONPATH)

A peer in a separate process begins an answer on every connection and never ends it.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import psutil
from certificates import server_context

from upstream.answer import ArenaAnswer
from upstream.http.exchange import open_exchanges
from upstream.loop.timers import Timers

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LINE = b'a0:"one "\n'
KIB = 1024


async def serve(folder: str) -> None:
    """Begin an answer on each connection; print the port."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD + b"%x\r\n%b\r\n" % (len(LINE), LINE))
            await reader.read()

    context = server_context(Path(folder)) if folder else None
    server = await asyncio.start_server(play, "127.0.0.1", 0, ssl=context, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def hold(streams: int, folder: str) -> None:
    """Open this many streams in this process; print the cost of each."""
    command = (sys.executable, __file__, "serve", folder)
    peer = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert peer.stdout is not None
        port = int(await peer.stdout.readline())
        scheme = "https" if folder else "http"
        if folder:
            os.environ["SSL_CERT_FILE"] = str(Path(folder) / "cert.pem")
        process = psutil.Process()
        async with open_exchanges(streams + 1, connect_timeout=60, timers=Timers()) as exchanges:

            async def open_one() -> ArenaAnswer:
                response = await exchanges.request("GET", f"{scheme}://localhost:{port}", "/", {"Accept": "*/*"})
                answer = ArenaAnswer(response, perf_counter() + 3600, 3600, 3600)
                await answer.read()
                return answer

            answers = [await open_one()]
            before, began = process.memory_info().rss, perf_counter()
            for _ in range(streams // 50):
                answers += await asyncio.gather(*(open_one() for _ in range(50)))
            each = (process.memory_info().rss - before) / (len(answers) - 1)
            print(
                f"{scheme}: {each / KIB:.0f} KiB for each of {len(answers) - 1} open streams, "
                f"{(perf_counter() - began) * 1e3 / len(answers):.1f} ms to open one"
            )
            for answer in answers:
                await answer.aclose()
    finally:
        peer.kill()
        await peer.wait()


def main() -> None:
    """Measure each scheme in a separate process, since memory that has been used once is reused."""
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(sys.argv[2]))
    elif sys.argv[1:2] == ["hold"]:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        asyncio.run(hold(int(sys.argv[2]), sys.argv[3]))
    else:
        streams = sys.argv[1] if sys.argv[1:] else "500"
        with TemporaryDirectory() as folder:
            for where in ("", folder):
                subprocess.run([sys.executable, __file__, "hold", streams, where], check=False)


main()
