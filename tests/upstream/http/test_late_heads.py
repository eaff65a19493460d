"""After a caller has left, the head of the response is still read for a short time, for its cookie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from asking import Asker, connected
from multidict import CIMultiDict
from peer import towards
from polling import until

from upstream.arena import Arena, Session
from upstream.http.exchange import OUTLIVE_SECONDS
from upstream.http.exchange_types import NoAnswerInTime
from upstream.protocol.errors import TimedOut, UpstreamError

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

STATUSES = (
    "200 OK",
    "401 Unauthorized",
    "429 Too Many Requests",
    "404 Not Found",
    "503 Service Unavailable",
    "307 Temporary Redirect",
)


@dataclass
class Site:
    """Accepts requests, and answers on demand; `left` is set when the caller has closed the connection."""

    answer: bytes
    came: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.came.set()
        await self.go.wait()
        with suppress(ConnectionError):
            for at in range(0, len(self.answer), 7):  # a head may arrive in pieces
                writer.write(self.answer[at : at + 7])
                await asyncio.sleep(0)
            await reader.read()
        self.left.set()


def answer(status: str, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", "Set-Cookie: a=new", *headers, "Content-Length: 2", "", "hi")
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize("status", STATUSES)
async def test_the_response_head_is_read_after_the_caller_has_left(status: str) -> None:
    site, heard = Site(answer(status)), asyncio.Queue[CIMultiDict[str]]()
    async with towards(site) as (exchanges, origin), asyncio.timeout(5):
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(exchanges.request("POST", origin, "/", {}, b"{}", on_head=heard.put_nowait))
            await site.came.wait()
            call.cancel()
        assert call.cancelled()  # immediately
        site.go.set()
        assert (await heard.get())["Set-Cookie"] == "a=new"
        await site.left.wait()  # the body is not needed
        assert (len(exchanges.pool), exchanges.pool.busy) == (0, 0)
    assert heard.empty()


async def test_the_response_head_is_read_after_the_deadline() -> None:
    site, heard = Site(answer("200 OK")), asyncio.Queue[CIMultiDict[str]]()
    async with towards(site) as (exchanges, origin), asyncio.timeout(5):
        deadline = asyncio.get_running_loop().time() + 0.01
        with pytest.raises(NoAnswerInTime):
            await exchanges.request("POST", origin, "/", {}, b"{}", deadline, on_head=heard.put_nowait)
        site.go.set()
        assert (await heard.get())["Set-Cookie"] == "a=new"
        await site.left.wait()


@pytest.mark.parametrize(
    "begins", [b"", b"HTTP/1.1 200 OK\r\nSet-Cookie: a=n", b"HTTP/1.1 103 Early Hints\r\nSet-Cookie: a=no\r\n\r\n"]
)
async def test_the_wait_for_a_late_head_is_bounded(begins: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upstream.http.exchange.OUTLIVE_SECONDS", 0.05)
    assert OUTLIVE_SECONDS < 1
    site, heard = Site(begins), asyncio.Queue[CIMultiDict[str]]()
    site.go.set()
    async with towards(site) as (exchanges, origin), asyncio.timeout(5):
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(exchanges.request("POST", origin, "/", {}, b"{}", on_head=heard.put_nowait))
            await site.came.wait()
            call.cancel()
        await site.left.wait()
        assert exchanges.pool.busy == 0
    assert heard.empty()


async def test_an_invalid_late_head_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upstream.http.exchange.OUTLIVE_SECONDS", 60.0)
    site, heard = Site(b"no HTTP at all\r\n\r\n"), asyncio.Queue[CIMultiDict[str]]()
    async with towards(site) as (exchanges, origin), asyncio.timeout(5):
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(exchanges.request("POST", origin, "/", {}, b"{}", on_head=heard.put_nowait))
            await site.came.wait()
            call.cancel()
        site.go.set()
        await site.left.wait()
    assert heard.empty()


async def test_the_connection_of_a_cancelled_call_without_on_head_is_closed_at_once() -> None:
    site = Site(answer("200 OK"))
    async with towards(site) as (exchanges, origin), asyncio.timeout(5):
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(exchanges.request("GET", origin, "/", {}))
            await site.came.wait()
            call.cancel()
        site.go.set()
        await site.left.wait()


async def test_shutdown_waits_for_late_heads() -> None:
    site, heard = Site(answer("200 OK")), asyncio.Queue[CIMultiDict[str]]()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        async with towards(site) as (exchanges, origin):
            call = tasks.create_task(exchanges.request("POST", origin, "/", {}, b"{}", on_head=heard.put_nowait))
            await site.came.wait()
            call.cancel()
            await asyncio.wait((call,))
            asyncio.get_running_loop().call_later(0.02, site.go.set)
        assert heard.get_nowait()["Set-Cookie"] == "a=new"


async def test_the_wait_for_late_heads_at_shutdown_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upstream.http.exchange.OUTLIVE_SECONDS", 60.0)
    monkeypatch.setattr("upstream.http.exchange.FINISH_SECONDS", 0.02)
    site, heard = Site(b""), asyncio.Queue[CIMultiDict[str]]()
    site.go.set()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        async with towards(site) as (exchanges, origin):
            call = tasks.create_task(exchanges.request("POST", origin, "/", {}, b"{}", on_head=heard.put_nowait))
            await site.came.wait()
            call.cancel()
        await site.left.wait()
    assert heard.empty()


# --- through the client ---

CALLS: Mapping[str, Callable[[Asker, float], Awaitable[object]]] = {
    "create": lambda asker, timeout: asker.open(timeout=timeout),
    "me": lambda asker, timeout: asker.client.me(asker.credentials, timeout=timeout),
}


@dataclass
class Late:
    """An arena whose answers rotate the cookie, and are held back until `release` is set."""

    arena: Arena
    asker: Asker
    session: Session
    release: asyncio.Event

    async def begun(self) -> None:
        await until(lambda: self.arena.calls)

    async def rotated(self) -> None:
        await until(lambda: self.asker.rotations)
        assert self.asker.credentials.session == self.session.cookie_value
        assert self.asker.rotations == [self.session.cookie_value]


@asynccontextmanager
async def late(arena: Arena, kind: str, *, pieces: bool = False) -> AsyncIterator[Late]:
    release = asyncio.Event()
    async with connected(arena.origin) as client, asyncio.timeout(5):
        asker = Asker(arena, client, session := arena.sign_in())
        arena.rotate(session, pieces=pieces)
        arena.faults.arm("no_headers", on=kind, release=release)
        yield Late(arena, asker, session, release)


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    async with Arena() as arena:
        yield arena


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "pieces"])
@pytest.mark.parametrize("kind", ["create", "me"])
async def test_a_cookie_is_kept_although_its_caller_has_left(arena: Arena, kind: str, pieces: bool) -> None:
    async with late(arena, kind, pieces=pieces) as site:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(_awaited(CALLS[kind](site.asker, 5.0)))
            await site.begun()
            call.cancel()
        site.release.set()
        await site.rotated()


@pytest.mark.parametrize("kind", ["create", "me"])
async def test_a_cookie_is_kept_although_its_call_has_timed_out(arena: Arena, kind: str) -> None:
    async with late(arena, kind) as site:
        with pytest.raises(TimedOut):
            await CALLS[kind](site.asker, 0.02)
        site.release.set()
        await site.rotated()


async def test_a_cookie_is_kept_although_the_client_shuts_down(arena: Arena) -> None:
    async with late(arena, "create") as site:
        async with connected(arena.origin) as client:
            other = Asker(arena, client, site.session)
            async with asyncio.TaskGroup() as tasks:
                call = tasks.create_task(_awaited(other.open()))
                await site.begun()
                call.cancel()
            asyncio.get_running_loop().call_later(0.02, site.release.set)
        assert other.rotations == [site.session.cookie_value]


REFUSALS = ("expired", "rate_limited", "recaptcha", "moderated", "server_error", "not_found", "evaluation_gone")


@pytest.mark.parametrize("fault", REFUSALS)
async def test_a_cookie_of_a_refusal_is_kept(arena: Arena, fault: str) -> None:
    async with connected(arena.origin) as client:
        asker = Asker(arena, client, session := arena.sign_in())
        arena.rotate(session)
        arena.faults.arm(fault)
        with pytest.raises(UpstreamError):
            await asker.open()
        assert asker.rotations == [session.cookie_value]


async def _awaited(call: Awaitable[object]) -> object:
    return await call
