"""Host names to addresses, in threads of their own: a name server that does not answer holds up lookups alone."""

from __future__ import annotations

import socket
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from upstream.loop.threads import Threads

_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Resolver(AbstractResolver):
    """The system's resolver, at most `limit` lookups at a time.

    A lookup that was given up occupies its thread until the system gives it up too, mostly after some 10 to 30
    seconds; nothing else waits for it, the end of the process included.
    """

    def __init__(self, limit: int) -> None:
        self._threads = Threads("DNS", limit)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises OSError."""
        return await self._threads.run(_look_up, host, port, family)

    async def close(self) -> None:
        """Begin no more lookups; those under way are left alone."""
        self._threads.shutdown(cancel_futures=True)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found: list[ResolveResult] = []
    infos = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    for found_family, _, proto, _, name in infos:
        # As digits, with the interface where an address means something on one link only.
        digits, _ = socket.getnameinfo(name, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        found.append(
            ResolveResult(hostname=host, host=digits, port=port, family=found_family, proto=proto, flags=_NUMERIC)
        )
    return found
