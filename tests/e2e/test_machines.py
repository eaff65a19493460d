"""Two machines behind nginx or HAProxy, with the example configurations in systemd/."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import pytest
from aiohttp import ServerDisconnectedError, web
from aiohttp.test_utils import RawTestServer
from proxies import Proxy, haproxy, nginx_of_machines, serving

Balancer: TypeAlias = Callable[[Path, int, int], Proxy]
REQUESTS = 20


@pytest.mark.parametrize("make", [nginx_of_machines, haproxy], ids=["nginx", "haproxy"])
async def test_requests_are_spread_over_two_machines_and_none_fails_when_one_is_gone(
    make: Balancer, tmp_path: Path
) -> None:
    served: Counter[str] = Counter()

    def machine(name: str) -> RawTestServer:
        async def serve(request: web.BaseRequest) -> web.Response:
            served[name] += request.path != "/readyz"
            await request.read()
            return web.Response(text=name)

        return RawTestServer(serve)

    async with machine("one") as one:
        two = machine("two")
        await two.start_server()
        assert one.port is not None
        assert two.port is not None
        async with serving(make(tmp_path, one.port, two.port), tmp_path) as http:

            async def ask() -> None:
                async with http.post("/v1/chat/completions", data=b"{}") as response:
                    assert response.status == 200, await response.text()

            for _ in range(REQUESTS):
                await ask()
            assert served["one"] == served["two"] == REQUESTS / 2
            await two.close()
            for _ in range(REQUESTS):
                await ask()
            assert served == {"one": 3 * REQUESTS / 2, "two": REQUESTS / 2}
            async with http.get("/metrics") as response:
                assert response.status == 404  # each machine has its own metrics


@pytest.mark.parametrize("make", [nginx_of_machines, haproxy], ids=["nginx", "haproxy"])
async def test_after_workers_of_both_have_died_the_next_request_is_served(make: Balancer, tmp_path: Path) -> None:
    """Only the pending requests of dead workers fail: the other workers serve, and dead ones are restarted at once."""

    async def serve(request: web.BaseRequest) -> web.Response:
        if await request.read() == b"die" and request.transport is not None:
            request.transport.abort()
        return web.Response()

    async with RawTestServer(serve) as one, RawTestServer(serve) as two:
        assert one.port is not None
        assert two.port is not None
        async with serving(make(tmp_path, one.port, two.port), tmp_path) as http:

            async def status(body: bytes) -> int:
                async with http.post("/v1/chat/completions", data=body) as response:
                    return response.status

            for _ in range(2 * REQUESTS):
                with suppress(ServerDisconnectedError):  # HAProxy just disconnects if it had reused the connection
                    assert await status(b"die") == 502
            assert {await status(b"{}") for _ in range(REQUESTS)} == {200}
