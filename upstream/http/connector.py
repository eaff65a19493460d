"""Makes new connections with asyncio's public API: direct or through a proxy, TLS or plain, to any or public hosts."""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import Enum
from typing import Final

from aiohappyeyeballs import SocketFactoryType, start_connection
from yarl import URL

from upstream.http.addresses import AddressRefused, guarded_socket_factory, is_public, is_public_host
from upstream.http.connection import Connection
from upstream.http.exchange_types import NotPublic, NotSent
from upstream.http.proxies import DIRECT, Proxies, Proxy
from upstream.http.resolver import NameResolver, resolve
from upstream.http.trust import tls_context
from upstream.http.tunnels import NEXT_ADDRESS_SECONDS, Peer, cause, connect_over, connect_through

#: How many addresses of one host are tried through a proxy, one after another.
MAX_TARGETS: Final = 4


class Reach(Enum):
    """Where connections may lead.

    Without a proxy, both PUBLIC kinds connect to public addresses only, checked at connect time. Through a proxy, which
    makes the final connection, they differ in who resolves the name.
    """

    #: Hosts from the configuration. Plain http never goes through a proxy, which would see the cookies.
    CONFIGURED = "configured"
    #: Hosts named by the site. A proxy gets the host name, which must look public.
    PUBLIC_HOSTS = "public hosts"
    #: Hosts named by a caller. Names are resolved here even for a proxy that could resolve them: the proxy gets the
    #: very address that was checked. Plain http goes through a proxy too, since there are no cookies.
    PUBLIC_ADDRESSES = "public addresses"


class Connector:
    """Makes connections; `new_connection` creates their protocol. `socket_factory` replaces the one for `reach`."""

    def __init__(
        self,
        new_connection: Callable[[], Connection],
        names: NameResolver,
        *,
        proxies: Proxies = DIRECT,
        reach: Reach = Reach.CONFIGURED,
        socket_factory: SocketFactoryType | None = None,
    ) -> None:
        self._new_connection = new_connection
        self._names = names
        self._proxies = proxies
        self._reach = reach
        guarded = None if reach is Reach.CONFIGURED else guarded_socket_factory()
        self._socket_factory = socket_factory or guarded

    async def connect(self, origin: str) -> Connection:
        """Connect to `https://host:port`. Raises NotSent."""
        url = URL(origin)
        host, port = url.raw_host or "", url.port or 0
        proxy = self._proxy_for(url)
        try:
            peer = Peer(host, port, await tls_context() if url.scheme == "https" else None)
            if proxy is not None:
                targets = await self._targets(proxy, host, port)
                return await connect_through(proxy, peer, targets, self._names, self._new_connection)
            sock = await start_connection(
                await resolve(self._names, host, port),
                happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
                socket_factory=self._socket_factory,
            )
            return await connect_over(sock, peer, self._new_connection)
        except AddressRefused:
            raise NotPublic from None
        except (socket.gaierror, UnicodeError):
            raise NotSent("its name cannot be resolved") from None
        except OSError as error:
            raise NotSent(cause(error)) from None

    def describe_proxy(self, origin: str) -> str:
        """Name the proxy in use, such as ` through the SOCKS5 proxy at …`; '' for a direct connection."""
        proxy = self._proxy_for(URL(origin))
        return f" through {proxy}" if proxy else ""

    def _proxy_for(self, url: URL) -> Proxy | None:
        if url.scheme != "https" and self._reach is not Reach.PUBLIC_ADDRESSES:
            return None
        return self._proxies.proxy_for(url.scheme, url.raw_host or "", url.port or 0)

    async def _targets(self, proxy: Proxy, host: str, port: int) -> list[str]:
        """The targets for a proxy: the host name, or its addresses. Raises NotPublic, OSError, UnicodeError."""
        if self._reach is Reach.PUBLIC_HOSTS and not is_public_host(host):
            raise NotPublic
        if proxy.scheme != "socks5" and self._reach is not Reach.PUBLIC_ADDRESSES:  # the proxy resolves the name
            return [host]
        found = [str(info[4][0]) for info in await resolve(self._names, host, port)]
        if self._reach is not Reach.CONFIGURED:
            found = [address for address in found if is_public(address)]
        if not found:
            raise NotPublic
        return found[:MAX_TARGETS]
