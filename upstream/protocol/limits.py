"""What the site's answers say of an account's limits, in two headers (docs/protocol.md, "Limits"), and what follows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

#: How long it is believed how many requests are left, in seconds, where the site does not say when that changes.
BELIEVED_SECONDS: Final = 60.0
_MAX_CHARS: Final = 200
_FIELD: Final = re.compile(r"\b(limit|remaining|reset) *= *(\d{1,12})\b", re.ASCII)
_POLICY: Final = re.compile(r"(\d{1,12}) *; *w *= *(\d{1,12})\b", re.ASCII)


class Limit(NamedTuple):
    """So many requests may be made in a window, `remaining` of them still. None is what the site has not named.

    `reset` and `window` are in seconds.
    """

    limit: int
    remaining: int | None = None
    reset: int | None = None
    window: int | None = None

    def left(self, age: float) -> int | None:
        """How many requests are left `age` seconds after this was said, as far as anybody can know; None if nobody can.

        All are, once the limit starts again: after `reset`, or else at the latest after a whole window.
        """
        anew = self.window if self.reset is None else self.reset
        if self.remaining is None or (anew is None and age > BELIEVED_SECONDS):
            return None
        return self.remaining if anew is None or age < anew else self.limit


def with_most_left(left: Sequence[int | None]) -> Sequence[int]:
    """Which of these accounts, by their places, are asked first: those with most requests left, None where unknown.

    As long as one is not known, all take turns, except those that are known to have nothing left.
    """
    places = [place for place, each in enumerate(left) if each is None or each > 0] or range(len(left))
    known = [each for place in places if (each := left[place]) is not None]
    if len(known) < len(places):
        return places
    most = max(known, default=0)
    return [place for place in places if left[place] == most]


def read_limit(ratelimit: str, policy: str = "") -> Limit | None:
    """Read both headers; '' is one that is missing. None where they name no limit."""
    found = {name: int(number) for name, number in _FIELD.findall(ratelimit[:_MAX_CHARS])}
    named = _POLICY.search(policy[:_MAX_CHARS])
    limit = found.get("limit", int(named[1]) if named else None)
    if limit is None:
        return None
    return Limit(limit, found.get("remaining"), found.get("reset"), int(named[2]) if named else None)
