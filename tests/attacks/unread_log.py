"""Runs a daemon whose stderr is not read. Prints how many requests it answers, the time of /livez, and its exit.

python tests/attacks/unread_log.py      (about 20 s; the root of the checkout and tests/harness on PYTHONPATH)
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from daemon import ROOT
from process import READY, Home

from upstream.arena import Arena

REQUESTS = 20_000
PATIENCE = 5.0


async def attack(arena: Arena, path: Path, form: str) -> None:
    home = Home(arena, path)
    await home.prepare()
    home.configure({"log": {"format": form}})
    reading, writing = os.pipe()
    words = [sys.executable, "-m", "bridge", "serve", "--config", str(home.config)]
    process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stderr=writing)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as log:
        seen = b""
        while b"/v1" not in seen.partition(READY.encode())[2]:
            seen += await asyncio.to_thread(log.read, 65536)
        origin = seen.partition(READY.encode())[2].split(b"/v1")[0].split(b'"')[0].decode()
        answered = 0
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as http:
            try:
                for _ in range(REQUESTS):
                    async with http.get(f"{origin}/v1/models") as response:  # 401, which is logged
                        await response.read()
                    answered += 1
            except TimeoutError:
                pass
            print(f"{form}: {answered} of {REQUESTS} requests answered")
            began = time.monotonic()
            try:
                async with http.get(f"{origin}/livez") as response:
                    print(f"{form}: /livez {response.status} after {time.monotonic() - began:.3f} s")
            except TimeoutError:
                print(f"{form}: /livez not answered within {PATIENCE} s")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            status = await asyncio.wait_for(process.wait(), PATIENCE)
            print(f"{form}: exit {status} {time.monotonic() - began:.2f} s after SIGTERM")
        except TimeoutError:
            print(f"{form}: still there {PATIENCE} s after SIGTERM")
            process.kill()
            await process.wait()


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Arena() as arena:
            for form in ("text", "json"):
                await attack(arena, Path(folder, form), form)


if __name__ == "__main__":
    asyncio.run(main())
