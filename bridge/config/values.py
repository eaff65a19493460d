"""The types of values in bridge.toml: each converts a TOML value, and describes what is allowed.

Readers are strict (`true` is not a number, nor is `"60"`) and raise ValueError without a message: the caller, who knows
the key, writes the message, in the same form for every key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar

from bridge.shared.address import FORMS, RedisAddress
from upstream.http.proxies import NONE, parse_proxy
from upstream.protocol.cookies import COOKIE_OCTET

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Place = TypeVar("Place", int, str)
Networks: TypeAlias = tuple[IPv4Network | IPv6Network, ...]
Aliases: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
MAX_ALIASES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Secret:
    """A string that repr() hides."""

    value: str = field(repr=False)


class WrongMembers(ValueError):
    """Some members of a list or table are wrong: `members` maps their indexes or names to the values found."""

    def __init__(self, members: Mapping[int | str, object]) -> None:
        super().__init__(f"wrong at {[*members]}")
        self.members = members


@dataclass(frozen=True, slots=True)
class ValueType(Generic[T_co]):
    """The values that a key accepts. `read` checks a TOML value and converts it; it raises ValueError."""

    allowed: str
    read: Callable[[object], T_co]
    secret: bool = False


def _exactly(kind: type[T], holds: Callable[[T], object] = lambda _: True) -> Callable[[object], T]:
    """A reader of values of exactly this type for which `holds` is true."""

    def read(value: object) -> T:
        if type(value) is not kind or not holds(value):  # isinstance would accept True as an integer
            raise ValueError
        return value

    return read


_string: Final = _exactly(str)


def _matching(pattern: str) -> Callable[[object], str]:
    """A reader of strings that match `pattern` from beginning to end."""
    return _exactly(str, re.compile(pattern).fullmatch)


def integer(low: int, high: int) -> ValueType[int]:
    """An integer from `low` to `high`."""
    return ValueType(f"a whole number from {low} to {high}", _exactly(int, lambda number: low <= number <= high))


def duration(high: int, *, zero: bool = False) -> ValueType[float]:
    """A time of at most `high`, in the unit that the key's description names; 0 only if `zero` is set."""

    def holds(number: float) -> bool:
        return 0 <= number <= high and bool(number or zero)

    def read(value: object) -> float:
        return float(_exactly(int if type(value) is int else float, holds)(value))

    return ValueType(f"a number from 0 to {high}" if zero else f"a number above 0, at most {high}", read)


def one_of(*words: T) -> ValueType[T]:
    """One of these words."""
    return ValueType("one of " + ", ".join(map(str, words)), lambda value: words[words.index(value)])


def _secret(pattern: str, allowed: str) -> ValueType[Secret]:
    read = _matching(pattern)
    return ValueType(allowed, lambda value: Secret(read(value)), secret=True)


def _list(read_member: Callable[[object], T], allowed: str) -> ValueType[tuple[T, ...]]:
    """A list; a bare string stands for a list of one."""

    def read(value: object) -> tuple[T, ...]:
        if isinstance(value, str):
            return (read_member(value),)
        return tuple(_read_members(enumerate(_exactly(list)(value)), read_member).values())

    return ValueType(allowed, read)


def _read_members(members: Iterable[tuple[Place, object]], read: Callable[[object], T]) -> dict[Place, T]:
    values: dict[Place, T] = {}
    wrong: dict[int | str, object] = {}
    for place, member in members:
        try:
            values[place] = read(member)
        except ValueError:
            wrong[place] = member
    if wrong:
        raise WrongMembers(wrong)
    return values


def _read_path(value: object) -> Path:
    try:
        return Path(_matching(r"[^\0]+")(value)).expanduser()
    except RuntimeError as error:  # the home of a user who does not exist
        raise ValueError from error


def _read_optional_path(value: object) -> Path | None:
    return None if value == "" else _read_path(value)


_ORIGIN: Final = re.compile(r"(?:(https?)://)?(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::([0-9]{1,5}))?/?")
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


def _read_origin(value: object) -> str:
    """Normalise `arena.ai`, `arena.ai:443` or `https://arena.ai/` to `https://arena.ai`."""
    if not (match := _ORIGIN.fullmatch(_string(value).lower())):
        raise ValueError
    scheme, host = match[1] or "https", match[2]
    port = int(match[3] or _DEFAULT_PORTS[scheme])
    if host.startswith("["):
        host = f"[{ip_address(host[1:-1])}]"
    if port > 65_535 or (scheme == "http" and not _is_loopback(host.strip("[]"))):
        raise ValueError
    return f"{scheme}://{host}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _read_proxy(value: object) -> Secret:
    if value not in ("", NONE):
        parse_proxy(_string(value))
    return Secret(_string(value))


def _read_redis(value: object) -> Secret:
    if value != "":
        RedisAddress.parse(_string(value))
    return Secret(_string(value))


# Desktop applications use their own schemes, such as app://obsidian.md. http://* is refused: it looks narrower than "*"
# but hardly is.
_matching_cors_origin: Final = _matching(
    r"\*|null|file://|(?!https?://[*.]+(:|$))[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[^\s/?#@:\[\]]+)(:([0-9]+|\*))?"
)


def _read_cors_origin(value: object) -> str:
    return _matching_cors_origin(_string(value).lower())


def _read_aliases(value: object) -> Aliases:
    table = _exactly(dict, lambda table: len(table) <= MAX_ALIASES and "" not in table)(value)
    return tuple(_read_members(table.items(), _read_models).items())


def _read_models(value: object) -> tuple[str, ...]:
    return _exactly(tuple, bool)(NAMES.read(value))


BOOLEAN: Final = ValueType("true or false", _exactly(bool))
# HOST and LINE go into headers of upstream calls: a line break could inject another header.
HOST: Final = ValueType("a host name or an IP address", _matching("[!-~]+"))
LINE: Final = ValueType("one line of printable ASCII, or empty", _matching("[ -~]*"))
ORIGIN: Final = ValueType("a host, host:port or https origin; plain http only on loopback", _read_origin)
ORIGINS: Final = _list(_read_origin, "a list of hosts, host:port or https origins; plain http only on loopback")
CORS_ORIGINS: Final = _list(
    _read_cors_origin,
    'a list of origins and patterns, such as http://localhost:3000, chrome-extension://*, "null", or "*"',
)
NETWORKS: Final = _list(
    lambda value: ip_network(_string(value), strict=False), "a list of IP addresses and networks, such as 10.0.0.0/8"
)
NAMES: Final = _list(_matching("(?s:.+)"), "a list of names; *, ? and [...] match as in a shell")
ALIASES: Final = ValueType(
    f'a table of models, or lists of models, by quoted name, such as {{"gpt-4o*" = "gpt-5"}}; at most {MAX_ALIASES:,}',
    _read_aliases,
)
PATH: Final = ValueType("a path", _read_path)
TLS_CERT: Final = ValueType("a path, or empty", _read_optional_path)
TLS_KEY: Final = ValueType("a path if tls_cert is set, else empty", _read_optional_path)
COOKIE: Final = _secret(f"{COOKIE_OCTET}*", "a cookie's value, without its name, or empty")
PROXY: Final = ValueType(
    f'a URL such as socks5h://user:password@host:1080 (http, https, socks5 or socks5h), "{NONE}", or empty',
    _read_proxy,
    secret=True,
)
REDIS: Final = ValueType(FORMS, _read_redis, secret=True)
PASSWORD: Final = _secret("(?s:.*)", "a password, or empty")
KEY_PREFIX: Final = ValueType("1 to 64 printable ASCII characters without spaces", _matching("[!-~]{1,64}"))
