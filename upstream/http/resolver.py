"""Host names to addresses, in threads of their own: a name server that does not answer holds up lookups alone."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from time import monotonic
from typing import Final, Protocol, TypeAlias

from aiohappyeyeballs import AddrInfoType

from upstream.loop.threads import Threads

Lookup: TypeAlias = "asyncio.Future[list[AddrInfoType]]"

#: How many names a resolver remembers; the one looked up longest ago goes first.
MAX_KEPT: Final = 64


class Names(Protocol):
    """What finds addresses of host names."""

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        """The addresses of `host`, as `socket.getaddrinfo` gives them, at least one. Raises OSError or UnicodeError."""


class Resolver:
    """The system's resolver, at most `limit` lookups at a time.

    With `keep_seconds`, what was found is remembered for so long, and callers that ask for the same name at the same
    time share one lookup. A lookup whose caller has gone occupies its thread until the system gives it up too, mostly
    after some 10 to 30 seconds; nothing else waits for it, the end of the process included.
    """

    def __init__(self, limit: int, keep_seconds: float = 0.0) -> None:
        self._threads = Threads("DNS", limit)
        self._keep_seconds = keep_seconds
        self._kept: dict[tuple[str, int], tuple[float, Lookup]] = {}  # until when, on the monotonic clock

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        """The addresses of `host`; a literal address is its own. Raises OSError or UnicodeError."""
        if not self._keep_seconds:
            return await self._threads.run(_look_up, host, port)
        until, lookup = self._kept.get((host, port), (0.0, None))
        if lookup is None or until <= monotonic():
            lookup = self._begin(host, port)
        return await asyncio.shield(lookup)  # others may wait for it too

    def _begin(self, host: str, port: int) -> Lookup:
        lookup = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port)
        name = host, port

        def forget_failure(done: Lookup) -> None:
            if (done.cancelled() or done.exception() is not None) and self._kept.get(name, (0.0, None))[1] is done:
                del self._kept[name]

        self._kept.pop(name, None)
        self._kept[name] = monotonic() + self._keep_seconds, lookup
        if len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        lookup.add_done_callback(forget_failure)
        return lookup

    async def close(self) -> None:
        """Begin no more lookups; those under way are left alone."""
        self._threads.shutdown(cancel_futures=True)


def literal(host: str, port: int) -> list[AddrInfoType]:
    """The address that `host` itself is, as a lookup would give it; none where it is a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return []
    if address.version == 4:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    if address.scope_id is not None:  # which interface that is, only the system knows
        return []
    return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]


def _look_up(host: str, port: int) -> list[AddrInfoType]:
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [(family, kind, proto, "", address) for family, kind, proto, _, address in infos]
