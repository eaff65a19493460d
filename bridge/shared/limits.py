"""The limits over all processes: a key's requests per minute in one window, its concurrent calls and all keys' counted.

A process counts its own calls first (`bridge.access.limits`), and then asks Redis, in one step for all limits. What it
tells there is its own number of running calls, not one more or one less: a reply that was lost, or a process that dies,
leaves no call behind, since the number of a process counts for as long as that is alive. Without Redis the own count
holds.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from bridge.access.limits import WINDOW_SECONDS, Admission, Limiter, LimitExceeded, busy
from bridge.shared.link import DEAD_SECONDS, Link
from bridge.shared.script import Script
from bridge.state.documents import StateUnavailable

#: How long running calls are believed that are not told again, in seconds; a link repeats more often.
BELIEVED_SECONDS: Final = 60.0
#: A call that comes just as another one ends is refused until the others know of that end: how long it waits before it
#: asks again, and once more, in seconds.
SETTLING_SECONDS: Final = (0.02, 0.1)


_ADMIT: Final = Script("admit")


class RedisLimits:
    """The limits that all processes keep together, with the interface of `bridge.access.limits.SharedLimits`.

    `limiter` counts this one's calls.
    """

    def __init__(self, link: Link, limiter: Limiter) -> None:
        self._link = link
        self._limiter = limiter
        limiter.tell(self._ended)
        link.on_refresh(self.repeat)

    async def claim(self, key_id: str, *, rpm: int, concurrency: int, streams: int) -> Admission | None:
        """Claim the slot that the key's newest call has here; None where Redis cannot say, and the own count holds.

        Raises LimitExceeded.
        """
        try:
            refused, admission = await self._ask(key_id, rpm, concurrency, streams)
            for wait in SETTLING_SECONDS:
                if refused in ("concurrency", "streams"):
                    await asyncio.sleep(wait)
                    refused, admission = await self._ask(key_id, rpm, concurrency, streams)
        except StateUnavailable:
            return None
        if not refused:
            return admission
        self._limiter.take_back(key_id)
        if refused == "concurrency":
            raise LimitExceeded("concurrency", concurrency, busy(admission))
        if refused == "streams":
            raise LimitExceeded("streams", streams, busy(admission))
        raise LimitExceeded("rpm", rpm, admission)

    async def _ask(self, key_id: str, rpm: int, concurrency: int, streams: int) -> tuple[str, Admission]:
        link = self._link
        call = _ADMIT.call(
            (link.key("rpm", key_id), self._running(key_id), link.key("instances"), self._streams),
            link.settings.instance,
            self._limiter.running_of(key_id),
            rpm,
            round(WINDOW_SECONDS * 1000),
            concurrency,
            round(DEAD_SECONDS * 1000),
            round(BELIEVED_SECONDS * 1000),
            self._limiter.running,
            streams,
        )
        refused, remaining, reset, left = await link.call(call)
        wait = math.nextafter(left / 1000, math.inf) if left > 0 else 0.0
        return refused.decode(), Admission(not refused, rpm, remaining, max(0.0, reset / 1000), wait)

    async def repeat(self) -> None:
        """Tell the numbers of running calls again. Raises SharedStateDown."""
        believed = round(BELIEVED_SECONDS * 1000)
        for key_id in self._limiter.running_keys:
            self._ended(key_id)
            self._link.post(("PEXPIRE", self._running(key_id), believed))
        if self._limiter.running:
            self._link.post(("PEXPIRE", self._streams, believed))
        else:  # whatever stands there
            self._link.post(("HDEL", self._streams, self._link.settings.instance))

    def _ended(self, key_id: str) -> None:
        """Tell how many calls run now."""
        link, running = self._link, self._limiter.running_of(key_id)
        me, place = link.settings.instance, self._running(key_id)
        link.post(
            ("HSET", place, me, running) if running else ("HDEL", place, me),
            ("HSET", self._streams, me, self._limiter.running),
        )

    @property
    def _streams(self) -> str:
        return self._link.key("streams")

    def _running(self, key_id: str) -> str:
        return self._link.key("running", key_id)
