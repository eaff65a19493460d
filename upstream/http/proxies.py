"""Chooses the proxy for a call: from `upstream.proxy` in bridge.toml, or else from the environment.

Only parses and chooses; `upstream.http.tunnels` makes the connections.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import unquote, urlsplit

from upstream.http.exchange_types import NotSent

#: The value of `upstream.proxy` that disables proxies, including those of the environment.
NONE: Final = "none"
#: Schemes that a proxy's URL may have, each with its default port and its name in messages.
SCHEMES: Final[Mapping[str, tuple[int, str]]] = {
    "http": (80, "HTTP proxy"),
    "https": (443, "HTTPS proxy"),
    "socks5": (1080, "SOCKS5 proxy"),
    "socks5h": (1080, "SOCKS5 proxy"),
}
#: The longest user name or password in SOCKS5 (RFC 1929), in bytes.
_MAX_SOCKS_CREDENTIAL: Final = 255
_HOST: Final = re.compile(r"[a-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy; `str()` omits the user and password. A `socks5h` proxy resolves host names itself."""

    scheme: str
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"the {SCHEMES[self.scheme][1]} at {host}:{self.port}"

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS5 rather than HTTP's CONNECT."""
        return self.scheme.startswith("socks")


def parse_proxy(url: str) -> Proxy:
    """Read `scheme://[user:password@]host[:port]`. Raises ValueError, whose text does not quote the URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if ":" in host:
            host = str(ip_address(host))
        elif not _HOST.fullmatch(host):
            raise ValueError
    except ValueError:
        raise ValueError(_SHAPE) from None
    if parts.scheme not in SCHEMES or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(_SHAPE)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme.startswith("socks"):
        if bool(user) != bool(password) or not (user + password).isascii():
            raise ValueError("a SOCKS5 proxy takes a user name and a password, both ASCII, or neither")
        if max(len(user), len(password)) > _MAX_SOCKS_CREDENTIAL:
            raise ValueError(
                f"a SOCKS5 proxy takes at most {_MAX_SOCKS_CREDENTIAL} characters for each of user and password"
            )
    elif ":" in user or not (user + password).isprintable():
        raise ValueError("a proxy's user name must not contain a colon, nor its password a line break")
    return Proxy(parts.scheme, host, port or SCHEMES[parts.scheme][0], user, password)


@dataclass(frozen=True, slots=True)
class _Configured:
    """A proxy and the name of its setting; `proxy` is None if the setting's value is invalid."""

    source: str
    proxy: Proxy | None


class Proxies:
    """The proxy for each call. Plain http never uses one, except for pictures: it would reveal the cookie."""

    def __init__(self, by_scheme: Mapping[str, _Configured], exempt: tuple[str, ...] = ()) -> None:
        self._by_scheme = by_scheme
        self._exempt = exempt

    @classmethod
    def from_setting(cls, setting: str, environ: Mapping[str, str]) -> Proxies:
        """Read `upstream.proxy`: a proxy's URL, NONE, or '' to use the environment.

        The environment's variables are HTTPS_PROXY, or HTTP_PROXY for pictures from http://, or else ALL_PROXY, and
        NO_PROXY for exceptions; the lower-case spelling of each takes precedence. An invalid URL there makes calls
        fail: bypassing the proxy could reveal an address that was meant to stay hidden.
        """
        if setting == NONE:
            return cls({})
        if setting:
            configured = _configured("upstream.proxy", setting)
            return cls({"https": configured, "http": configured})
        found: dict[str, _Configured] = {}
        for scheme in ("https", "http"):
            for name in (f"{scheme}_proxy", "all_proxy"):
                variable = next((each for each in (name, name.upper()) if environ.get(each)), None)
                if variable is not None:
                    found[scheme] = _configured(variable, environ[variable])
                    break
        exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        return cls(found, tuple(filter(None, re.split(r"[\s,]+", exempt.lower()))))

    def proxy_for(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy for a call; None for a direct connection. Raises NotSent if the configured proxy is invalid."""
        configured = self._configured_for(scheme, host, port)
        if configured is None:
            return None
        if configured.proxy is None:
            raise NotSent(f"the proxy in {configured.source} cannot be used: {_SHAPE}")
        return configured.proxy

    def describe(self, scheme: str, host: str, port: int) -> str:
        """Describe the route of a call, such as `through the SOCKS5 proxy at host:1080 (ALL_PROXY)`; '' if direct."""
        configured = self._configured_for(scheme, host, port)
        if configured is None:
            return ""
        if configured.proxy is None:
            return f"not at all, since the proxy in {configured.source} cannot be used: {_SHAPE}"
        return f"through {configured.proxy} ({configured.source})"

    def _configured_for(self, scheme: str, host: str, port: int) -> _Configured | None:
        configured = self._by_scheme.get(scheme)
        return None if configured is None or any(_matches(each, host, port) for each in self._exempt) else configured


#: No proxy at all.
DIRECT: Final = Proxies({})

_SHAPE: Final = "it must be http, https, socks5 or socks5h://[user:password@]host[:port]"


def _configured(source: str, url: str) -> _Configured:
    try:
        # Environments often have just `proxy.example:3128`, which means an HTTP proxy.
        return _Configured(source, parse_proxy(url if "://" in url else f"http://{url}"))
    except ValueError:
        return _Configured(source, None)


def _matches(exempt: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY matches: `*`, a domain and its subdomains, an address or network; maybe a port."""
    host = host.rstrip(".").lower()
    if exempt == "*":
        return True
    if exempt.startswith("["):
        name, _, exempt_port = exempt[1:].partition("]")
        exempt_port = exempt_port.removeprefix(":")
    elif exempt.count(":") == 1:
        name, _, exempt_port = exempt.partition(":")
    else:
        name, exempt_port = exempt, ""
    if exempt_port and exempt_port != str(port):
        return False
    try:
        return ip_address(host) in ip_network(name, strict=False)
    except ValueError:
        name = name.removeprefix("*").removeprefix(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
