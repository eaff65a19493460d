"""Throttling of password attempts, by address and in total, with exponential backoff. Times are monotonic seconds.

One address waits up to a quarter of an hour. Failures of all addresses together cause a wait of a few seconds at most,
and an address that has logged in before is exempt from it, so an attacker cannot lock the owner out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple

#: After this time without a failure, earlier failures no longer count.
FORGET_SECONDS: Final = 24 * 3600.0
#: The most addresses whose failures are remembered; the oldest are evicted. The total limits attackers with more.
MAX_ADDRESSES: Final = 1000
#: The most addresses that are remembered as having logged in before.
MAX_KNOWN: Final = 100


class TooManyAttempts(Exception):
    """An attempt was refused, and its password must not be checked; `retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many attempts: try again in {math.ceil(retry_after)} s")
        self.retry_after = retry_after


class Rule(NamedTuple):
    """Failure number `first` causes a wait of 1 s, each further one twice as much, up to `longest` seconds."""

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
        # Rounded up by one float step, so that now + wait is never just before `until`.
        return math.nextafter(until - now, math.inf) if now < until else 0.0


class Throttle:
    """Counts the failures of all addresses. Call `attempt` before checking a password, `succeeded` if it is right."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_address: dict[str, _Failures] = {}  # the least recent failure first
        self._in_all = _Failures()
        self._known: dict[str, None] = {}  # the least recent success first

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0 means now."""
        return self._wait(network_of(address), self._clock())

    def attempt(self, address: str) -> None:
        """Count an attempt as a failure in advance, so that concurrent and abandoned attempts count too.

        Raises TooManyAttempts; such a refusal is not counted, so a caller that waits as told may try again.
        """
        network, now = network_of(address), self._clock()
        if wait := self._wait(network, now):
            raise TooManyAttempts(wait)
        failures = self._by_address.pop(network, _Failures())
        self._make_room(now)
        self._by_address[network] = failures
        failures.add(now)
        self._in_all.add(now)

    def succeeded(self, address: str) -> None:
        """Forget the failures of an address, and subtract its last attempt from the total."""
        network = network_of(address)
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
        """Evict the oldest addresses while their failures no longer count or the table is full."""
        while self._by_address:
            oldest = next(iter(self._by_address))
            if len(self._by_address) < MAX_ADDRESSES and not self._by_address[oldest].forgotten(now):
                return
            del self._by_address[oldest]


def network_of(address: str) -> str:
    """The unit that is throttled: an IPv4 address, or the /64 of an IPv6 address, which one household has."""
    try:
        ip = ip_address(address)
    except ValueError:  # peers on a Unix socket have no address and count as one
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or IPv6Network((int(ip), 64), strict=False))
