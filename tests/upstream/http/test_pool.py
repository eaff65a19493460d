"""Idle connections: which are reused, which are closed, and when."""

from __future__ import annotations

import asyncio

import pytest
from peer import OK, read, towards

from upstream.http import pool as pool_module
from upstream.http.connection import CLOSED_AT_ONCE


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request after another."""
    while await reader.read(65_536):
        writer.write(OK)


async def test_the_connection_used_last_is_reused_first() -> None:
    async with towards(answering) as (exchanges, origin):
        first, second = [await exchanges.request("GET", origin, "/", {}) for _ in range(2)]
        assert first.connection is not second.connection
        for response in second, first:
            await read(response)
        third, fourth = [await exchanges.request("GET", origin, "/", {}) for _ in range(2)]
        assert (third.connection, fourth.connection) == (first.connection, second.connection)
        for response in third, fourth:
            await read(response)
        assert len(exchanges.pool) == 2


async def test_a_released_connection_serves_another_request() -> None:
    async with towards(answering) as (exchanges, origin):
        first = await exchanges.request("GET", origin, "/", {})
        await read(first)
        second = await exchanges.request("GET", origin, "/", {})
        first.close()
        first.release()
        assert (len(exchanges.pool), second.connection.is_connected()) == (0, True)
        assert await read(second) == b"hi"


async def test_a_connection_that_the_site_closed_while_idle_is_not_reused() -> None:
    asked = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.write(OK)

    async with towards(once) as (exchanges, origin), asyncio.timeout(5):
        response = await exchanges.request("GET", origin, "/", {})
        await read(response)
        closed = asyncio.Event()
        response.connection.on_data = closed.set
        await closed.wait()
        assert await read(await exchanges.request("GET", origin, "/", {})) == b"hi"
        assert asked == 2


async def test_an_idle_connection_is_closed_after_its_keep_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "KEEPALIVE_SECONDS", 0.1)
    gone = asyncio.Semaphore(0)

    async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(reader, writer)
        gone.release()

    async with towards(until_closed) as (exchanges, origin), asyncio.timeout(5):
        used, spare = [await exchanges.request("GET", origin, "/", {}) for _ in range(2)]
        await read(spare)
        await gone.acquire()
        assert used.connection.is_connected()
        await read(used)
        await gone.acquire()
        assert len(exchanges.pool) == 0
        assert exchanges.pool.busy == 0


@pytest.mark.parametrize("closed", [False, True])
async def test_an_idle_connection_is_evicted_for_another_origin(closed: bool) -> None:
    leave = asyncio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await leave.wait()

    async with (
        towards(once, connections=2) as (exchanges, origin),
        towards(answering) as (_, other),
        asyncio.timeout(5),
    ):
        for response in [await exchanges.request("GET", origin, "/", {}) for _ in range(2)]:
            await read(response)
        assert len(exchanges.pool) == 2
        if closed:
            gone = asyncio.Event()
            response.connection.on_data = gone.set
            leave.set()
            await gone.wait()
        assert await read(await exchanges.request("GET", other, "/", {})) == b"hi"
        leave.set()


async def test_waiting_requests_get_the_connection_that_becomes_free() -> None:
    one = towards(answering, connections=1)
    async with one as (exchanges, origin), asyncio.timeout(4), asyncio.TaskGroup() as tasks:
        first = await exchanges.request("GET", origin, "/", {})
        waiting = [tasks.create_task(exchanges.request("GET", origin, "/", {})) for _ in range(2)]
        await asyncio.sleep(0)  # now they are waiting
        await read(first)
        for done in asyncio.as_completed(waiting):
            assert await read(await done) == b"hi"
        assert len(exchanges.pool) == 1


@pytest.mark.parametrize("got_its_place", [True, False])
async def test_a_cancelled_waiting_request_passes_its_place_to_the_next(got_its_place: bool) -> None:
    """It is cancelled in the iteration of the event loop in which a place becomes free: after that, or before."""
    async with (
        towards(answering, connections=1) as (exchanges, origin),
        asyncio.timeout(4),
        asyncio.TaskGroup() as tasks,
    ):
        first = await exchanges.request("GET", origin, "/", {})
        leaves, stays = [tasks.create_task(exchanges.request("GET", origin, "/", {})) for _ in range(2)]
        await asyncio.sleep(0)  # now they are waiting
        if got_its_place:
            await read(first)
            leaves.cancel()
        else:
            leaves.cancel()
            first.close()
        assert await read(await stays) == b"hi"
        assert leaves.cancelled()
        assert (len(exchanges.pool), exchanges.pool.busy) == (1, 0)


async def test_the_limit_of_connections_holds_although_calls_are_cancelled() -> None:
    """Sixty calls to two origins share three connections; a third of the calls are cancelled, at every stage."""
    async with (
        towards(answering, connections=3) as (exchanges, origin),
        towards(answering) as (_, other),
        asyncio.timeout(20),
        asyncio.TaskGroup() as tasks,
    ):

        async def call(number: int) -> bytes:
            response = await exchanges.request("GET", (origin, other)[number % 2], "/", {})
            assert exchanges.pool.busy + len(exchanges.pool) <= 3
            return await read(response)

        calls = [tasks.create_task(call(number)) for number in range(60)]
        for number, each in enumerate(calls):
            if number % 3 == 0:
                each.cancel()
                for _ in range(number % 7):
                    await asyncio.sleep(0)
        assert {await each for number, each in enumerate(calls) if number % 3} == {b"hi"}
        assert exchanges.pool.busy == 0


async def test_many_idle_connections_are_closed_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    many = 2 * CLOSED_AT_ONCE + 1
    async with towards(answering, connections=many) as (exchanges, origin), asyncio.timeout(20):
        for response in [await exchanges.request("GET", origin, "/", {}) for _ in range(many)]:
            await read(response)
        monkeypatch.setattr(pool_module, "KEEPALIVE_SECONDS", 0)
        left = []
        while exchanges.pool:
            exchanges.pool.on_timer()
            left.append(len(exchanges.pool))
        assert left == [CLOSED_AT_ONCE + 1, 1, 0]


async def test_closing_the_pool_closes_all_connections() -> None:
    gone = asyncio.Semaphore(0)

    async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answering(reader, writer)
        except ConnectionError:
            pass
        finally:
            gone.release()

    async with towards(until_closed) as (exchanges, origin):
        rests, runs = [await exchanges.request("GET", origin, "/", {}) for _ in range(2)]
        await read(rests)
    assert not exchanges.pool
    runs.release()  # has no effect any more
    async with asyncio.timeout(5):
        for _ in range(2):
            await gone.acquire()
