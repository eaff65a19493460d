"""The caller's address and scheme: forwarded headers are believed from trusted proxies only, hop by hop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from certificates import server_context
from examples import a_share
from hypothesis import example, given
from hypothesis import strategies as st
from request_log import RequestLog
from running import running_bridge

from bridge.config.schema import Config
from handlers.request.callers import UNKNOWN, caller_address, came_over_tls, is_secure, nearest_untrusted
from upstream.arena import Arena

PROXIES = tuple(map(ip_network, ("127.0.0.1/32", "10.0.0.0/8", "fd00::/8")))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        pytest.param("198.51.100.7", [], "198.51.100.7", id="no proxy"),
        pytest.param("198.51.100.7", ["203.0.113.9"], "198.51.100.7", id="a stranger's word counts nothing"),
        pytest.param("127.0.0.1", [], "127.0.0.1", id="a proxy that says nothing"),
        pytest.param("127.0.0.1", [""], "127.0.0.1", id="an empty header"),
        pytest.param("127.0.0.1", ["203.0.113.9"], "203.0.113.9", id="one proxy"),
        pytest.param("127.0.0.1", ["203.0.113.9,10.1.2.3"], "203.0.113.9", id="two proxies"),
        pytest.param("127.0.0.1", ["203.0.113.9", "10.1.2.3, 10.1.2.4"], "203.0.113.9", id="several lines"),
        pytest.param("127.0.0.1", ["8.8.8.8, 203.0.113.9"], "203.0.113.9", id="what the caller made up stays out"),
        pytest.param("127.0.0.1", ["10.1.2.3, 10.1.2.4"], "10.1.2.3", id="proxies all the way"),
        pytest.param("127.0.0.1", ["203.0.113.9, unknown"], "127.0.0.1", id="garbage from the proxy"),
        pytest.param("127.0.0.1", ["203.0.113.9, <b>, 10.1.2.3"], "10.1.2.3", id="garbage on the way"),
        pytest.param("127.0.0.1", ["203.0.113.9,"], "127.0.0.1", id="an empty hop"),
        pytest.param("127.0.0.1", ["203.0.113.9:4711"], "203.0.113.9", id="with a port"),
        pytest.param("127.0.0.1", ["[2001:DB8::1]:443"], "2001:db8::1", id="IPv6 with a port"),
        pytest.param("127.0.0.1", ["2001:db8:0::1"], "2001:db8::1", id="IPv6"),
        pytest.param("127.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9", id="IPv4 inside IPv6"),
        pytest.param("127.0.0.1", ["fe80::1%<script>"], "fe80::1", id="a zone is dropped"),
        pytest.param("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9", id="a proxy on a socket for both"),
        pytest.param("fd00::1", ["203.0.113.9"], "203.0.113.9", id="a proxy over IPv6"),
        pytest.param("fe80::1%eth0", ["203.0.113.9"], "fe80::1", id="a stranger next door"),
        pytest.param("", ["203.0.113.9"], "203.0.113.9", id="a proxy on a unix socket"),
        pytest.param("b'\\x00proxy'", ["203.0.113.9"], "203.0.113.9", id="an abstract unix socket"),
        pytest.param("", [], "127.0.0.1", id="a unix socket without a proxy"),
        pytest.param(None, ["203.0.113.9"], UNKNOWN, id="gone at once"),
    ],
)
def test_the_callers_address_is_the_nearest_untrusted_hop(
    peer: str | None, forwarded_for: Sequence[str], address: str
) -> None:
    assert nearest_untrusted(peer, forwarded_for, PROXIES) == address


@pytest.mark.parametrize(
    ("peer", "forwarded_proto", "direct", "secure"),
    [
        pytest.param("198.51.100.7", [], False, False, id="plain"),
        pytest.param("198.51.100.7", [], True, True, id="our own TLS"),
        pytest.param("198.51.100.7", ["https"], False, False, id="a stranger's word counts nothing"),
        pytest.param("198.51.100.7", ["http"], True, True, id="nor to the worse"),
        pytest.param("127.0.0.1", ["https"], False, True, id="a proxy with TLS"),
        pytest.param("127.0.0.1", ["HTTPS "], False, True, id="in capitals"),
        pytest.param("127.0.0.1", ["http"], True, False, id="TLS behind the proxy only"),
        pytest.param("127.0.0.1", [], True, True, id="a proxy that says nothing"),
        pytest.param("127.0.0.1", ["https, http"], False, False, id="the proxy's own word is the last"),
        pytest.param("127.0.0.1", ["http", "https"], False, True, id="on the last line"),
        pytest.param("127.0.0.1", ["wss"], False, False, id="another word"),
        pytest.param("", ["https"], False, True, id="a proxy on a unix socket"),
        pytest.param(None, ["https"], False, False, id="gone at once"),
    ],
)
def test_the_forwarded_scheme_decides_whether_a_request_came_over_tls(
    peer: str | None, forwarded_proto: Sequence[str], direct: bool, secure: bool
) -> None:
    assert came_over_tls(peer, forwarded_proto, PROXIES, direct=direct) is secure


hops = st.one_of(st.ip_addresses().map(str), st.ip_addresses(v=4, network="10.0.0.0/8").map(str), st.text())
lines = st.lists(st.lists(hops).map(",".join))


@a_share(of=10)
@given(peer=hops, forwarded_for=lines)
@example(peer="10.0.0.1", forwarded_for=["[", "]", "%", ":", "::%::", "1" * 10_000])
def test_arbitrary_forwarded_headers_yield_a_valid_address(peer: str, forwarded_for: list[str]) -> None:
    address = nearest_untrusted(peer, forwarded_for, PROXIES)
    assert str(ip_address(address)) == address
    assert came_over_tls(peer, forwarded_for, PROXIES, direct=True) in (True, False)


def is_stranger(address: IPv4Address | IPv6Address) -> bool:
    plain = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
    return not any(plain in network for network in PROXIES)


@a_share(of=10)
@given(peer=st.ip_addresses().filter(is_stranger), sent=lines)
def test_forwarded_headers_from_untrusted_peers_are_ignored(peer: IPv4Address | IPv6Address, sent: list[str]) -> None:
    alone = nearest_untrusted(str(peer), [], PROXIES)
    assert nearest_untrusted(str(peer), sent, PROXIES) == alone
    assert nearest_untrusted("10.0.0.1", [*sent, str(peer)], PROXIES) == alone  # the same headers, through a proxy
    assert came_over_tls(str(peer), sent, PROXIES, direct=False) is False


# --- over sockets ---


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[web.ServerRunner]:
    """A server that answers with its caller's address and whether the request is secure."""

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(text=f"{caller_address(request, config)} {is_secure(request, config)}")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()


async def asked(connector: aiohttp.BaseConnector, url: str, *forwarded: tuple[str, str]) -> str:
    async with aiohttp.ClientSession(connector=connector) as http, http.get(url, headers=forwarded) as response:
        return await response.text()


def trusting(*proxies: str) -> Config:
    return Config.read({"server": {"trusted_proxies": list(proxies)}})


FORWARDED = (("X-Forwarded-For", "8.8.8.8"), ("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https"))


@pytest.mark.parametrize(
    ("proxies", "answer"),
    [
        pytest.param(["127.0.0.1"], "203.0.113.9 True", id="trusted"),
        pytest.param(["10.0.0.0/8"], "127.0.0.1 False", id="not trusted"),
    ],
)
async def test_forwarded_headers_work_over_tcp_and_over_a_unix_socket(
    proxies: list[str], answer: str, tmp_path: Path
) -> None:
    async with serving(trusting(*proxies)) as runner:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await web.UnixSite(runner, str(tmp_path / "s")).start()
        host, port = runner.addresses[0]
        assert await asked(aiohttp.TCPConnector(), f"http://{host}:{port}/", *FORWARDED) == answer
        assert await asked(aiohttp.UnixConnector(str(tmp_path / "s")), "http://bridge/", *FORWARDED) == answer


async def test_a_direct_tls_connection_counts_as_tls(tmp_path: Path) -> None:
    async with serving(Config.read({})) as runner:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(tmp_path)).start()
        host, port = runner.addresses[0]
        assert await asked(aiohttp.TCPConnector(ssl=False), f"https://{host}:{port}/") == "127.0.0.1 True"


async def test_the_log_names_the_address_of_a_remote_caller(
    arena: Arena, tmp_path: Path, request_log: RequestLog
) -> None:
    overrides = {"server": {"trusted_proxies": ["127.0.0.1"]}}
    async with running_bridge(arena, tmp_path / "state", overrides) as bridge:
        for headers in ({"X-Forwarded-For": "203.0.113.9"}, {}):
            await bridge.http.get(f"{bridge.origin}/health", headers=headers)
    assert [(await request_log.line()).get("caller") for _ in range(2)] == ["203.0.113.9", None]
