"""Kinds of values in bridge.toml: how each is read from what TOML gives, and in words what it takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
Network: TypeAlias = IPv4Network | IPv6Network
Networks: TypeAlias = tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that no repr shows."""

    value: str = field(repr=False)


class WrongMembers(ValueError):
    """A list of which only these `members` are wrong, by their place."""

    def __init__(self, members: Mapping[int, object]) -> None:
        super().__init__(f"wrong at {[*members]}")
        self.members = members


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What a key takes: `read` checks a value of any type and brings it into its form. It raises ValueError."""

    allowed: str
    read: Callable[[Any], T]
    secret: bool = False


def _of_type(kind: type[T], value: object) -> T:
    if type(value) is not kind:  # strict: True is no number, and 1 is not true
        raise ValueError
    return value


def whole(low: int, high: int) -> Kind[int]:
    """A whole number within bounds."""

    def read(value: object) -> int:
        if not low <= (number := _of_type(int, value)) <= high:
            raise ValueError
        return number

    return Kind(f"a whole number from {low} to {high}", read)


def seconds(high: int, *, or_none: bool = False) -> Kind[float]:
    """A time of so many seconds at most, or minutes where a key's name says so; with `or_none` it may be 0."""

    def read(value: object) -> float:
        number = value if type(value) is int else _of_type(float, value)
        if not (0 <= number <= high and (number or or_none)):
            raise ValueError
        return float(number)

    return Kind(f"a number from 0 to {high}" if or_none else f"a number above 0, at most {high}", read)


def one_of(*words: T) -> Kind[T]:
    """One of a few words."""

    def read(value: object) -> T:
        for word in words:
            if word == value:
                return word
        raise ValueError

    return Kind("one of " + ", ".join(map(str, words)), read)


def _matching(shape: str) -> Callable[[object], str]:
    """Read a text, the whole of which matches."""
    pattern = re.compile(shape)

    def read(value: object) -> str:
        if not pattern.fullmatch(text := _of_type(str, value)):
            raise ValueError
        return text

    return read


def _list(read_member: Callable[[object], T], allowed: str) -> Kind[tuple[T, ...]]:
    """A list of such members."""

    def read(value: object) -> tuple[T, ...]:
        members: list[T] = []
        wrong: dict[int, object] = {}
        for place, each in enumerate(_of_type(list, value)):
            try:
                members.append(read_member(each))
            except ValueError:
                wrong[place] = each
        if wrong:
            raise WrongMembers(wrong)
        return tuple(members)

    return Kind(allowed, read)


def _secret(shape: str, allowed: str) -> Kind[Secret]:
    read = _matching(shape)
    return Kind(allowed, lambda value: Secret(read(value)), secret=True)


def _read_path(value: object) -> Path:
    text = _of_type(str, value)
    if not text or "\0" in text:
        raise ValueError
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # the home of a user who does not exist
        raise ValueError from error


def _read_network(value: object) -> Network:
    return ip_network(_of_type(str, value), strict=False)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _read_origin(value: object) -> str:
    """`arena.ai`, `arena.ai:443` or `https://arena.ai/` → `https://arena.ai`; ValueError for anything else."""
    text = _of_type(str, value)
    parts = urlsplit(text if "://" in text else f"https://{text}")
    host, port = parts.hostname or "", parts.port
    if "@" in parts.netloc or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ValueError
    if ":" in host:
        host = f"[{ip_address(host)}]"
    elif not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", host):
        raise ValueError
    default_port = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, default_port) else "")


TRUTH: Final = Kind("true or false", lambda value: _of_type(bool, value))
# These two go into headers of upstream calls: nothing may start another header.
HOST: Final = Kind("a host name or an IP address", _matching("[!-~]+"))
LINE: Final = Kind("one line of printable ASCII, or empty", _matching("[ -~]*"))
ORIGIN: Final = Kind("a host, host:port or https origin; plain http only on loopback", _read_origin)
ORIGINS: Final = _list(_read_origin, "a list of hosts, host:port or https origins; plain http only on loopback")
# Desktop applications send schemes of their own, such as app://obsidian.md.
CORS_ORIGINS: Final = _list(
    _matching(r"\*|[a-z][a-z0-9+.-]*://[^\s/?#@*]+"), 'a list of origins, such as http://localhost:3000, or "*"'
)
NETWORKS: Final = _list(_read_network, "a list of IP addresses and networks, such as 10.0.0.0/8")
GLOBS: Final = _list(_matching("(?s:.+)"), "a list of names; *, ? and [...] match as in a shell")
PATH: Final = Kind("a path", _read_path)
TLS_CERT: Final = Kind("a path, or empty", lambda value: None if value == "" else _read_path(value))
TLS_KEY: Final = Kind("a path if tls_cert is set, else empty", TLS_CERT.read)
# RFC 6265, 4.1.1: cookie-octet.
COOKIE: Final = _secret(r"[!#-+\--:<-\[\]-~]*", "a cookie's value, without its name, or empty")
NOTHING_YET: Final = _secret("", "only empty, since Redis has no effect yet")
