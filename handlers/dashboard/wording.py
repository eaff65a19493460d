"""Formatting of times, numbers and durations: filters of the templates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from markupsafe import Markup, escape

from bridge.access.expiry import last_day
from bridge.diagnosis import advice_after, sentence, with_wait
from bridge.errors import ApiError
from upstream.protocol.errors import Reason
from upstream.protocol.printable import readable

#: The problems that can be solved on the Accounts page, and how.
IN_ACCOUNTS: Final[Mapping[Reason, str]] = {
    Reason.CHALLENGE: "open the site in your browser, copy any request to it as cURL, and paste that into Accounts",
    Reason.EXPIRED: "log in to the site again, and paste the new cookie into Accounts",
    Reason.GUEST: "sign in to the site in the browser that the cookie came from, send one message, and paste the new"
    " cookie into Accounts",
    Reason.TERMS: "open the site in a browser, read its terms, and accept them there if you agree",
    Reason.NO_ACCOUNT: "paste a cookie into Accounts",
}


def to_operator(error: ApiError) -> str:
    """An error's message for the dashboard: with advice that fits it, and the seconds to wait in place of a header."""
    advice = advice_after(error.reason, refused_here=error.refused_here)
    message = error.message
    if message.endswith(advice.caller):
        now = sentence(IN_ACCOUNTS.get(error.reason, advice.now))
        message = message.removesuffix(advice.caller) + now
    wait = "a while" if error.retry_after is None else duration(error.retry_after)
    return with_wait(message, wait)


def duration(seconds: float) -> str:
    """A duration in its one or two largest units: `3 d 4 h`, `5 min`, `12 s`, `340 ms`."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    index = next(i for i, (_, size) in enumerate(units) if whole >= size)
    name, size = units[index]
    count, rest = divmod(whole, size)
    if index + 1 < len(units) and count < 10:
        smaller, smaller_size = units[index + 1]
        if part := rest // smaller_size:
            return f"{count} {name} {part} {smaller}"
    return f"{count} {name}"


def clock(moment: float) -> str:
    """A unix time as local time of day."""
    return f"{datetime.fromtimestamp(moment).astimezone():%H:%M:%S}"


def day(moment: float) -> str:
    """A unix time as a local date and time of day."""
    return f"{datetime.fromtimestamp(moment).astimezone():%-d %b %Y, %H:%M}"


def utc_day(moment: float) -> str:
    """A day in UTC, such as `Mon 30 Nov 2026`."""
    at = datetime.fromtimestamp(moment, UTC)
    return f"{at:%a} {at.day} {at:%b %Y}"


def iso(moment: float) -> str:
    """A unix time for `<time datetime=…>`."""
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="seconds")


def zone_name(moment: float) -> str:
    """The machine's time zone at a unix time: `CET (UTC+1)`, `UTC`."""
    at = datetime.fromtimestamp(moment).astimezone()
    hours, minutes = divmod(round((at.utcoffset() or timedelta()).total_seconds() / 60), 60)
    offset = f"UTC{hours:+d}" + (f":{minutes:02d}" if minutes else "")
    name = at.tzname() or ""
    if not hours and not minutes:
        return "UTC"
    return f"{name} ({offset})" if name.isalpha() else offset


def number(value: float) -> str:
    """A whole number with thin spaces as thousands separators."""
    return f"{value:,.0f}".replace(",", "\u202f")


def short(value: float) -> str:
    """A number with three significant digits: `950`, `12.3k`, `4.56M`."""
    if value < 1000:
        return f"{value:.0f}"
    power = min(3, int(math.log10(value) // 3))
    scaled = value / 1000**power
    digits = max(0, 2 - int(math.log10(scaled)))
    return f"{scaled:.{digits}f}{' kMG'[power]}"


def size(count: float) -> str:
    """A number of bytes: `950 bytes`, `12.3 kB`, `4.56 MB`."""
    if count < 1000:
        return f"{count:.0f} byte{'' if count == 1 else 's'}"
    return f"{short(count)[:-1]} {short(count)[-1]}B"


def percent(part: float, whole: float) -> str:
    """A share in percent; 0 if `whole` is 0."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f} %" if 0 < share < 10 else f"{share:.0f} %"


def ticked(text: str) -> Markup:
    """HTML of a text with code between backticks."""
    code = Markup("<code>{}</code>")
    parts = readable(text).split("`")
    pieces = (code.format(part) if place % 2 else escape(part) for place, part in enumerate(parts))
    return Markup("").join(pieces)


def full(moment: float) -> str:
    """A unix time in full: date, time of day, and the machine's time zone."""
    return f"{datetime.fromtimestamp(moment).astimezone():%a %-d %b %Y, %H:%M:%S} {zone_name(moment)}"


def client_name(agent: str, key: str = "") -> str:
    """Shorten a User-Agent to the program and its version, or to `a browser`."""
    if key == "dashboard":
        return "Playground"
    if not agent:
        return "unknown client"
    if agent.startswith("Mozilla/"):
        return "a browser"
    return " ".join(agent.split()[:2])[:40]


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    each.__name__: each
    for each in (
        duration,
        clock,
        day,
        utc_day,
        full,
        iso,
        number,
        short,
        size,
        percent,
        ticked,
        sentence,
        client_name,
        last_day,
    )
}
