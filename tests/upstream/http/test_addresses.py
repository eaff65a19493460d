"""Connections are made to public addresses only, whether literal or from DNS."""

from __future__ import annotations

import socket

import pytest

from upstream.http.addresses import AddressRefused, guarded_socket_factory, is_public, is_public_host

PUBLIC = ["1.1.1.1", "93.184.215.14", "172.15.0.1", "172.32.0.1", "192.0.1.1", "100.63.0.1", "223.255.255.255"]
PUBLIC += ["2606:4700:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "2003::1"]

REFUSED = {
    "this host": "0.0.0.0",  # noqa: S104 - nothing is bound
    "this network": "0.1.2.3",
    "private, class A": "10.1.2.3",
    "private, class B, first": "172.16.0.0",
    "private, class B, last": "172.31.255.255",
    "private, class C": "192.168.0.1",
    "carrier-grade NAT": "100.64.0.1",
    "a cloud's metadata in it": "100.100.100.200",
    "loopback": "127.0.0.1",
    "loopback, elsewhere": "127.255.255.254",
    "link-local: cloud metadata": "169.254.169.254",
    "Azure's host": "168.63.129.16",
    "protocol assignments": "192.0.0.192",
    "documentation": "203.0.113.7",
    "6to4 relay": "192.88.99.1",
    "benchmarks": "198.19.255.255",
    "multicast": "224.0.0.1",
    "multicast, administrative": "239.255.255.250",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "IPv6 unspecified": "::",
    "IPv6 loopback": "::1",
    "IPv4-mapped": "::ffff:127.0.0.1",
    "IPv4-mapped, of a public one": "::ffff:1.1.1.1",
    "IPv4-compatible": "::127.0.0.1",
    "IPv4-translated": "::ffff:0:127.0.0.1",
    "NAT64": "64:ff9b::7f00:1",
    "NAT64, of a public one": "64:ff9b::1.1.1.1",
    "NAT64, local use": "64:ff9b:1::a00:1",
    "discard": "100::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "ORCHID": "2001:20::1",
    "IPv6 benchmarks": "2001:2::1",
    "IPv6 documentation": "2001:db8::1",
    "IPv6 documentation, the large one": "3fff::1",
    "6to4": "2002:7f00:1::1",
    "segment routing": "5f00::1",
    "unique local": "fd00:ec2::254",
    "unique local, unassigned half": "fc00::1",
    "IPv6 link-local": "fe80::1",
    "IPv6 site-local": "fec0::1",
    "IPv6 multicast": "ff02::1",
    "scoped": "fe80::1%eth0",
    "scoped, of a public one": "2606:4700:4700::1111%eth0",
    "decimal": "2130706433",
    "hexadecimal": "0x7f000001",
    "hexadecimal parts": "0x7f.0x0.0x0.0x1",
    "octal": "0177.0.0.1",
    "short": "127.1",
    "public, but short": "1.1",
    "bracketed": "[2606:4700:4700::1111]",
    "a name": "example.org",
    "nothing": "",
    "with a blank": "1.1.1.1 ",
    "with a port": "1.1.1.1:80",
    "digits of another script": "١.١.١.١",
}


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_recognised(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", REFUSED.values(), ids=REFUSED)
def test_an_address_that_is_not_public_is_refused_before_a_socket_is_made(address: str) -> None:
    assert not is_public(address)
    made: list[object] = []

    def opening(info: object) -> socket.socket:
        made.append(info)
        return socket.socket()

    family, rest = (socket.AF_INET6, (0, 0)) if ":" in address else (socket.AF_INET, ())
    with pytest.raises(AddressRefused) as caught:
        guarded_socket_factory(opening)((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 80, *rest)))
    assert not made
    assert address not in str(caught.value) or not address


def test_a_public_address_gets_a_socket_of_its_family() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("1.1.1.1", 443))
    with guarded_socket_factory()(info) as made:
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_STREAM)


def test_a_unix_socket_is_not_a_public_address() -> None:
    with pytest.raises(AddressRefused):
        guarded_socket_factory()((socket.AF_UNIX, socket.SOCK_STREAM, 0, "", ("/run/docker.sock",)))


@pytest.mark.parametrize("host", ["lmarena.ai", "ARENA.AI.", "1.1.1.1", "2606:4700:4700::1111", "0x7f.1"])
def test_a_host_with_a_public_name_is_public(host: str) -> None:
    assert is_public_host(host)


@pytest.mark.parametrize(
    "host",
    ["localhost", "arena", "arena.localhost", "arena.internal.", "10.0.0.1", "127.0.0.1", "::1", "2130706433", ""],
)
def test_a_host_with_a_local_name_is_not_public(host: str) -> None:
    assert not is_public_host(host)
