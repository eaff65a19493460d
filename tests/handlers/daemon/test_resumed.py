"""A process that was frozen for longer than idle connections are kept reads what has arrived before closing any."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from caller import Caller, calling
from running import running_bridge

from handlers.daemon import accepting, connection, pending_connections
from upstream.arena import Arena

#: How long connections are kept, and how long the process is frozen, in seconds.
KEPT_SECONDS = 0.5
FROZEN_SECONDS = 1.0


def freeze() -> None:
    time.sleep(FROZEN_SECONDS)


async def is_answered(caller: Caller) -> bool:
    return b" 200 " in await caller.sees(b"\r\n")


@pytest.mark.parametrize("used", [True, False], ids=["reused", "new"])
async def test_a_request_that_arrived_while_the_process_was_frozen_is_answered(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    monkeypatch.setattr(connection, "KEEPALIVE_SECONDS", KEPT_SECONDS)
    monkeypatch.setattr(accepting, "KEEPALIVE_SECONDS", KEPT_SECONDS)
    monkeypatch.setattr(pending_connections, "_SWEEP_SECONDS", KEPT_SECONDS)
    async with running_bridge(arena, tmp_path) as bridge, calling(bridge.origin, bridge.key) as caller:
        if used:
            await caller.ask(bridge.chat("hello", stream=True))
            assert await is_answered(caller)
            await caller.sees(b"\r\n0\r\n\r\n")
        await caller.ask(bridge.chat("hello again"))
        freeze()
        assert await is_answered(caller)
