"""Points in time as people write and read them.

They write `15m` (ago), `2026-11-30`, or `2026-11-30T21:00`, with or without a time zone.
"""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from typing import Final

_AGO: Final = re.compile(r"(\d{1,6})(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
#: The latest unix time that `datetime` accepts in every time zone.
_LAST_SECOND: Final = 253_402_214_400.0


def read_moment(text: str, now: float, zone: tzinfo | None = None) -> float:
    """The unix time of a span before `now`, or of a date and time, which is in `zone` if the text names no other.

    `zone` is by default the machine's. Raises ValueError.
    """
    text = text.strip()
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * _SECONDS[ago[2]]
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=zone)).timestamp()  # a time without a zone is in the machine's
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text[:40]!r} is not a time: write 15m, 2h, 7d, or 2026-11-30T21:00") from None


def displayable(moment: float) -> float:
    """The nearest unix time that `datetime` accepts in every time zone: a file may have any number."""
    return min(max(moment, 0.0), _LAST_SECOND)
