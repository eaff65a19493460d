"""Connections through a proxy: CONNECT (RFC 9110, 9.3.6) over plain TCP or TLS, and SOCKS5 by python-socks.

TLS to the peer runs inside the tunnel: the proxy sees the peer's name or address, and no headers.
"""

from __future__ import annotations

import asyncio
import base64
import math
import os
import ssl
from collections.abc import Callable
from http import HTTPStatus
from socket import socket
from typing import Final, NamedTuple

from aiohappyeyeballs import AddrInfoType, start_connection

from upstream.http.connection import Connection
from upstream.http.exchange_types import HttpError, NotSent
from upstream.http.proxies import Proxy
from upstream.http.resolver import NameResolver, resolve
from upstream.http.trust import tls_context

#: How long to wait for a peer's first address before trying the next one in parallel, in seconds (RFC 8305, 5).
NEXT_ADDRESS_SECONDS: Final = 0.25
#: How long a closing TLS connection waits for its peer's close_notify, in seconds.
TLS_SHUTDOWN_SECONDS: Final = 1.0
#: Replaces python-socks' own timeout, since the pool has one.
_NO_LIMIT_SECONDS: Final = 86_400.0


class Peer(NamedTuple):
    """The final destination of a connection. `tls` is None for plain http; the certificate must be for `host`."""

    host: str
    port: int
    tls: ssl.SSLContext | None

    @property
    def server_name(self) -> str | None:
        """The `server_hostname` for asyncio's TLS."""
        return self.host.rstrip(".") if self.tls else None


async def connect_through(
    proxy: Proxy, peer: Peer, targets: list[str], names: NameResolver, new_connection: Callable[[], Connection]
) -> Connection:
    """Connect to a peer through a proxy; `targets` are its name or its addresses, tried in turn.

    Raises NotSent if the proxy fails, and OSError if TLS with the peer fails.
    """
    addresses = await _addresses_of(proxy, names)
    reason = "it has no address"
    for target in targets:
        try:
            if proxy.is_socks:
                return await _through_socks(proxy, peer, target, addresses, new_connection)
            return await _through_connect(proxy, peer, target, addresses, new_connection)
        except NotSent as error:
            reason = error.cause
    raise NotSent(reason)


async def _addresses_of(proxy: Proxy, names: NameResolver) -> list[AddrInfoType]:
    try:
        return await resolve(names, proxy.host, proxy.port)
    except (OSError, UnicodeError):
        raise NotSent(f"the name of {proxy} cannot be resolved") from None


async def _through_socks(
    proxy: Proxy, peer: Peer, target: str, addresses: list[AddrInfoType], new_connection: Callable[[], Connection]
) -> Connection:
    # Imported on first use: most daemons use no proxy.
    from python_socks import ProxyConnectionError, ProxyError, ProxyType
    from python_socks.async_.asyncio import Proxy as Socks

    failed = f"{proxy} cannot be reached"
    for *_, (address, *_) in addresses:
        socks = Socks(ProxyType.SOCKS5, str(address), proxy.port, proxy.user, proxy.password, rdns=True)
        try:
            sock = await socks.connect(target, peer.port, timeout=_NO_LIMIT_SECONDS)
        except ProxyConnectionError as error:  # not chained: its text has the address
            failed = f"{proxy} cannot be reached: {cause(error)}"
        except ProxyError as error:  # the library's text contains no secrets
            raise NotSent(f"{proxy} refused: {str(error).lower()}") from None
        except OSError as error:
            raise NotSent(f"the connection to {proxy} failed: {cause(error)}") from None
        except ValueError:  # the reply is not SOCKS5, or the name cannot be encoded
            raise NotSent(f"{proxy} did not answer as a proxy") from None
        else:
            return await connect_over(sock, peer, new_connection)
    raise NotSent(failed)


async def connect_over(sock: socket, peer: Peer, new_connection: Callable[[], Connection]) -> Connection:
    """Make a connection from a connected socket, with TLS if the peer uses it. Raises OSError."""
    connection = new_connection()
    try:
        await asyncio.get_running_loop().create_connection(
            lambda: connection,
            sock=sock,
            ssl=peer.tls,
            server_hostname=peer.server_name,
            ssl_shutdown_timeout=TLS_SHUTDOWN_SECONDS if peer.tls else None,
        )
    except BaseException:  # reraised; after a cancellation nobody would close the socket
        connection.abort()  # TLS just established would close gracefully, and later use the number of a closed socket
        sock.close()
        raise
    return connection


async def _through_connect(
    proxy: Proxy, peer: Peer, target: str, addresses: list[AddrInfoType], new_connection: Callable[[], Connection]
) -> Connection:
    hop = Peer(proxy.host, proxy.port, await tls_context() if proxy.scheme == "https" else None)
    try:
        sock = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
        to_proxy = await connect_over(sock, hop, new_connection)
    except OSError as error:
        raise NotSent(f"{proxy} cannot be reached: {cause(error)}") from None
    try:
        head = await to_proxy.send(_connect_request(proxy, target, peer.port), None, math.inf)
    except HttpError:
        to_proxy.abort()
        raise NotSent(f"{proxy} did not answer as a proxy") from None
    except BaseException:  # reraised; a cancelled tunnel has no other owner
        to_proxy.abort()
        raise
    if not HTTPStatus.OK <= head.status < HTTPStatus.MULTIPLE_CHOICES:
        to_proxy.abort()
        raise NotSent(f"{proxy} refused: {_refusal(proxy, head.status)}")
    transport = to_proxy.detach()
    if transport is None:
        to_proxy.abort()
        raise NotSent(f"{proxy} closed the connection")
    return await _over_transport(transport, peer, new_connection())


async def _over_transport(transport: asyncio.Transport, peer: Peer, connection: Connection) -> Connection:
    """Make a connection to the peer over an established tunnel."""
    if peer.tls is None:
        transport.set_protocol(connection)
        connection.connection_made(transport)
        return connection
    try:
        over_tls = await asyncio.get_running_loop().start_tls(
            transport,
            connection,
            peer.tls,
            server_hostname=peer.server_name,
            ssl_shutdown_timeout=TLS_SHUTDOWN_SECONDS,
        )
    except BaseException:  # reraised; after a cancellation nobody would close the transport
        transport.abort()
        raise
    if over_tls is None:
        raise ConnectionResetError
    connection.connection_made(over_tls)
    return connection


def _connect_request(proxy: Proxy, target: str, port: int) -> bytes:
    authority = f"[{target}]:{port}" if ":" in target else f"{target}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.user or proxy.password:
        credentials = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {credentials}")
    return "\r\n".join([*lines, "", ""]).encode()


def _refusal(proxy: Proxy, status: int) -> str:
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return "its user name or password is wrong" if proxy.user else "it demands a user name and a password"
    return f"it answered with status {status}"


def cause(error: OSError) -> str:
    """Why no connection was made, in the system's words, without addresses or anything the peer sent."""
    if isinstance(error, ssl.SSLError):
        return "its TLS certificate or handshake is not valid"
    return os.strerror(error.errno).lower() if error.errno else "the connection failed"
