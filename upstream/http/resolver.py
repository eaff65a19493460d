"""DNS lookups in their own threads, so that an unresponsive name server delays nothing but lookups."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from time import monotonic
from typing import Final, Protocol, TypeAlias

from aiohappyeyeballs import AddrInfoType

from upstream.loop.threads import Threads

Lookup: TypeAlias = "asyncio.Future[list[AddrInfoType]]"

#: How many names a resolver caches; the oldest lookup is evicted first.
MAX_CACHED: Final = 64


class NameResolver(Protocol):
    """Resolves host names."""

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        """Resolve `host`, as `socket.getaddrinfo` does, to at least one address. Raises OSError or UnicodeError."""


class Resolver:
    """The system's resolver, with at most `limit` concurrent lookups.

    With `cache_seconds`, results are cached for that long, and concurrent lookups of a name share one. An abandoned
    lookup occupies its thread until the system gives up, usually after 10 to 30 seconds; nothing else waits for it, not
    even the exit of the process.
    """

    def __init__(self, limit: int, cache_seconds: float = 0.0) -> None:
        self._threads = Threads("DNS", limit)
        self._cache_seconds = cache_seconds
        self._cache: dict[tuple[str, int], tuple[float, Lookup]] = {}  # valid until, on the monotonic clock

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        """Resolve `host`; a literal address resolves to itself. Raises OSError or UnicodeError."""
        if not self._cache_seconds:
            return await self._threads.run(_look_up, host, port)
        until, lookup = self._cache.get((host, port), (0.0, None))
        if lookup is None or until <= monotonic():
            lookup = self._begin(host, port)
        return await asyncio.shield(lookup)  # others may wait for it too

    def _begin(self, host: str, port: int) -> Lookup:
        lookup = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port)
        name = host, port

        def forget_failure(done: Lookup) -> None:
            if (done.cancelled() or done.exception() is not None) and self._cache.get(name, (0.0, None))[1] is done:
                del self._cache[name]

        self._cache.pop(name, None)
        self._cache[name] = monotonic() + self._cache_seconds, lookup
        if len(self._cache) > MAX_CACHED:
            del self._cache[next(iter(self._cache))]
        lookup.add_done_callback(forget_failure)
        return lookup

    async def close(self) -> None:
        """Start no more lookups; those in progress are abandoned."""
        self._threads.shutdown(cancel_futures=True)


async def resolve(names: NameResolver, host: str, port: int) -> list[AddrInfoType]:
    """Resolve a host name; a literal address needs no lookup. Raises OSError or UnicodeError."""
    return _literal(host, port) or await names.resolve(host, port)


def _literal(host: str, port: int) -> list[AddrInfoType]:
    """What a lookup of a literal address would return; empty for a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return []
    if address.version == 4:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    if address.scope_id is not None:  # only the system can map the scope to an interface
        return []
    return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]


def _look_up(host: str, port: int) -> list[AddrInfoType]:
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [(family, kind, proto, "", address) for family, kind, proto, _, address in infos]
