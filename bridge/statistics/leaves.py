"""The statistics as leaves of their JSON, so that what several processes have counted can be added up. Pure functions.

A leaf has a path, which is the names that lead to it, joined by a control character that no name contains, and a row:
numbers, with or without a word, separated by spaces, in parts separated by bars (`bridge.statistics.counts`). Rows are
added number by number, except for the time of the last request in the row of a name: the later one counts.

    1 0 20 300 1796030737   +   2 1 5 6 1796030740       =   3 1 25 306 1796030740
    1 0 | 7 1 | ok:1        +   1 1 | 3 0 2 | timeout:1   =   2 1 | 10 1 2 | ok:1 timeout:1
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from bridge.statistics.counts import TABLES

#: Separates the names of a path.
SEPARATOR: Final = "\x1f"
#: The index of the time in the row of a name.
LAST: Final = 4

#: How the rows of a leaf are combined: added; added except for the time; the earlier one; the last entries of both.
Kind: TypeAlias = Literal["sum", "usage", "first", "latest"]
Leaves: TypeAlias = Mapping[str, str]


class Change(NamedTuple):
    """A row to combine with the one of a leaf."""

    path: str
    kind: Kind
    row: str


def leaves(value: Mapping[str, Any]) -> dict[str, str]:
    """The leaves of what `Stats.to_json` returns."""
    return dict(_leaves((), value))


def tree(found: Leaves) -> dict[str, Any]:
    """The JSON with these leaves, completed by empty tables that `Stats.from_json` expects."""
    value: dict[str, Any] = {
        "statuses": {},
        "reasons": {},
        "models": {},
        "keys": {},
        "apis": {},
        "accounts": {},
        "uploads": {"ok": 0, "failed": 0},
        "minute": {},
        "hour": {},
        "day": {},
    }
    for path, row in found.items():
        *names, last = path.split(SEPARATOR)
        at = value
        for name in names:
            at = at.setdefault(name, {})
        at[last] = row.split(",") if kind_of(path) == "latest" and row else row or []
    for use in value["accounts"].values():
        use.setdefault("reasons", {})
        use.setdefault("last", [])
    for name, tables in value.items():
        if name.endswith("_tables"):
            for period in tables.values():
                for each in TABLES:
                    period.setdefault(each, {})
    return value


def kind_of(path: str) -> Kind:
    """How the rows of a leaf are combined."""
    names = path.split(SEPARATOR)
    if path == "since":
        return "first"
    if len(names) == 3 and names[0] == "accounts" and names[2] == "last":
        return "latest"
    return "usage" if len(names) > 1 and names[-2] in TABLES else "sum"


def changes(now: Leaves, before: Leaves) -> list[Change]:
    """What one process has counted between two states of its statistics."""
    found: list[Change] = []
    attempts: Counter[str] = Counter()  # new ones, by account
    for path, row in now.items():
        earlier = before.get(path)
        if row == earlier:
            continue
        kind = kind_of(path)
        if earlier is None:
            found.append(Change(path, kind, row))
        elif kind != "latest":
            found.append(Change(path, kind, _difference(kind, row, earlier)))
        match path.split(SEPARATOR):
            case ["accounts", account, "reasons", _]:
                attempts[account] += int(row) - int(earlier or 0)
    for account, count in attempts.items():
        path = SEPARATOR.join(("accounts", account, "last"))
        if path in before:  # the list has a bounded length, so only the count says how many entries are new
            found.append(Change(path, "latest", ",".join(now[path].split(",")[-count:])))
    return found


def _leaves(names: tuple[str, ...], value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves((*names, name), inner)
    else:
        yield SEPARATOR.join(names), ",".join(value) if isinstance(value, list) else str(value)


def _difference(kind: Kind, row: str, earlier: str) -> str:
    if kind == "first":
        return row
    parts = zip_longest(row.split(" | "), earlier.split(" | "), fillvalue="")
    lists = [_subtracted(part.split(), before.split()) for part, before in parts]
    if kind == "usage":
        lists[0][LAST] = row.split()[LAST]
    return " | ".join(map(" ".join, lists))


def _subtracted(numbers: list[str], before: list[str]) -> list[str]:
    """The difference of two parts: by position, or by word."""
    earlier = dict(_by_word(before))
    differences = [(word, number - earlier.get(word, 0)) for word, number in _by_word(numbers)]
    return [f"{word}:{number}" if isinstance(word, str) else str(number) for word, number in differences]


def _by_word(numbers: list[str]) -> Iterator[tuple[str | int, int]]:
    for position, number in enumerate(numbers):
        word, colon, count = number.rpartition(":")
        yield (word, int(count)) if colon else (position, int(number))
