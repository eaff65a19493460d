"""Limits for all processes together: requests per minute and concurrent calls of each key, and calls of all keys.

A process counts its own calls first (`bridge.access.limits`), and then asks Redis, in one script for all limits. It
sends its own number of running calls, not an increment, and that number counts only while the process is alive: so no
call is counted forever because a reply was lost or a process died. Without Redis a process's own count decides.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from bridge.access.limits import WINDOW_SECONDS, Admission, Limiter, LimitExceeded, busy
from bridge.shared.link import DEAD_SECONDS, Link
from bridge.shared.script import Script
from bridge.state.errors import StateUnavailable

#: After how many seconds a number of running calls expires that is not refreshed; a link refreshes it more often.
COUNT_SECONDS: Final = 60.0
#: A call that begins just as another one ends may be refused because Redis does not know of that end yet. These are the
#: pauses before it asks a second and a third time, in seconds.
RETRY_SECONDS: Final = (0.02, 0.1)

_ADMIT: Final = Script("admit")


class RedisLimits:
    """The limits of all processes, with the interface of `bridge.access.limits.SharedLimits`.

    `limiter` counts the calls of this process.
    """

    def __init__(self, link: Link, limiter: Limiter) -> None:
        self._link = link
        self._limiter = limiter
        limiter.on_end(self._post_running)
        link.on_refresh(self.refresh)

    async def claim(self, key_id: str, *, rpm: int, concurrency: int, streams: int) -> Admission | None:
        """Claim the slot that the key's newest call has in `limiter`. Raises LimitExceeded.

        Returns None if Redis cannot be used, so that this process's own count decides.
        """
        try:
            refused, admission = await self._ask(key_id, rpm, concurrency, streams)
            for wait in RETRY_SECONDS:
                if refused in ("concurrency", "streams"):
                    await asyncio.sleep(wait)
                    refused, admission = await self._ask(key_id, rpm, concurrency, streams)
        except StateUnavailable:
            return None
        if not refused:
            return admission
        self._limiter.refund(key_id)
        if refused == "concurrency":
            raise LimitExceeded("concurrency", concurrency, busy(admission))
        if refused == "streams":
            raise LimitExceeded("streams", streams, busy(admission))
        raise LimitExceeded("rpm", rpm, admission)

    async def _ask(self, key_id: str, rpm: int, concurrency: int, streams: int) -> tuple[str, Admission]:
        link = self._link
        call = _ADMIT.call(
            (link.key("rpm", key_id), self._running_key(key_id), link.key("instances"), self._streams_key),
            link.settings.instance,
            self._limiter.running_of(key_id),
            rpm,
            round(WINDOW_SECONDS * 1000),
            concurrency,
            round(DEAD_SECONDS * 1000),
            round(COUNT_SECONDS * 1000),
            self._limiter.running,
            streams,
        )
        refused, remaining, reset, left = await link.call(call)
        wait = math.nextafter(left / 1000, math.inf) if left > 0 else 0.0
        return refused.decode(), Admission(not refused, rpm, remaining, max(0.0, reset / 1000), wait)

    async def refresh(self) -> None:
        """Send the numbers of running calls again."""
        expiry = round(COUNT_SECONDS * 1000)
        for key_id in self._limiter.running_keys:
            self._post_running(key_id)
            self._link.post(("PEXPIRE", self._running_key(key_id), expiry))
        if self._limiter.running:
            self._link.post(("PEXPIRE", self._streams_key, expiry))
        else:  # a lost command may have left a number
            self._link.post(("HDEL", self._streams_key, self._link.settings.instance))

    def _post_running(self, key_id: str) -> None:
        """Send how many calls of a key, and of all keys, run in this process."""
        link, running = self._link, self._limiter.running_of(key_id)
        me, redis_key = link.settings.instance, self._running_key(key_id)
        link.post(
            ("HSET", redis_key, me, running) if running else ("HDEL", redis_key, me),
            ("HSET", self._streams_key, me, self._limiter.running),
        )

    @property
    def _streams_key(self) -> str:
        return self._link.key("streams")

    def _running_key(self, key_id: str) -> str:
        return self._link.key("running", key_id)
