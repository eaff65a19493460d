"""The caller's address, and whether it uses TLS: from the connection, or as a trusted proxy reports it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

from aiohttp import web

from bridge.config.schema import Config
from bridge.config.values import Networks

_Address: TypeAlias = IPv4Address | IPv6Address

#: Callers on this machine.
LOOPBACK: Final = frozenset(("127.0.0.1", "::1"))
#: The address that a peer on a unix socket is given.
_LOCAL: Final = IPv4Address("127.0.0.1")
#: In place of the address of a caller whose connection was closed before it could be read.
UNKNOWN: Final = "unknown"


def caller_address(request: web.BaseRequest, config: Config) -> str:
    """The caller's IP address (IPv4-mapped IPv6 as IPv4), or UNKNOWN if its connection was already closed."""
    trusted = config.server.trusted_proxies
    forwarded_for = request.headers.getall("X-Forwarded-For", ()) if trusted else ()
    return nearest_untrusted(request.remote, forwarded_for, trusted)


def is_secure(request: web.BaseRequest, config: Config) -> bool:
    """Whether the caller uses TLS, to the daemon or to a trusted proxy in front of it."""
    transport = request.transport
    direct = transport is not None and transport.get_extra_info("sslcontext") is not None
    forwarded_proto = request.headers.getall("X-Forwarded-Proto", ())
    return came_over_tls(request.remote, forwarded_proto, config.server.trusted_proxies, direct=direct)


def nearest_untrusted(peer: str | None, forwarded_for: Iterable[str], trusted: Networks) -> str:
    """The nearest address that is not a trusted proxy: from `peer` leftwards through X-Forwarded-For.

    A trusted proxy vouches only for the hop that it appends, so everything left of an untrusted address, or of
    something that is not an address, is ignored. `peer` is not an address on a unix socket, and None if unknown.
    """
    if not trusted and peer in LOOPBACK:
        return peer
    address = _peer_address(peer)
    for hop in reversed(",".join(forwarded_for).split(",")):
        if not _is_trusted(address, trusted) or (before := _parse(hop)) is None:
            break
        address = before
    return UNKNOWN if address is None else str(address)


def came_over_tls(peer: str | None, forwarded_proto: Iterable[str], trusted: Networks, *, direct: bool) -> bool:
    """Whether the last word in X-Forwarded-Proto is `https`, if a trusted proxy sent one; else `direct`."""
    word = ",".join(forwarded_proto).rpartition(",")[2].strip().lower()
    return word == "https" if word and _is_trusted(_peer_address(peer), trusted) else direct


def _peer_address(peer: str | None) -> _Address | None:
    return None if peer is None else _parse(peer) or _LOCAL


def _is_trusted(address: _Address | None, trusted: Networks) -> bool:
    return address is not None and any(address in network for network in trusted)


def _parse(hop: str) -> _Address | None:
    """An address as proxies write it: bare, `1.2.3.4:5678`, `[::1]` or `[::1]:5678`; its zone is dropped."""
    text = hop.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
