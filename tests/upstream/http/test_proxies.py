"""The choice of the proxy for a call: `upstream.proxy`, the environment, and the exceptions of NO_PROXY."""

from __future__ import annotations

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from upstream.http.exchange_types import NotSent
from upstream.http.proxies import Proxies, Proxy, parse_proxy

GOOD = {
    "http://proxy.example": Proxy("http", "proxy.example", 80),
    "http://proxy.example:3128/": Proxy("http", "proxy.example", 3128),
    "https://proxy.example": Proxy("https", "proxy.example", 443),
    "socks5://10.0.0.1": Proxy("socks5", "10.0.0.1", 1080),
    "socks5h://[::1]:9050": Proxy("socks5h", "::1", 9050),
    "SOCKS5H://Proxy.Example:1": Proxy("socks5h", "proxy.example", 1),
    "socks5://ada:w%40rd%3A@h:1": Proxy("socks5", "h", 1, "ada", "w@rd:"),
    "http://ada:w%C3%B6rd@h:1": Proxy("http", "h", 1, "ada", "wörd"),
    "http://ada@h:1": Proxy("http", "h", 1, "ada", ""),
    "http://my_proxy-1:1": Proxy("http", "my_proxy-1", 1),
}

BAD = (
    "proxy.example:3128",
    "ftp://h:1",
    "socks4://h:1",
    "socks://h:1",
    "socks5://",
    "socks5://:1080",
    "socks5://h:0x1",
    "socks5://h:99999",
    "socks5://h:1/path",
    "socks5://h:1?query",
    "socks5://h:1#part",
    "socks5://[::1",
    "socks5://[not-an-address]:1",
    "socks5://h h:1",
    "socks5://h\r\nX: 1",
    "socks5://only-a-name@h:1",
    "socks5://:only-a-word@h:1",
    f"socks5://{'a' * 256}:b@h:1",
    "socks5://ad%C3%A4:word@h:1",
    "http://a%3Ab:word@h:1",
    "http://ada:wo%0D%0Ard@h:1",
)


@pytest.mark.parametrize("url", GOOD)
def test_a_valid_proxy_url_is_parsed(url: str) -> None:
    assert parse_proxy(url) == GOOD[url]


@pytest.mark.parametrize("url", BAD)
def test_an_invalid_proxy_url_is_not_quoted(url: str) -> None:
    with pytest.raises(
        ValueError, match=r"http, https, socks5|SOCKS5 proxy takes|user name must not contain a colon"
    ) as caught:
        parse_proxy(url)
    assert "word" not in str(caught.value).replace("password", "")


@a_share(of=5)
@given(
    st.text(max_size=60)
    | st.text(max_size=40).map("socks5h://{}".format)
    | st.text(max_size=40).map("http://{}".format)
)
def test_any_text_gives_a_proxy_url_or_a_value_error(text: str) -> None:
    try:
        proxy = parse_proxy(text)
    except ValueError:
        return
    assert 0 <= proxy.port <= 65_535
    assert proxy.host
    assert "\n" not in str(proxy) + proxy.user + proxy.password


def test_a_proxy_is_described_without_its_password() -> None:
    assert str(parse_proxy("socks5h://ada:word@h")) == "the SOCKS5 proxy at h:1080"
    assert str(parse_proxy("https://ada:word@[::1]:9")) == "the HTTPS proxy at [::1]:9"
    assert str(parse_proxy("http://h")) == "the HTTP proxy at h:80"


def towards(environ: dict[str, str], host: str = "arena.ai", *, scheme: str = "https", port: int = 443) -> str:
    """The host of the proxy for a call; '' for a direct connection."""
    proxy = Proxies.from_setting("", environ).proxy_for(scheme, host, port)
    return proxy.host if proxy else ""


def test_proxies_are_read_from_the_environment() -> None:
    assert towards({}) == ""
    assert towards({"HTTPS_PROXY": "http://a", "ALL_PROXY": "http://b"}) == "a"
    assert towards({"HTTPS_PROXY": "http://a", "https_proxy": "http://c"}) == "c"
    assert towards({"HTTPS_PROXY": "", "ALL_PROXY": "socks5h://b"}) == "b"
    assert towards({"HTTPS_PROXY": "bare.example:3128"}) == "bare.example"
    assert towards({"HTTP_PROXY": "http://a"}) == ""
    assert towards({"HTTP_PROXY": "http://a", "ALL_PROXY": "http://b"}, scheme="http", port=80) == "a"
    assert towards({"HTTPS_PROXY": "http://a"}, scheme="http", port=80) == ""


def test_a_configured_proxy_takes_precedence_over_the_environment_and_no_proxy() -> None:
    environ = {"HTTPS_PROXY": "http://a", "NO_PROXY": "*"}
    proxy = Proxies.from_setting("socks5://b", environ).proxy_for("https", "arena.ai", 443)
    assert proxy is not None
    assert proxy.host == "b"
    assert Proxies.from_setting("none", environ).proxy_for("https", "arena.ai", 443) is None


@pytest.mark.parametrize(
    ("exempt", "host", "port", "matches"),
    [
        ("arena.ai", "arena.ai", 443, True),
        ("arena.ai", "www.arena.ai", 443, True),
        (".arena.ai", "www.arena.ai", 443, True),
        ("*.arena.ai", "www.arena.ai", 443, True),
        ("ARENA.AI", "arena.ai.", 443, True),
        ("a.example, arena.ai", "arena.ai", 443, True),
        ("a.example arena.ai", "arena.ai", 443, True),
        ("arena.ai:443", "arena.ai", 443, True),
        ("arena.ai:80", "arena.ai", 443, False),
        ("na.ai", "arena.ai", 443, False),
        ("ai", "arena.ai", 443, True),
        ("*", "arena.ai", 443, True),
        ("", "arena.ai", 443, False),
        (",. ,", "arena.ai", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("127.0.0.1", "127.0.0.1", 443, True),
        ("::1", "::1", 443, True),
        ("[::1]:443", "::1", 443, True),
        ("[::1]:80", "::1", 443, False),
        ("fd00::/8", "fd00::5", 443, True),
    ],
)
def test_the_variable_no_proxy_exempts_hosts(exempt: str, host: str, port: int, matches: bool) -> None:
    environ = {"ALL_PROXY": "http://a", "NO_PROXY": exempt}
    assert (towards(environ, host, port=port) == "") is matches


def test_an_invalid_proxy_in_the_environment_fails_the_call() -> None:
    proxies = Proxies.from_setting("", {"https_proxy": "socks4://ada:word@h:1", "NO_PROXY": "arena.ai"})
    assert proxies.proxy_for("https", "arena.ai", 443) is None
    with pytest.raises(NotSent, match="the proxy in https_proxy cannot be used") as caught:
        proxies.proxy_for("https", "other.example", 443)
    assert "ada" not in caught.value.cause
