"""Protection against SSRF: URLs from untrusted sources may only lead to public addresses, checked at connect time.

Checking the URL or an earlier DNS answer leaves a gap: the name may resolve to something else a moment later. A socket
factory receives the exact address that is connected to, whether it was literal or came from DNS.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from aiohappyeyeballs import AddrInfoType, SocketFactoryType

# `is_global` differs between patch releases of Python and accepts 6to4, NAT64 and multicast, so this table replaces it.
# Sources: IANA's special-purpose address registries for IPv4 and IPv6.
_NOT_PUBLIC_V4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network; Linux connects 0.0.0.0 to itself
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT; clouds keep metadata there too
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure's own host, from inside its machines
            "169.254.0.0/16",  # link-local: cloud metadata
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # automatic multicast tunnelling
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
#: All routed addresses; it excludes ::1, IPv4-mapped, NAT64 (64:ff9b::), unique local, link- and site-local, multicast.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: carries any IPv4 address
            "3fff::/20",  # documentation
        ),
    )
)
#: Domains reserved for local networks (RFC 6761, 6762, 8375, 9476 and ICANN's reservation of .internal).
_LOCAL_DOMAINS: Final = ("localhost", "local", "internal", "home.arpa", "test", "alt")


class AddressRefused(OSError):
    """The address is not public. The text does not name it: that would reveal the internal network to the caller."""

    def __init__(self) -> None:
        super().__init__("the address is not public")


def is_public(address: str) -> bool:
    """Whether a literal address is on the public Internet. Any other notation than the standard one is rejected."""
    try:
        parsed = ip_address(address)
    except ValueError:  # `127.1`, `0177.0.0.1`, `2130706433`: the system would still connect to these
        return False
    return _is_public_v4(parsed) if isinstance(parsed, IPv4Address) else _is_public_v6(parsed)


def is_public_host(host: str) -> bool:
    """Whether a host is public, judging by its name alone; nothing is resolved."""
    name = host.rstrip(".").lower()
    if ":" in name or name.replace(".", "").isdigit():
        return is_public(name)
    return "." in name and not name.endswith(tuple(f".{domain}" for domain in _LOCAL_DOMAINS))


def _open(info: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = info
    return socket.socket(family, kind, protocol)


def guarded_socket_factory(opening: Callable[[AddrInfoType], socket.socket] = _open) -> SocketFactoryType:
    """Make a factory for `aiohappyeyeballs.start_connection` that refuses addresses that are not public.

    `opening` creates the socket once the address has been accepted. The factory raises AddressRefused.
    """

    def guarded(info: AddrInfoType) -> socket.socket:
        if info[0] not in (socket.AF_INET, socket.AF_INET6) or not is_public(info[4][0]):
            raise AddressRefused
        return opening(info)

    return guarded


def _is_public_v4(address: IPv4Address) -> bool:
    return not any(address in network for network in _NOT_PUBLIC_V4)


def _is_public_v6(address: IPv6Address) -> bool:
    return (
        address.scope_id is None
        and address in _GLOBAL_UNICAST
        and not any(address in network for network in _NOT_PUBLIC_V6)
    )
