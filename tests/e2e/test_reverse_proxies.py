"""Through nginx, Caddy and HAProxy, configured as in systemd/, callers get exactly what the bridge sends."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, nullcontext
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from frames import DONE, frames
from leaving import nobody_returns
from process import Home
from proxies import Proxy, caddy, haproxy, nginx, nginx_of_machines, serving
from request_log import RequestLog
from running import RunningBridge
from streams import Play, chat_model
from yarl import URL

from bridge.tasks import TaskOwner
from upstream.arena import Arena, Line, Step, Turn, Until

MakeProxy: TypeAlias = Callable[[Path, int], Proxy]
SECONDS = 5.0
DELTAS = 5
#: A delay before each answer: Caddy 2.6 cuts off an answer that begins while it is still forwarding the request's body.
#: Real models are never that fast, and there is no event that tells when Caddy is done.
THINKING_SECONDS = 0.2

pytestmark = pytest.mark.parametrize(
    "make", [nginx, caddy, nginx_of_machines, haproxy], ids=["nginx", "caddy", "nginx of machines", "haproxy"]
)
#: The word that is misspelt in each program's configuration.
SLIPS = {"nginx": "proxy_pass", "caddy": "proxy", "haproxy": "balance"}


@pytest.fixture
async def http(make: MakeProxy, bridge: RunningBridge, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP session to a proxy in front of the bridge."""
    port = URL(bridge.origin).port
    assert port is not None
    async with serving(make(tmp_path, port), tmp_path) as http:
        yield http


class TestConfiguration:
    def check(self, proxy: Proxy) -> subprocess.CompletedProcess[str]:
        return subprocess.run(proxy.check, env=proxy.environ, capture_output=True, text=True, timeout=20, check=False)

    def test_the_example_configuration_is_accepted_by_its_program(self, make: MakeProxy, tmp_path: Path) -> None:
        outcome = self.check(make(tmp_path, 8000))
        assert outcome.returncode == 0, outcome.stderr

    def test_a_misspelt_directive_in_the_configuration_is_rejected(self, make: MakeProxy, tmp_path: Path) -> None:
        proxy = make(tmp_path, 8000)
        word = SLIPS[proxy.name]
        proxy.file.write_text(proxy.file.read_text().replace(word, word[::-1]))
        assert self.check(proxy).returncode != 0


class TestStreams:
    async def test_each_delta_arrives_before_the_next_is_sent(
        self, http: aiohttp.ClientSession, bridge: RunningBridge, tmp_path: Path
    ) -> None:
        log = tmp_path / "log"
        read = [asyncio.Event() for _ in range(DELTAS)]

        async def script(_: Turn) -> AsyncIterator[Step]:
            await asyncio.sleep(THINKING_SECONDS)
            for number, event in enumerate(read):
                yield Line("a0", f"delta {number}")
                yield Until(event)
            yield Line("ad", {"finishReason": "stop"})

        bridge.arena.script = script
        body = b""
        async with await post(http, bridge.chat("hello", stream=True), bridge.key) as response:
            async with asyncio.timeout(SECONDS):
                for number, event in enumerate(read):
                    while f"delta {number}".encode() not in body:
                        data = await response.content.readany()
                        assert data, (response, body, log.read_text())
                        body += data
                    event.set()
                body += await response.content.read()
        assert frames(body)[-1] == DONE

    @pytest.mark.parametrize("begun", [False, True], ids=["before the first delta", "in the middle"])
    async def test_a_caller_that_disconnects_ends_its_upstream_call(
        self, http: aiohttp.ClientSession, bridge: RunningBridge, request_log: RequestLog, *, begun: bool
    ) -> None:
        asked = asyncio.Event()

        async def script(_: Turn) -> AsyncIterator[Step]:
            asked.set()
            await asyncio.sleep(THINKING_SECONDS)
            if begun:
                yield Line("a0", "a delta")
            yield Until(asyncio.Event())

        bridge.arena.script = script
        async with TaskOwner() as tasks, AsyncExitStack() as stack:
            call = tasks.spawn(post(http, bridge.chat("hello", stream=True), bridge.key), name="call")
            await asyncio.wait_for(asked.wait(), SECONDS)
            if begun:
                response = await stack.enter_async_context(await call)
                await response.content.readany()
            await http.close()  # like a crashed caller: the connection ends without a TLS close
            await nobody_returns(bridge)
        assert (await request_log.line(SECONDS))["reason"] == "client_gone"
        await asyncio.wait_for(bridge.arena.chats[-1].closed.wait(), SECONDS)

    async def test_a_stream_cut_by_a_killed_bridge_does_not_look_complete(
        self, make: MakeProxy, arena: Arena, tmp_path: Path
    ) -> None:
        home = Home(arena, tmp_path)
        await home.prepare()
        arena.script = Play()
        async with home.serve() as daemon:
            port = URL(daemon.origin).port
            assert port is not None
            async with serving(make(tmp_path, port), tmp_path) as http:
                body = {"model": chat_model(home), "messages": [{"role": "user", "content": "stuck"}], "stream": True}
                async with await post(http, body, home.secret) as response:
                    await response.content.readany()
                    daemon.signal(signal.SIGKILL)
                    # Caddy 2.6 ends the body properly nevertheless (see its example), but `[DONE]` is missing.
                    with pytest.raises(aiohttp.ClientPayloadError) if make is not caddy else nullcontext():
                        assert DONE not in await response.content.read()


class TestRequests:
    async def test_a_request_of_12_megabytes_reaches_the_bridge(
        self, http: aiohttp.ClientSession, bridge: RunningBridge
    ) -> None:
        """All of them arrive: the bridge, which accepts this size only for files, names the size in its refusal."""
        body = bridge.chat("x" * 12_000_000)
        async with await post(http, body, bridge.key) as response:
            assert response.status == 400
            message = (await response.json())["error"]["message"]
        assert f"{len(json.dumps(body)):,}".replace(",", "") in message

    async def test_an_oversized_request_is_refused_with_the_bridges_own_error(
        self, http: aiohttp.ClientSession, bridge: RunningBridge
    ) -> None:
        body = bridge.chat("hello", padding="x" * (32 * 1024 * 1024))
        async with await post(http, body, bridge.key) as response:
            assert response.status == 413
            assert (await response.json())["error"]["code"] == "request_too_large"

    async def test_forwarded_addresses_claimed_by_the_caller_are_replaced_by_the_proxy(
        self, make: MakeProxy, tmp_path: Path
    ) -> None:
        seen: list[Mapping[str, str]] = []

        async def see(request: web.BaseRequest) -> web.Response:
            if request.path == "/":  # HAProxy also requests /readyz
                seen.append(request.headers)
            return web.Response()

        claims = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "Host": "localhost"}
        async with RawTestServer(see) as server:
            assert server.port is not None
            async with serving(make(tmp_path, server.port), tmp_path) as http, http.get("/", headers=claims):
                pass
        (headers,) = seen
        names = ("Host", "X-Forwarded-For", "X-Forwarded-Proto")
        assert [headers[name] for name in names] == ["localhost", "127.0.0.1", "https"]


async def post(http: aiohttp.ClientSession, body: Mapping[str, object], key: str) -> aiohttp.ClientResponse:
    """POST a chat through a proxy."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return await http.post("/v1/chat/completions", data=BytesIO(json.dumps(body).encode()), headers=headers)
