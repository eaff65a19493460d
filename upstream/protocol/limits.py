"""An account's rate limits as the site reports them in two headers (docs/protocol.md, "Limits")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

#: How long a number of remaining requests is valid if the site does not say when the limit resets, in seconds.
VALID_SECONDS: Final = 60.0
_MAX_CHARS: Final = 200
_FIELD: Final = re.compile(r"\b(limit|remaining|reset) *= *(\d{1,12})\b", re.ASCII)
_POLICY: Final = re.compile(r"(\d{1,12}) *; *w *= *(\d{1,12})\b", re.ASCII)


class Limit(NamedTuple):
    """At most `limit` requests are allowed in a window of `window` seconds; `remaining` of them are left.

    The limit resets in `reset` seconds. A field is None if the site did not report it.
    """

    limit: int
    remaining: int | None = None
    reset: int | None = None
    window: int | None = None

    def left(self, age: float) -> int | None:
        """How many requests are left `age` seconds after the site's report; None if that cannot be known.

        All of them are after `reset` or, if that is unknown, after a whole window.
        """
        resets_after = self.window if self.reset is None else self.reset
        if self.remaining is None or (resets_after is None and age > VALID_SECONDS):
            return None
        return self.remaining if resets_after is None or age < resets_after else self.limit


def with_most_left(left: Sequence[int | None]) -> Sequence[int]:
    """The indices of the accounts with most requests left, given the number for each, None where it is unknown.

    While it is unknown for one of them, these are all accounts but those that are known to have none left.
    """
    indices = [index for index, each in enumerate(left) if each is None or each > 0] or range(len(left))
    known = [each for index in indices if (each := left[index]) is not None]
    if len(known) < len(indices):
        return indices
    most = max(known, default=0)
    return [index for index in indices if left[index] == most]


def read_limit(ratelimit: str, policy: str) -> Limit | None:
    """Parse the headers `ratelimit` and `ratelimit-policy`, '' for a missing one; None if they name no limit."""
    found = {name: int(number) for name, number in _FIELD.findall(ratelimit[:_MAX_CHARS])}
    quota = _POLICY.search(policy[:_MAX_CHARS])
    limit = found.get("limit", int(quota[1]) if quota else None)
    if limit is None:
        return None
    return Limit(limit, found.get("remaining"), found.get("reset"), int(quota[2]) if quota else None)
