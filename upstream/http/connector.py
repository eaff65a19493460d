"""New connections, by asyncio's public means: directly or through a proxy, over TLS or plainly, guarded or not."""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import Enum
from typing import Final

from aiohappyeyeballs import AddrInfoType, SocketFactoryType, start_connection
from yarl import URL

from upstream.http.addresses import AddressRefused, guarded_socket_factory, is_public, is_public_host
from upstream.http.connection import Connection
from upstream.http.exchange_types import NotPublic, NotSent
from upstream.http.proxies import DIRECT, Proxies, Proxy
from upstream.http.resolver import Names, literal
from upstream.http.trust import trusted
from upstream.http.tunnels import NEXT_ADDRESS_SECONDS, Peer, cause, connect_over, connect_through

#: How many addresses of one host a proxy is asked for, one after another.
MOST_TARGETS: Final = 4


class Reach(Enum):
    """Where connections may lead.

    Directly, both of the guarded kinds connect to public addresses only, judged where the connection is made. Through a
    proxy, which makes the last connection, they differ in who says the address.
    """

    #: Where the configuration says. Plain http never goes through a proxy: it would show it the cookies.
    CONFIGURED = "configured"
    #: Where the site says. A proxy gets the host, which must be public by its name.
    PUBLIC_HOSTS = "public hosts"
    #: Where a stranger says. Names are resolved here, also for a proxy that would do so itself: it gets an address that
    #: was found public, and connects to that very one. Plain http goes through a proxy too, since there are no cookies.
    PUBLIC_ADDRESSES = "public addresses"


class Connector:
    """Makes connections; `make` gives the protocol for one. A `socket_factory` stands in for the guard of `reach`."""

    def __init__(
        self,
        make: Callable[[], Connection],
        names: Names,
        *,
        proxies: Proxies = DIRECT,
        reach: Reach = Reach.CONFIGURED,
        socket_factory: SocketFactoryType | None = None,
    ) -> None:
        self._make = make
        self._names = names
        self._proxies = proxies
        self._reach = reach
        guard = None if reach is Reach.CONFIGURED else guarded_socket_factory()
        self._socket_factory = socket_factory or guard

    async def connect(self, origin: str) -> Connection:
        """Connect to `https://host:port`. Raises NotSent."""
        url = URL(origin)
        host, port = url.raw_host or "", url.port or 0
        proxy = self._proxy_towards(url)
        try:
            peer = Peer(host, port, await trusted() if url.scheme == "https" else None)
            if proxy is not None:
                targets = await self._targets(proxy, host, port)
                return await connect_through(proxy, peer, targets, self._names, self._make)
            sock = await start_connection(
                await self._addresses(host, port),
                happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
                socket_factory=self._socket_factory,
            )
            return await connect_over(sock, peer, self._make)
        except AddressRefused:
            raise NotPublic from None
        except (socket.gaierror, UnicodeError):
            raise NotSent("its name cannot be resolved") from None
        except OSError as error:
            raise NotSent(cause(error)) from None

    def way(self, origin: str) -> str:
        """Which proxy a connection goes through, such as ` through the SOCKS5 proxy at …`; '' directly."""
        proxy = self._proxy_towards(URL(origin))
        return f" through {proxy}" if proxy else ""

    def _proxy_towards(self, url: URL) -> Proxy | None:
        if url.scheme != "https" and self._reach is not Reach.PUBLIC_ADDRESSES:
            return None
        return self._proxies.towards(url.scheme, url.raw_host or "", url.port or 0)

    async def _addresses(self, host: str, port: int) -> list[AddrInfoType]:
        return literal(host, port) or await self._names.resolve(host, port)

    async def _targets(self, proxy: Proxy, host: str, port: int) -> list[str]:
        """What a proxy is asked to connect to: the host, or its addresses. Raises NotPublic, OSError, UnicodeError."""
        if self._reach is Reach.PUBLIC_HOSTS and not is_public_host(host):
            raise NotPublic
        by_name = proxy.scheme != "socks5" and self._reach is not Reach.PUBLIC_ADDRESSES
        if by_name:
            return [host]
        found = [str(info[4][0]) for info in await self._addresses(host, port)]
        if self._reach is not Reach.CONFIGURED:
            found = [address for address in found if is_public(address)]
        if not found:
            raise NotPublic
        return found[:MOST_TARGETS]
