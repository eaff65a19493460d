"""What the site's answers say of an account's limits, in two headers (docs/protocol.md, "Limits")."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

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


def read_limit(ratelimit: str, policy: str = "") -> Limit | None:
    """Read both headers; '' is one that is missing. None where they name no limit."""
    found = {name: int(number) for name, number in _FIELD.findall(ratelimit[:_MAX_CHARS])}
    named = _POLICY.search(policy[:_MAX_CHARS])
    limit = found.get("limit", int(named[1]) if named else None)
    if limit is None:
        return None
    return Limit(limit, found.get("remaining"), found.get("reset"), int(named[2]) if named else None)
