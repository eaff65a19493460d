"""Wrong passwords: how long one must wait for the next try, by address and in all. Times are of a monotonic clock.

From some failure on each one doubles the wait. An address waits up to a quarter of an hour. All of them together wait
a few seconds at most, which no number of addresses can lengthen, and an address that has once been let in does not
wait for the others: nobody can lock the owner out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple

#: After so long without a failure the earlier ones no longer count.
FORGET_SECONDS: Final = 24 * 3600.0
#: Addresses whose failures are remembered; the least recent go first. More than that keep each other waiting anyway.
MAX_ADDRESSES: Final = 1000
#: Addresses that were once let in.
MAX_KNOWN: Final = 100


class TooManyAttempts(Exception):
    """A try was refused, and its password must not be looked at; `retry_after` says when to come again (seconds)."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many attempts: try again in {math.ceil(retry_after)} s")
        self.retry_after = retry_after


class Rule(NamedTuple):
    """The failure of number `first` costs 1 s, each further one twice as much, `longest` seconds at most."""

    first: int
    longest: float


BY_ADDRESS: Final = Rule(first=5, longest=900.0)
IN_ALL: Final = Rule(first=50, longest=10.0)


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last: float = -math.inf

    def add(self, now: float) -> None:
        self.count = 1 if self.forgotten(now) else self.count + 1
        self.last = now

    def forgotten(self, now: float) -> bool:
        return now - self.last >= FORGET_SECONDS

    def wait(self, rule: Rule, now: float) -> float:
        beyond = self.count - rule.first
        if beyond < 0 or self.forgotten(now):
            return 0.0
        until = self.last + min(2.0 ** min(beyond, 30), rule.longest)
        # One step of a float up, so that now + wait is never rounded to just before.
        return math.nextafter(until - now, math.inf) if now < until else 0.0


class Throttle:
    """The failures of all addresses. `attempt` before the password is looked at, `succeeded` when it was right."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_address: dict[str, _Failures] = {}  # the least recent failure first
        self._in_all = _Failures()
        self._known: dict[str, None] = {}  # the least recent success first

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0 is now."""
        return self._wait(_network(address), self._clock())

    def attempt(self, address: str) -> None:
        """Count a failure at once: tries that run side by side see each other, and one that is given up counts.

        Raises TooManyAttempts, which counts nothing, so that whoever waits as told is let in.
        """
        network, now = _network(address), self._clock()
        if wait := self._wait(network, now):
            raise TooManyAttempts(wait)
        failures = self._by_address.pop(network, _Failures())
        self._make_room(now)
        self._by_address[network] = failures
        failures.add(now)
        self._in_all.add(now)

    def succeeded(self, address: str) -> None:
        """Forget the address's failures, and take its attempt back from the count of all."""
        network = _network(address)
        if self._by_address.pop(network, None):
            self._in_all.count -= 1
        self._known.pop(network, None)
        self._known[network] = None
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def _wait(self, network: str, now: float) -> float:
        own = self._by_address.get(network, _Failures()).wait(BY_ADDRESS, now)
        return own if network in self._known else max(own, self._in_all.wait(IN_ALL, now))

    def _make_room(self, now: float) -> None:
        """Drop the oldest where they no longer count, or where one more would be too many."""
        while self._by_address:
            oldest = next(iter(self._by_address))
            if len(self._by_address) < MAX_ADDRESSES and not self._by_address[oldest].forgotten(now):
                return
            del self._by_address[oldest]


def _network(address: str) -> str:
    """Who counts as one: an IPv4 address, or the /64 of an IPv6 address, which is what one household has."""
    try:
        ip = ip_address(address)
    except ValueError:  # a Unix socket's peer has none: all of them are one
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or IPv6Network((int(ip), 64), strict=False))
