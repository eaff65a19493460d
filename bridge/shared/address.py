"""The address of a Redis, parsed from `redis.url`. Importing this does not need the client library."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote

Transport: TypeAlias = Literal["tcp", "tls", "unix", "sentinel"]

DEFAULT_PORT: Final = 6379
DEFAULT_SENTINEL_PORT: Final = 26379
MAX_DATABASE: Final = 65_535

#: What `redis.url` may be, for error messages.
FORMS: Final = (
    "redis://[user:password@]host[:port][/database], rediss:// with TLS, unix:///path/to/socket[?db=database],"
    " redis+sentinel://host[:port][,…]/service[/database], or empty"
)

_SCHEMES: Final[dict[str, Transport]] = {
    "redis": "tcp",
    "rediss": "tls",
    "unix": "unix",
    "redis+sentinel": "sentinel",
}
_URL: Final = re.compile(r"([a-z+]+)://(?:([^@/?#]*)@)?([^/?#@]*)([^?#]*)(?:\?db=([0-9]{1,5}))?")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_DATABASE: Final = re.compile(r"/?|/([0-9]{1,5})")
_SERVICE: Final = re.compile(r"/([A-Za-z0-9._-]+)(?:/([0-9]{1,5}))?/?")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis is. `hosts` are those of the server, or of the sentinels that know the master of `service`."""

    transport: Transport
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    database: int = 0
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Parse a URL. Raises ValueError, whose text does not quote the URL, since that may hold a password."""
        match = _URL.fullmatch(url)
        if match is None or match[1] not in _SCHEMES:
            raise ValueError("not the URL of a Redis")
        scheme, login, netloc, path, query_database = match.groups()
        transport = _SCHEMES[scheme]
        user, colon, password = (login or "").partition(":")
        address = cls(transport, user=unquote(user), password=unquote(password))
        if login is not None and not colon:
            raise ValueError("a user without a password")
        if transport == "unix":
            if netloc or len(path) < 2:
                raise ValueError("a socket needs an absolute path")
            return replace(address, path=unquote(path), database=_database(query_database))
        if query_database is not None:
            raise ValueError("the database stands in the path")
        if transport == "sentinel":
            service = _SERVICE.fullmatch(path)
            if service is None:
                raise ValueError("sentinels need the name of a service")
            hosts = tuple(_host(each, DEFAULT_SENTINEL_PORT) for each in netloc.split(","))
            return replace(address, hosts=hosts, service=service[1], database=_database(service[2]))
        database = _DATABASE.fullmatch(path)
        if database is None:
            raise ValueError("the path of a server is the number of a database")
        return replace(address, hosts=(_host(netloc, DEFAULT_PORT),), database=_database(database[1]))

    def with_password(self, password: str) -> RedisAddress:
        """The same address with this password, unless it has one already."""
        return self if self.password or not password else replace(self, password=password)

    def __str__(self) -> str:
        """The address for logs and messages, without user and password."""
        if self.transport == "unix":
            return f"unix://{self.path}" + (f"?db={self.database}" if self.database else "")
        scheme = next(name for name, transport in _SCHEMES.items() if transport == self.transport)
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{scheme}://{hosts}" + (f"/{self.service}" if self.service else "") + f"/{self.database}"


def _host(text: str, default_port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None:
        raise ValueError("not a host")
    port = int(match[2] or default_port)
    if not 0 < port <= 65_535:
        raise ValueError("not a port")
    return match[1].strip("[]"), port


def _database(digits: str | None) -> int:
    database = int(digits or 0)
    if database > MAX_DATABASE:
        raise ValueError("no database has that number")
    return database
