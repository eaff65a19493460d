"""Requests that arrive while the daemon stops: another process could have served them, so none may be refused.

Each test starts the stop at another step of the request, where the drain must still wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from caller import calling
from running import RunningBridge

from bridge.answering.prompting import request_tokens
from handlers.daemon.last_requests import take_last_requests
from handlers.daemon.listening import connections_of, stop_listening
from handlers.request.appkeys import DRAIN


class Ending:
    """Stops a bridge up to its drain, in one of `tasks`."""

    def __init__(self, bridge: RunningBridge, tasks: asyncio.TaskGroup) -> None:
        self._bridge = bridge
        self._tasks = tasks

    async def run(self) -> None:
        """Take the last requests, then begin to drain."""
        await take_last_requests(self._bridge.runner, self._bridge.listeners, lambda: True)
        self._bridge.app[DRAIN].begin()

    async def met(self, step: Callable[[], Awaitable[Any]]) -> Any:
        """Start the stop, let it check several times for requests that have not reached `step`, then take the step."""
        await asyncio.wait((self._tasks.create_task(self.run()),), timeout=0.1)
        return await step()


@pytest.fixture
async def ending(bridge: RunningBridge) -> AsyncIterator[Ending]:
    async with asyncio.TaskGroup() as tasks:
        yield Ending(bridge, tasks)


async def test_a_request_on_a_connection_accepted_during_the_stop_is_answered(
    bridge: RunningBridge, ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    make = loop.connect_accepted_socket

    async def slowly(*args: Any, **options: Any) -> Any:
        return await ending.met(lambda: make(*args, **options))

    async with calling(bridge.origin, bridge.key) as caller:
        async with bridge.http.get(f"{bridge.origin}/health") as response:
            await response.read()  # the caller has been accepted before this request
        await stop_listening(bridge.listeners)
        monkeypatch.setattr(loop, "connect_accepted_socket", slowly)
        await caller.ask(bridge.chat("hi"))
        assert b" 200 " in await caller.sees(b"\r\n")


async def test_a_request_that_waits_before_its_answer_begins_is_answered_during_the_stop(
    bridge: RunningBridge, ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request waits there while its tokens are counted in a thread, or its slot is claimed in Redis."""

    async def slowly(*args: Any) -> int:
        tokens: int = await ending.met(lambda: request_tokens(*args))
        return tokens

    monkeypatch.setattr("handlers.api.asking.request_tokens", slowly)
    async with await bridge.post(bridge.chat("hi")) as response:
        assert response.status == 200, await response.text()


async def test_a_request_read_from_a_kept_alive_connection_is_answered_during_the_stop(
    bridge: RunningBridge, ending: Ending
) -> None:
    async with calling(bridge.origin, bridge.key) as caller:
        request = f"GET /v1/models HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {bridge.key}\r\n\r\n".encode()
        caller.writer.write(request)
        await caller.sees(b"]}")
        (connection,) = connections_of(bridge.runner)
        seen = [connection.has_unhandled_request]
        connection.data_received(request)
        assert [*seen, connection.has_unhandled_request] == [False, True]
        await ending.run()
        assert b" 200 " in await caller.sees(b"\r\n")
