"""The site's clock, as the `Date` headers of its answers show it.

Ids carry the time, and the site refuses those that are minutes away from its own (docs/protocol.md, "Ids and the
clock"). The end of a token is a time of the site's, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

#: A smaller difference is not corrected, in seconds: `Date` has whole seconds, and the answer has travelled.
TOLERANCE_SECONDS: Final = 60.0
#: How often a header is looked at, in seconds: parsing one takes as long as reading the rest of the head.
LOOK_SECONDS: Final = 10.0


class SiteClock:
    """Unix time in seconds, corrected by what the site's clock differs where that is too much."""

    def __init__(self, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._look_at = 0.0
        self._offset = 0.0  # of the two clocks when a header was last looked at: it shows that one was set
        #: Seconds that the site's clock is ahead of this machine's; 0 while that is tolerable.
        self.skew = 0.0

    def __call__(self) -> float:
        """The time by the site's clock."""
        return self._clock() + self.skew

    def learn(self, headers: Mapping[str, str], *, now: bool = False) -> None:
        """Take the time from an answer that has just come; one from a cache (`Age`) tells nothing.

        Only every `LOOK_SECONDS` unless `now` is said, or this machine's clock has been set.
        """
        monotonic = self._monotonic()
        offset = self._clock() - monotonic
        if not now and monotonic < self._look_at and abs(offset - self._offset) <= TOLERANCE_SECONDS:
            return
        date = headers.get("Date")
        if date is None or "Age" in headers:
            return
        self._look_at, self._offset = monotonic + LOOK_SECONDS, offset
        try:
            skew = parsedate_to_datetime(date).timestamp() - self._clock()
        except (ValueError, OverflowError):  # no date, or one with numbers beyond all bounds
            return
        self.skew = skew if abs(skew) > TOLERANCE_SECONDS else 0.0
