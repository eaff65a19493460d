"""Thread pools are bounded, separate from each other, and not waited for at exit."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, NoReturn

import pytest
from daemon import ROOT

from upstream.fetch import FetchRefused, open_fetcher
from upstream.http.exchange import open_exchanges
from upstream.http.exchange_types import NotSent
from upstream.http.resolver import MAX_CACHED, Resolver
from upstream.loop.threads import Threads
from upstream.loop.timers import Timers

PATIENCE = 10.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event for which work waits; it is set after the test, so that no thread remains."""
    gate = threading.Event()
    yield gate
    gate.set()


async def test_work_in_a_thread_gets_its_arguments_and_context_and_returns_its_outcome() -> None:
    threads = Threads("test", 1)
    name: ContextVar[str] = ContextVar("name")
    name.set("a request")
    outcome = await threads.run(lambda *args, **kwargs: (args, kwargs, name.get()), 1, b=2)
    assert outcome == ((1,), {"b": 2}, "a request")
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)


class Argument:
    """An object that supports weak references."""


@pytest.mark.parametrize("as_executor", [False, True], ids=["run", "executor"])
async def test_failed_work_in_a_thread_keeps_no_arguments(as_executor: bool) -> None:
    """A request's body of 30 MB, or data that a full disk refused, would stay until a full garbage collection."""
    threads = Threads("test", 1)

    def work(_: Argument) -> NoReturn:
        raise ZeroDivisionError

    gc.collect()
    gc.disable()
    try:
        argument = Argument()
        kept = weakref.ref(argument)
        with suppress(ZeroDivisionError):  # pytest would keep the error
            if as_executor:  # as aiofiles calls it
                await asyncio.get_running_loop().run_in_executor(threads, work, argument)
            else:
                await threads.run(work, argument)
        del argument
        assert threads.wait_until_idle(PATIENCE)
        await asyncio.sleep(0)
        assert kept() is None
    finally:
        gc.enable()


async def test_the_number_of_threads_is_limited(gate: threading.Event) -> None:
    threads = Threads("test", 3)
    running: list[str] = []

    def work() -> None:
        running.append(threading.current_thread().name)
        gate.wait(PATIENCE)

    calls = [threads.submit(work) for _ in range(10)]
    assert not threads.wait_until_idle(0.05)
    assert len(running) == 3
    gate.set()
    assert threads.wait_until_idle(PATIENCE)
    assert [call.result() for call in calls] == [None] * 10


async def test_cancelled_work_is_skipped_by_the_threads(gate: threading.Event) -> None:
    threads = Threads("test", 1)
    done: list[int] = []
    first = threads.submit(gate.wait, PATIENCE)
    tasks = [asyncio.get_running_loop().create_task(threads.run(done.append, number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait([tasks[1]])
    gate.set()
    await asyncio.gather(tasks[0], tasks[2])
    assert (first.result(), done) == (True, [0, 2])


async def test_a_closed_thread_pool_accepts_no_more_work(gate: threading.Event) -> None:
    threads = Threads("test", 1)
    kept = threads.submit(gate.wait, PATIENCE)
    threads.shutdown()
    with pytest.raises(RuntimeError, match="test are closed"):
        threads.submit(print)
    gate.set()
    assert kept.result(PATIENCE) is True
    threads.shutdown(wait=True)


@pytest.mark.parametrize("queued", [0, 1, 100], ids=["running", "one queued", "many queued"])
def test_a_process_exits_without_waiting_for_threads(queued: int) -> None:
    program = f"""
import asyncio, time
from upstream.loop.threads import Threads
threads = Threads("test", 1)
async def main():
    calls = [asyncio.ensure_future(threads.run(time.sleep, 3600)) for _ in range({queued} + 1)]
    await asyncio.sleep(0.05)
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


class StalledNames:
    """Makes some lookups wait for a gate; all others are real."""

    def __init__(self, gate: threading.Event) -> None:
        self.asked: list[str] = []
        self._gate = gate
        self._began = threading.Event()
        self._real = socket.getaddrinfo

    async def asked_for_one(self) -> None:
        """Wait until a lookup is blocked."""
        assert await Threads("test", 1).run(self._began.wait, PATIENCE)

    def __call__(self, host: str, *args: Any, **kwargs: Any) -> object:
        if not host.endswith(".test"):
            return self._real(host, *args, **kwargs)
        self.asked.append(host)
        self._began.set()
        self._gate.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.fixture
def names(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> StalledNames:
    names = StalledNames(gate)
    monkeypatch.setattr(socket, "getaddrinfo", names)
    return names


def refuse(*_: object) -> NoReturn:
    raise AssertionError("the default executor was used")


class TestResolver:
    async def test_the_resolver_finds_the_addresses_of_a_name(self) -> None:
        resolver = Resolver(1)
        found = await resolver.resolve("localhost", 80)
        assert {address[:2] for *_, address in found} <= {("127.0.0.1", 80), ("::1", 80)}
        assert {kind for _, kind, *_ in found} == {socket.SOCK_STREAM}
        await resolver.close()

    async def test_the_resolver_raises_an_error_for_an_unknown_name(
        self, names: StalledNames, gate: threading.Event
    ) -> None:
        gate.set()
        with pytest.raises(socket.gaierror):
            await Resolver(1).resolve("nobody.test", 80)
        assert names.asked == ["nobody.test"]

    @pytest.mark.parametrize("stalled", [1, 6, 40])
    async def test_stalled_fetches_leave_the_default_executor_alone(
        self, names: StalledNames, gate: threading.Event, stalled: int
    ) -> None:
        async with open_fetcher(connect_timeout=PATIENCE) as fetcher, asyncio.TaskGroup() as tasks:
            fetches = [
                tasks.create_task(self.refused(fetcher.fetch(f"http://n{n}.test/", limit_bytes=1, timeout=PATIENCE)))
                for n in range(stalled)
            ]
            await names.asked_for_one()
            assert await asyncio.to_thread(lambda: "at once") == "at once"
            gate.set()
            await asyncio.gather(*fetches)

    async def refused(self, fetch: Any) -> None:
        with pytest.raises(FetchRefused):
            await fetch

    async def test_the_site_is_looked_up_without_the_default_executor(
        self, names: StalledNames, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", self.own_executor)
        async with open_exchanges(10, PATIENCE, Timers()) as exchanges:
            asking = asyncio.get_running_loop().create_task(exchanges.request("GET", "http://site.test", "/", {}))
            await names.asked_for_one()
            gate.set()
            with pytest.raises(NotSent, match="cannot be resolved"):
                await asking

    def own_executor(self, executor: Threads | None, function: Any, *args: object) -> asyncio.Future[Any]:
        assert isinstance(executor, Threads)
        return asyncio.wrap_future(executor.submit(function, *args))

    async def test_cancelled_lookups_of_names_are_abandoned(self, names: StalledNames) -> None:
        resolver = Resolver(1)
        lookups = [asyncio.get_running_loop().create_task(resolver.resolve(f"n{n}.test", 80)) for n in range(3)]
        await names.asked_for_one()
        for lookup in lookups:
            lookup.cancel()
        await asyncio.wait(lookups)
        await resolver.close()
        assert names.asked == ["n0.test"]

    async def test_the_resolver_looks_up_a_cached_name_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []

        def look_up(host: str, port: int, **_: object) -> object:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("192.0.2.1", port))]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        resolver = Resolver(2, cache_seconds=60.0)
        found = await asyncio.gather(*(resolver.resolve("site.test", 443) for _ in range(5)))
        assert await resolver.resolve("site.test", 443) == found[0]
        assert asked == ["site.test"]
        for number in range(MAX_CACHED):
            await resolver.resolve(f"n{number}.test", 443)
        await resolver.resolve("site.test", 443)  # it was evicted by the many others
        assert asked.count("site.test") == 2
        await resolver.close()

    async def test_a_failed_lookup_is_shared_and_not_cached(self, names: StalledNames, gate: threading.Event) -> None:
        resolver = Resolver(1, cache_seconds=60.0)
        lookups = [asyncio.get_running_loop().create_task(resolver.resolve("site.test", 443)) for _ in range(3)]
        await names.asked_for_one()
        lookups[0].cancel()  # the others keep waiting
        gate.set()
        outcomes = await asyncio.gather(*lookups, return_exceptions=True)
        assert list(map(type, outcomes)) == [asyncio.CancelledError, socket.gaierror, socket.gaierror]
        assert names.asked == ["site.test"]
        with pytest.raises(socket.gaierror):
            await resolver.resolve("site.test", 443)
        assert names.asked == ["site.test"] * 2
        await resolver.close()
