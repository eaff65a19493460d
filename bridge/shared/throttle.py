"""The throttle of attempts at the dashboard's password, counted for all processes together."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from bridge.access.throttle import (
    BY_ADDRESS,
    FORGET_SECONDS,
    IN_ALL,
    MAX_KNOWN,
    Rule,
    Throttle,
    TooManyAttempts,
    network_of,
)
from bridge.shared.link import Link
from bridge.shared.script import Script
from bridge.state.errors import StateUnavailable

#: How long an address that has logged in is remembered, in seconds.
KNOWN_SECONDS: Final = 30 * 86_400

_ATTEMPT: Final = Script("attempt")
_SUCCEEDED: Final = Script("succeeded")


class RedisThrottle:
    """Counts failures in Redis, and also in `own`, which decides without Redis."""

    def __init__(self, link: Link, own: Throttle) -> None:
        self._link = link
        self._own = own

    async def attempt(self, address: str) -> None:
        """Count an attempt as a failure in advance, as `Throttle.attempt` does. Raises TooManyAttempts."""
        network = network_of(address)
        rules = (*_arguments(BY_ADDRESS), *_arguments(IN_ALL))
        call = _ATTEMPT.call(self._keys(network), network, *rules, round(FORGET_SECONDS * 1000))
        try:
            wait = await self._link.call(call)
        except StateUnavailable:
            wait = 0
        if wait:
            raise TooManyAttempts(wait / 1000)
        self._own.attempt(address)

    async def succeeded(self, address: str) -> None:
        """Forget the address's failures, as `Throttle.succeeded` does."""
        network = network_of(address)
        self._own.succeeded(address)
        with suppress(StateUnavailable):
            await self._link.call(_SUCCEEDED.call(self._keys(network), network, MAX_KNOWN, KNOWN_SECONDS * 1000))

    def _keys(self, network: str) -> tuple[str, str, str]:
        key = self._link.key
        return key("attempts", "of", network), key("attempts"), key("attempts", "known")


def _arguments(rule: Rule) -> tuple[int, int]:
    return rule.first, round(rule.longest * 1000)
