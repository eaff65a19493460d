"""Stalls DNS lookups. Prints how long the daemon takes to end, and how long other work takes during the lookups.

python tests/attacks/slow_dns.py        (about 40 s; the root of the checkout and tests/harness on PYTHONPATH)
"""

from __future__ import annotations

import asyncio
import base64
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import aiohttp
from pictures import png
from process import Home
from running import api_key
from stalled_names import SUFFIX, program
from streams import chat_model

from bridge.access.passwords import hash_password
from bridge.state.admin import Admin, admin_document
from bridge.state.state import accounts_document
from upstream.arena import Arena

#: How long a lookup takes, in seconds; glibc gives up after 10 with one name server, after 30 with three.
LOOKUP_SECONDS = 15.0
PASSWORD = "correct horse battery staple"
REQUESTS = 12


async def ending(arena: Arena, path: Path) -> None:
    home = Home(arena, path)
    await home.prepare()
    home.configure({"upstream": {"base_url": f"https://site{SUFFIX}"}})
    async with home.serve(program=program(LOOKUP_SECONDS)) as daemon:
        await asyncio.sleep(1)  # by then the daemon is fetching the list of models
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        status = await daemon.ends(60)
        print(f"SIGTERM during a lookup: exit {status} after {time.monotonic() - began:.2f} s")


async def standing_by(arena: Arena, path: Path) -> None:
    home = Home(arena, path)
    await home.prepare()
    home.configure({"images": {"fetch_urls": True}})
    await admin_document(home.folder).save(Admin(hash_password(PASSWORD)))
    secret, key = api_key()
    await home.add_key(key)
    another = {"Authorization": f"Bearer {secret}"}
    model = next(m.public_name for m in arena.models if "image" in m.inputs and set(m.outputs) == {"text"})
    async with (
        home.serve(program=program(LOOKUP_SECONDS)) as daemon,
        aiohttp.ClientSession(headers=home.headers, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http,
    ):

        async def fetch(number: int) -> None:
            links = [f"http://n{number}x{at}{SUFFIX}/a.png" for at in range(10)]
            content = [{"type": "image_url", "image_url": {"url": link}} for link in links]
            body = {"model": model, "messages": [{"role": "user", "content": content}]}
            with suppress(aiohttp.ClientError):
                async with http.post(f"{daemon.origin}/v1/chat/completions", json=body) as response:
                    await response.read()

        async def large() -> None:
            picture = base64.b64encode(png(size=900_000)).decode()
            content = [
                {"type": "text", "text": "/say hi"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
            ]
            body = {"model": model, "messages": [{"role": "user", "content": content}]}
            began = time.monotonic()
            async with http.post(f"{daemon.origin}/v1/chat/completions", json=body, headers=another) as response:
                await response.read()
                print(f"another key's body of 1.2 MB: {response.status} after {time.monotonic() - began:.2f} s")

        async def login() -> None:
            began = time.monotonic()
            headers = {"Origin": daemon.origin, "Sec-Fetch-Site": "same-origin"}
            url = f"{daemon.origin}/dashboard/login"
            async with http.post(url, data={"password": PASSWORD}, headers=headers, allow_redirects=False) as response:
                print(f"a login: {response.status} after {time.monotonic() - began:.2f} s")

        async def rotation() -> None:
            document = accounts_document(home.folder)
            await document.load()
            arena.rotate(home.session)
            began = time.monotonic()
            body = {"model": chat_model(home), "messages": [{"role": "user", "content": "/say hi"}]}
            async with http.post(f"{daemon.origin}/v1/chat/completions", json=body, headers=another) as response:
                await response.read()
            while (await document.load())[0].session.value != home.session.cookie_value:
                pass  # a change of a file sets no event
            print(f"a rotated cookie is on disk after {time.monotonic() - began:.2f} s")

        async with asyncio.TaskGroup() as tasks:
            fetches = [tasks.create_task(fetch(number)) for number in range(REQUESTS)]
            await asyncio.sleep(1)
            for standing in (large(), login(), rotation()):
                tasks.create_task(standing)
            await asyncio.wait(fetches)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Arena() as arena:
            await ending(arena, Path(folder, "a"))
            await standing_by(arena, Path(folder, "b"))


if __name__ == "__main__":
    asyncio.run(main())
