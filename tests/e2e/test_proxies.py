"""A daemon that reaches its site through a proxy, and what `check` reports about it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from certificates import server_context
from daemon import ROOT
from forward_proxies import Tap, closed_port, microsocks, tapped, tinyproxy
from pictures import png, user_with
from process import Home

from upstream.arena import Arena

USER, PASSWORD = "ada", "s3cret-w0rd"


@dataclass
class Remote:
    """A daemon's home whose site and storage use TLS, and a proxy behind `tap`."""

    home: Home
    tap: Tap
    proxy: str
    environ: Mapping[str, str]

    async def check(self) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "bridge", "check", "--config", str(self.home.config)]
        return await asyncio.to_thread(
            subprocess.run, words, cwd=ROOT, env=dict(self.environ), capture_output=True, text=True, timeout=60
        )


@asynccontextmanager
async def remote(scheme: str, folder: Path) -> AsyncIterator[Remote]:
    context = server_context(folder)
    async with AsyncExitStack() as stack:
        arena = await stack.enter_async_context(Arena())
        site = await stack.enter_async_context(tapped(urlsplit(arena.origin).port or 0, context))
        storage = await stack.enter_async_context(tapped(urlsplit(arena.storage_origin).port or 0, context))
        arena.origin = f"https://localhost:{site.port}"
        arena.storage.origin = f"https://localhost:{storage.port}"
        running = microsocks(USER, PASSWORD) if "socks" in scheme else tinyproxy(USER, PASSWORD, folder)
        tap = await stack.enter_async_context(tapped(await stack.enter_async_context(running)))
        home = Home(arena, folder)
        await home.prepare()
        proxy = f"{scheme}://{USER}:{PASSWORD}@127.0.0.1:{tap.port}"
        environ = {"SSL_CERT_FILE": str(folder / "cert.pem"), "LMARENA_BRIDGE_UPSTREAM__PROXY": proxy}
        yield Remote(home, tap, proxy, environ)


@pytest.mark.parametrize("scheme", ["socks5h", "http"])
async def test_a_chat_with_a_picture_goes_through_the_proxy(scheme: str, tmp_path: Path) -> None:
    async with (
        remote(scheme, tmp_path) as there,
        there.home.serve(environ=there.environ) as daemon,
        aiohttp.ClientSession(headers=there.home.headers) as http,
    ):
        picture = png(1, 300_000)
        body = {"model": "gemini-4-pro", "messages": [user_with("/say through", picture)], "stream": True}
        async with http.post(f"{daemon.origin}/v1/chat/completions", json=body) as answer:
            text = await answer.text()
            assert answer.status == 200, text
        assert "through" in text
        calls = there.home.arena.storage.calls
        assert [call.bytes for call in calls] == [len(picture)]
    assert there.tap.connections >= 2  # to the site and to the storage
    assert there.home.session.cookie_value.encode()[:100] not in there.tap.sent
    assert PASSWORD not in "\n".join(daemon.log)


async def test_check_names_the_proxy_that_calls_go_through(tmp_path: Path) -> None:
    async with remote("socks5h", tmp_path) as there:
        checked = await there.check()
    where = f"the SOCKS5 proxy at 127.0.0.1:{there.tap.port}"
    assert checked.returncode == 0, checked.stdout
    assert f"✓ proxy: calls go through {where} (upstream.proxy)\n" in checked.stdout
    assert PASSWORD not in checked.stdout + checked.stderr


async def test_an_unreachable_proxy_is_named_by_check_and_in_errors_to_callers(tmp_path: Path) -> None:
    async with remote("http", tmp_path) as there:
        port = closed_port()
        there.environ = {
            "SSL_CERT_FILE": there.environ["SSL_CERT_FILE"],
            "HTTPS_PROXY": f"http://{USER}:{PASSWORD}@127.0.0.1:{port}",
            "NO_PROXY": "",
            "no_proxy": "",
            "https_proxy": "",
        }
        where = f"the HTTP proxy at 127.0.0.1:{port}"
        checked = await there.check()
        async with (
            there.home.serve(environ=there.environ) as daemon,
            aiohttp.ClientSession(headers=there.home.headers) as http,
        ):
            body = {"model": "gemini-4-pro", "messages": [{"role": "user", "content": "hello"}]}
            async with http.post(f"{daemon.origin}/v1/chat/completions", json=body) as answer:
                told = json.loads(await answer.read())["error"]
                reason = answer.headers["X-Bridge-Reason"]
    assert checked.returncode == 1
    assert f"LMArena cannot be reached: {where} cannot be reached: connection refused." in checked.stdout
    assert f"! proxy: calls go through {where} (HTTPS_PROXY)\n" in checked.stdout
    assert reason == "unreachable"
    assert where in told["message"]
    assert PASSWORD not in checked.stdout + checked.stderr + json.dumps(told) + "\n".join(daemon.log)
