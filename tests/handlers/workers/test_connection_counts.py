"""Connections of several workers: one that is far ahead leaves new ones to the others, unless those hang."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from polling import until

from handlers.daemon import accepting
from handlers.daemon.accepting import CallerConnection, Listener
from handlers.daemon.connection_limits import ConnectionLimits
from handlers.workers.connection_counts import MARGIN, ConnectionCounts

CONNECTIONS = st.integers(0, 10_000)


@a_share(of=10)
@given(st.lists(CONNECTIONS | st.none(), min_size=1, max_size=8))
def test_a_worker_is_ahead_if_it_exceeds_the_fewest_connections_by_the_margin(counts: list[int | None]) -> None:
    descriptor = ConnectionCounts.create(len(counts))
    parents, workers = ConnectionCounts(os.dup(descriptor)), [ConnectionCounts(os.dup(descriptor)) for _ in counts]
    os.close(descriptor)
    for number, (connection_counts, each) in enumerate(zip(workers, counts, strict=True), start=1):
        connection_counts.set(number, each or 0)
        if each is None:
            parents.clear(number)  # its process has ended
    serving = [each for each in counts if each is not None]
    for number, each in enumerate(counts, start=1):
        if each is not None:
            assert workers[-1].is_ahead(number) == (each > min(serving) + MARGIN)


def test_a_worker_that_has_not_started_is_not_compared() -> None:
    connection_counts = ConnectionCounts(ConnectionCounts.create(2))
    connection_counts.set(1, 100)
    assert not connection_counts.is_ahead(1)
    connection_counts.set(2, 0)
    assert connection_counts.is_ahead(1)


class Accepted(CallerConnection):
    """A connection from which nothing is read."""

    def evict(self) -> None:
        raise AssertionError("there is room")


@asynccontextmanager
async def listening(should_yield: Callable[[int], bool]) -> AsyncIterator[tuple[tuple[str, int], Listener]]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        connection_limits = ConnectionLimits(1000, asyncio.get_running_loop().time)
        listener = Listener(sock, connection_limits, Accepted, None, should_yield=should_yield)
        try:
            yield sock.getsockname(), listener
        finally:
            listener.close()


async def test_a_worker_ahead_of_the_others_accepts_only_some_connections_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accepting, "_YIELD_SECONDS", 0.05)
    asked: list[int] = []

    def should_yield(connections: int) -> bool:
        asked.append(connections)
        return True

    async with listening(should_yield) as (address, listener):
        with ExitStack() as callers:
            for _ in range(2 * accepting._YIELD_CONNECTIONS):
                callers.enter_context(socket.create_connection(address))
            loop = asyncio.get_running_loop()
            began = loop.time()
            await until(lambda: bool(asked))
            assert listener.pending == 0  # the connections are left to other workers
            await until(lambda: listener.pending > 0)
            assert loop.time() - began >= 0.05
            assert listener.pending == accepting._YIELD_CONNECTIONS  # some are taken, and the rest are left again
            await until(lambda: listener.pending == 2 * accepting._YIELD_CONNECTIONS)
            assert loop.time() - began >= 0.1


async def test_a_worker_that_is_not_ahead_accepts_all_connections() -> None:
    async with listening(lambda connections: connections >= 100) as (address, listener):
        with ExitStack() as callers:
            for _ in range(20):
                callers.enter_context(socket.create_connection(address))
            await until(lambda: listener.pending == 20)


async def test_the_count_of_connections_is_reported_when_one_ends() -> None:
    connection_limits = ConnectionLimits(1000, asyncio.get_running_loop().time)
    told: list[int] = []
    connection_limits.on_removed = told.append
    connections = [Accepted(), Accepted()]
    for each in connections:
        connection_limits.add(each)
    connection_limits.mark_authenticated(connections[0])
    for each in connections:
        connection_limits.remove(each)
    assert told == [1, 0]
