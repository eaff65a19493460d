"""GET /livez and /readyz: only ok or not ok, for everybody; /readyz fails as soon as the daemon drains."""

from __future__ import annotations

from pathlib import Path

import pytest
from request_log import RequestLog
from running import RunningBridge, running_bridge

from handlers.request.appkeys import DRAIN
from upstream.arena import Arena

OK = (200, "ok\n")
NOT_OK = (503, "not ok\n")


async def probe(bridge: RunningBridge, path: str, method: str = "GET") -> tuple[int, str]:
    async with bridge.http.request(method, bridge.origin + path) as answer:
        assert answer.content_type == "text/plain"
        return answer.status, await answer.text()


async def listed(bridge: RunningBridge) -> None:
    """Wait until the list of models has been read, or reading it has failed."""
    await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_both_probes_are_ok_when_all_is_well(path: str, bridge: RunningBridge) -> None:
    await listed(bridge)
    assert await probe(bridge, path) == OK
    assert await probe(bridge, path, "HEAD") == (200, "")


async def test_the_daemon_is_live_but_not_ready_without_an_account(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", sessions=()) as bridge:
        await listed(bridge)
        assert await probe(bridge, "/livez") == OK
        assert await probe(bridge, "/readyz") == NOT_OK
        assert await probe(bridge, "/readyz", "HEAD") == (503, "")


async def test_readyz_has_the_status_code_of_health(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("challenge")
    for expected in (NOT_OK, OK):
        await (await bridge.post(bridge.chat("hi"))).read()
        assert await probe(bridge, "/readyz") == expected
        async with bridge.http.get(f"{bridge.origin}/health") as health:
            assert health.status == expected[0]


async def test_the_daemon_is_live_but_not_ready_during_a_drain(bridge: RunningBridge) -> None:
    await listed(bridge)
    bridge.app[DRAIN].begin()
    assert await probe(bridge, "/livez") == OK
    assert await probe(bridge, "/readyz") == NOT_OK
    async with bridge.http.get(f"{bridge.origin}/health") as other:
        assert other.status == 503
        assert (await other.json())["error"]["code"] == "overloaded"


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_the_probes_accept_get_and_head_only(path: str, bridge: RunningBridge) -> None:
    async with bridge.http.post(bridge.origin + path) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")


async def test_probes_do_not_fill_the_log(bridge: RunningBridge, request_log: RequestLog) -> None:
    for path in ("/livez", "/readyz", "/health"):
        await bridge.http.get(bridge.origin + path)
    await request_log.line()
    assert len(request_log.seen) == 1
