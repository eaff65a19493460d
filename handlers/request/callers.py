"""Who calls, and over what: the peer, or what a trusted proxy in front of us says of the one behind it."""

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
#: What a peer on a unix socket counts as.
_LOCAL: Final = IPv4Address("127.0.0.1")
#: What a caller is called whose connection was gone before its address could be asked for.
UNKNOWN: Final = "unknown"


def caller_address(request: web.BaseRequest, config: Config) -> str:
    """The caller's IP address, IPv4 inside IPv6 as IPv4; `unknown` if its connection was gone at once."""
    trusted = config.server.trusted_proxies
    forwarded_for = request.headers.getall("X-Forwarded-For", ()) if trusted else ()
    return nearest_stranger(request.remote, forwarded_for, trusted)


def is_secure(request: web.BaseRequest, config: Config) -> bool:
    """Whether the caller speaks TLS, to us or to a trusted proxy in front of us."""
    transport = request.transport
    ours = transport is not None and transport.get_extra_info("sslcontext") is not None
    forwarded_proto = request.headers.getall("X-Forwarded-Proto", ())
    return came_over_tls(request.remote, forwarded_proto, config.server.trusted_proxies, ours=ours)


def nearest_stranger(peer: str | None, forwarded_for: Iterable[str], trusted: Networks) -> str:
    """The nearest address that is no trusted proxy: from `peer` leftwards through the lines of X-Forwarded-For.

    Each trusted proxy answers for the hop that it names and for no other, so what stands left of a stranger, or of
    what is no address, is not believed. `peer` is no address on a unix socket, and None where it is not known.
    """
    if not trusted and peer in LOOPBACK:
        return peer
    address = _peer(peer)
    for hop in reversed(",".join(forwarded_for).split(",")):
        if not _is_trusted(address, trusted) or (before := _parse(hop)) is None:
            break
        address = before
    return UNKNOWN if address is None else str(address)


def came_over_tls(peer: str | None, forwarded_proto: Iterable[str], trusted: Networks, *, ours: bool) -> bool:
    """What a trusted peer says of its own caller (the last word in X-Forwarded-Proto), else `ours`."""
    word = ",".join(forwarded_proto).rpartition(",")[2].strip().lower()
    return word == "https" if word and _is_trusted(_peer(peer), trusted) else ours


def _peer(peer: str | None) -> _Address | None:
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
