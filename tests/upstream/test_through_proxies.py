"""Calls through real proxies (microsocks, tinyproxy) to a site over TLS: the result, and what the proxy sees."""

from __future__ import annotations

import asyncio
import ssl
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from asking import Asker, connected
from certificates import server_context
from forward_proxies import Tap, closed_port, microsocks, tapped, tinyproxy
from peer import pool_of
from tls_memory import END_BYTES, tls_memory

from upstream.arena import Arena, Line, Step, Turn, Until
from upstream.client import ArenaClient
from upstream.http.proxies import DIRECT, Proxies
from upstream.http.tls_buffers import BUFFER_BYTES
from upstream.http.trust import system_context
from upstream.protocol.errors import Unreachable
from upstream.protocol.events import Finish, TextDeltas
from upstream.protocol.files import File
from upstream.storage import open_storage

USER, PASSWORD = "ada", "s3cret-w0rd"
STREAMS = 4
SCHEMES = ("socks5", "socks5h", "http", "https")


@dataclass
class Wired:
    """A site over TLS behind `front`, and a proxy behind `tap`, which records what the proxy sees."""

    scheme: str
    arena: Arena
    front: Tap
    tap: Tap
    tls: ssl.SSLContext

    def url(self, user: str = USER, password: str = PASSWORD) -> str:
        """The proxy's URL for `upstream.proxy`."""
        return f"{self.scheme}://{user}:{password}@localhost:{self.tap.port}"

    @asynccontextmanager
    async def client(self, proxies: Proxies) -> AsyncIterator[ArenaClient]:
        async with connected(self.arena.origin, proxies=proxies, idle_timeout=20.0) as client:
            yield client

    @asynccontextmanager
    async def asker(self, url: str = "") -> AsyncIterator[Asker]:
        async with self.client(Proxies.from_setting(url or self.url(), {})) as client:
            yield Asker(self.arena, client, self.arena.sign_in())


@pytest.fixture(autouse=True)
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trust the site's own certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    system_context.cache_clear()
    yield
    system_context.cache_clear()


@asynccontextmanager
async def wiring(scheme: str, folder: Path) -> AsyncIterator[Wired]:
    context = server_context(folder)
    async with AsyncExitStack() as stack:
        arena = await stack.enter_async_context(Arena())
        front = await stack.enter_async_context(tapped(urlsplit(arena.origin).port or 0, context))
        arena.origin = f"https://localhost:{front.port}"
        running = microsocks(USER, PASSWORD) if "socks" in scheme else tinyproxy(USER, PASSWORD, folder)
        proxy = await stack.enter_async_context(running)
        tap = await stack.enter_async_context(tapped(proxy, context if scheme == "https" else None))
        yield Wired(scheme, arena, front, tap, context)


@pytest.fixture(params=SCHEMES)
async def wired(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Wired]:
    async with wiring(request.param, tmp_path) as wired, asyncio.timeout(60):
        yield wired


@pytest.fixture
async def socks(tmp_path: Path) -> AsyncIterator[Wired]:
    async with wiring("socks5h", tmp_path) as wired, asyncio.timeout(60):
        yield wired


async def test_a_stream_arrives_delta_by_delta_through_a_proxy(wired: Wired) -> None:
    """Each delta is read before the site sends the next."""
    words = ["one ", "two ", "three"]
    taken = [asyncio.Event() for _ in words]

    async def script(_: Turn) -> AsyncIterator[Step]:
        for word, event in zip(words, taken, strict=True):
            yield Line("a0", word)
            yield Until(event)
        yield Line("ad", {"finishReason": "stop"})

    wired.arena.script = script
    async with wired.asker() as asker:
        answer = await asker.open(timeout=20.0)
        for word, event in zip(words, taken, strict=True):
            (delta,) = await answer.read()
            assert isinstance(delta, TextDeltas)
            assert delta.text == word
            event.set()
        assert isinstance((await answer.read())[-1], Finish)
        await answer.aclose()


async def test_open_streams_have_small_tls_buffers(wired: Wired) -> None:
    """These are the buffers in the tunnel and, for a proxy that speaks TLS itself, those of the outer connection."""

    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "one")
        yield Until(asyncio.Event())

    wired.arena.script = script
    ends = 2 * STREAMS * (2 if wired.scheme == "https" else 1)
    async with wired.asker() as asker:
        with tls_memory() as allocated:
            answers = [await asker.open(timeout=20.0) for _ in range(STREAMS)]
            for answer in answers:
                await answer.read()
            assert ends * BUFFER_BYTES / 2 < allocated() <= ends * END_BYTES
        for answer in answers:
            await answer.aclose()


async def test_a_tunnel_through_a_proxy_is_reused(wired: Wired) -> None:
    async with wired.asker() as asker:
        for _ in range(3):
            assert isinstance((await asker.ask(timeout=20.0))[-1], Finish)
        assert len(pool_of(asker.client)) == 1
    assert (wired.tap.connections, wired.front.connections) == (1, 1)


async def test_the_proxy_does_not_see_the_cookie(wired: Wired) -> None:
    """That it sees its own user name, and that there are cookies inside TLS, proves that the taps record correctly."""
    async with wired.asker() as asker:
        await asker.ask(asker.create("/say a secret word"), timeout=20.0)
        cookie = asker.credentials.session.encode()
    inside = wired.front.sent
    assert cookie[:100] in inside
    assert b"a secret word" in inside
    seen = bytes(wired.tap.sent + wired.tap.received)
    assert USER.encode() in seen or b"Proxy-Authorization: Basic" in seen
    for secret in (cookie[:100], b"Cookie", b"cf_clearance", b"a secret word", b"a browser's"):
        assert secret not in seen


@pytest.mark.parametrize("wired", ["socks5", "socks5h", "http"], indirect=True)
async def test_the_proxy_resolves_the_sites_name_unless_its_scheme_is_socks5(wired: Wired) -> None:
    async with wired.asker() as asker:
        await asker.ask(timeout=20.0)
    asked_of_proxy, *_ = wired.tap.sent.split(b"\x16\x03")  # before the TLS handshake, which has the name too
    assert (b"localhost" in asked_of_proxy) is (wired.scheme != "socks5")


async def test_files_are_uploaded_and_downloaded_through_a_proxy(wired: Wired) -> None:
    """A file too large for one write, over TLS in the tunnel."""
    data = bytes(range(256)) * 8192
    stored: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"PUT"):
            stored.append(await reader.readexactly(len(data)))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(data) + data)
        await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as server,
        tapped(server.sockets[0].getsockname()[1], wired.tls) as front,
        wired.client(Proxies.from_setting(wired.url(), {})) as client,
        open_storage(client.settings, connections=2) as store,
    ):
        url = f"https://localhost:{front.port}/bucket/key?X-Signature=a%2Fb"
        assert await store.put(url, File(data, "image/png", "0" * 64, "a.png"))
        assert await store.get(url, len(data)) == data
    assert stored == [data]
    assert wired.tap.connections >= 1
    assert b"/bucket/key?X-Signature=a%2Fb" in front.sent
    assert b"X-Signature" not in wired.tap.sent


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong-w0rd"), ("nobody", PASSWORD)])
async def test_a_wrong_password_is_reported_as_the_proxys_refusal(wired: Wired, user: str, password: str) -> None:
    async with wired.asker(wired.url(user, password)) as asker:
        with pytest.raises(Unreachable) as caught:
            await asker.ask(timeout=20.0)
    assert f"proxy at localhost:{wired.tap.port} refused: " in caught.value.message
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert password not in told
    assert f"{user}:" not in told
    assert not wired.arena.calls
    assert pool_of(asker.client).busy == 0


async def test_a_missing_password_is_reported_as_the_proxys_refusal(wired: Wired) -> None:
    async with wired.asker(f"{wired.scheme}://localhost:{wired.tap.port}") as asker:
        with pytest.raises(Unreachable, match=r"proxy at localhost:\d+ refused: "):
            await asker.ask(timeout=20.0)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_the_error_for_an_unreachable_proxy_names_the_proxy(arena: Arena, scheme: str) -> None:
    port = closed_port()
    proxies = Proxies.from_setting(f"{scheme}://{USER}:{PASSWORD}@127.0.0.1:{port}", {})
    async with connected("https://127.0.0.1:1", proxies=proxies) as client:
        with pytest.raises(Unreachable) as caught:
            await Asker(arena, client, arena.sign_in()).ask()
    name = "SOCKS5" if "socks" in scheme else scheme.upper()
    assert f"the {name} proxy at 127.0.0.1:{port} cannot be reached: connection refused" in caught.value.message
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


async def test_a_host_that_the_proxy_cannot_reach_is_reported(wired: Wired) -> None:
    origin = f"https://localhost:{closed_port()}"
    async with connected(origin, proxies=Proxies.from_setting(wired.url(), {})) as client:
        with pytest.raises(Unreachable, match=r"proxy at localhost:\d+ refused: "):
            await Asker(wired.arena, client, wired.arena.sign_in()).ask(timeout=20.0)


@pytest.mark.parametrize("wired", ["socks5", "socks5h", "http"], indirect=True)
async def test_a_site_with_an_untrusted_certificate_is_refused(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    system_context.cache_clear()
    async with wired.asker() as asker:
        with pytest.raises(Unreachable, match="its TLS certificate"):
            await asker.ask(timeout=20.0)
    assert not wired.arena.calls


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_proxy_named_in_the_environment_is_used(socks: Wired, variable: str) -> None:
    async with socks.client(Proxies.from_setting("", {variable: socks.url()})) as client:
        await Asker(socks.arena, client, socks.arena.sign_in()).ask(timeout=20.0)
        assert client.route == f"through the SOCKS5 proxy at localhost:{socks.tap.port} ({variable})"
    assert socks.tap.connections == 1


@pytest.mark.parametrize("exempt", ["localhost", "*", "example.org, .localhost"])
async def test_a_site_listed_in_the_variable_no_proxy_is_called_directly(socks: Wired, exempt: str) -> None:
    environ = {"HTTPS_PROXY": socks.url(), "NO_PROXY": exempt}
    async with socks.client(Proxies.from_setting("", environ)) as client:
        await Asker(socks.arena, client, socks.arena.sign_in()).ask(timeout=20.0)
        assert client.route == ""
    assert (socks.tap.connections, socks.front.connections) == (0, 1)


async def test_the_setting_none_disables_the_environments_proxy(socks: Wired) -> None:
    async with socks.client(Proxies.from_setting("none", {"ALL_PROXY": socks.url()})) as client:
        await Asker(socks.arena, client, socks.arena.sign_in()).ask(timeout=20.0)
    assert (socks.tap.connections, socks.front.connections) == (0, 1)


async def test_an_invalid_proxy_in_the_environment_is_not_bypassed(socks: Wired) -> None:
    proxies = Proxies.from_setting("", {"ALL_PROXY": f"socks4://{USER}:{PASSWORD}@localhost:1"})
    async with socks.client(proxies) as client:
        with pytest.raises(Unreachable, match="the proxy in ALL_PROXY cannot be used") as caught:
            await Asker(socks.arena, client, socks.arena.sign_in()).ask()
        assert client.route.startswith("not at all, since the proxy in ALL_PROXY cannot be used")
    assert PASSWORD not in caught.value.message
    assert socks.front.connections == 0


async def test_calls_over_plain_http_bypass_the_proxy() -> None:
    """The site is on loopback, without TLS: a proxy would see its cookies."""
    async with Arena() as arena, microsocks(USER, PASSWORD) as port, tapped(port) as tap:
        proxies = Proxies.from_setting(f"socks5h://{USER}:{PASSWORD}@127.0.0.1:{tap.port}", {})
        async with connected(arena.origin, proxies=proxies) as client:
            assert isinstance((await Asker(arena, client, arena.sign_in()).ask())[-1], Finish)
            assert client.route == ""
    assert tap.connections == 0


async def test_the_error_for_a_silent_proxy_names_the_proxy_after_the_connect_timeout(arena: Arena) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    for scheme in ("socks5h", "http"):
        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            proxies = Proxies.from_setting(f"{scheme}://127.0.0.1:{port}", {})
            async with connected("https://site.example", proxies=proxies, connect_timeout=0.5) as client:
                with pytest.raises(Unreachable, match=f"connecting through the .* proxy at 127.0.0.1:{port} took too"):
                    await Asker(arena, client, arena.sign_in()).ask()
                assert pool_of(client).busy == 0


def test_no_repr_shows_a_proxys_password() -> None:
    proxies = Proxies.from_setting(f"socks5h://{USER}:{PASSWORD}@h:1", {})
    for each in (proxies, proxies.proxy_for("https", "a.example", 443), DIRECT):
        assert PASSWORD not in repr(each) + str(each)
        assert USER not in repr(each) + str(each)
