"""The site's clock, read from the `Date` headers of its answers.

Ids contain the time, and the site refuses those that differ from its clock by minutes (docs/protocol.md, "Ids and the
clock"). Tokens expire by the site's clock, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

#: A smaller difference is not corrected, in seconds: `Date` has whole seconds, and the answer took time to arrive.
TOLERANCE_SECONDS: Final = 60.0
#: How often a header is parsed, in seconds: it takes as long as parsing the rest of the head.
CHECK_SECONDS: Final = 10.0


class SiteClock:
    """Unix time in seconds, corrected by the difference to the site's clock if that exceeds the tolerance."""

    def __init__(self, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._next_check = 0.0
        self._offset = 0.0  # between our two clocks at the last check: a change means that the wall clock was set
        #: Seconds that the site's clock is ahead of this machine's; 0 if within the tolerance.
        self.skew = 0.0

    def __call__(self) -> float:
        """The time by the site's clock."""
        return self._clock() + self.skew

    def learn(self, headers: Mapping[str, str], *, now: bool) -> None:
        """Update the skew from the headers of a fresh answer; answers from a cache (`Age`) are ignored.

        Only every `CHECK_SECONDS`, unless `now` is true or this machine's clock has been set.
        """
        monotonic = self._monotonic()
        offset = self._clock() - monotonic
        if not now and monotonic < self._next_check and abs(offset - self._offset) <= TOLERANCE_SECONDS:
            return
        date = headers.get("Date")
        if date is None or "Age" in headers:
            return
        self._next_check, self._offset = monotonic + CHECK_SECONDS, offset
        try:
            skew = parsedate_to_datetime(date).timestamp() - self._clock()
        except (ValueError, OverflowError):  # not a date, or its numbers are out of range
            return
        self.skew = skew if abs(skew) > TOLERANCE_SECONDS else 0.0
