"""How the expiry of an API key is written: `never`, `12h`, `30d`, `8w`, or the date of its last day in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

FORMS: Final = "never, a time from now such as 12h, 30d or 8w, or a date such as 2027-01-31 (to its end in UTC)"

_FROM_NOW: Final = re.compile(r"([1-9]\d{0,4}) ?([hdw])", re.ASCII)
_SECONDS: Final = {"h": 3600, "d": 86_400, "w": 7 * 86_400}
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def read_expiry(text: str, now: float) -> float | None:
    """The unix time at which a key expires; None for `never` and ''.

    Raises ValueError for any other form, and for a date that has passed.
    """
    written = text.strip().lower()
    if written in ("", "never"):
        return None
    if found := _FROM_NOW.fullmatch(written):
        return now + int(found[1]) * _SECONDS[found[2]]
    if _DATE.fullmatch(written):
        try:
            end = (datetime.fromisoformat(written).replace(tzinfo=UTC) + timedelta(days=1)).timestamp()
        except (ValueError, OverflowError):
            end = 0.0
        if end > now:
            return end
        raise ValueError("expires: must be a date that has not passed")
    raise ValueError(f"expires: must be {FORMS}")


def last_day(expires: float | None) -> str:
    """The date of a key's last day in UTC, '' for never; `read_expiry` reads it back."""
    return "" if expires is None else f"{datetime.fromtimestamp(expires - 1, UTC):%Y-%m-%d}"
