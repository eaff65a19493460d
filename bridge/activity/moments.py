"""Points in time as people write them: `15m` ago, `2026-11-30`, `2026-11-30T21:00`, with or without a zone."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from typing import Final

_AGO: Final = re.compile(r"(\d{1,6})(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def moment(text: str, now: float, zone: tzinfo | None = None) -> float:
    """A unix time: a span before `now`, or a date and time, in `zone` (the machine's) if it names none.

    Raises ValueError.
    """
    text = text.strip()
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * _SECONDS[ago[2]]
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=zone) if at.tzinfo is None and zone is not None else at
        return at.timestamp()  # without a zone in the machine's
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text[:40]!r} is no time: write 15m, 2h, 7d, or 2026-11-30T21:00") from None
