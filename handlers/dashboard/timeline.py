"""The timeline of one request as bars for each attempt and for the answer, with positions in units of the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from bridge.activity.entry import Entry
from handlers.dashboard.charts import shortened
from handlers.dashboard.wording import duration

#: The drawing's width, and the minimum width of a bar, which keeps it visible.
WIDTH: Final = 480
_LEAST: Final = 2.0


class Bar(NamedTuple):
    """One bar: what it is, how it ended, and its position."""

    what: str
    note: str
    kind: Literal["ok", "failed", "answer"]
    left: float
    width: float


def bars_of(entry: Entry) -> Sequence[Bar]:
    """The bars of a request, in order of time."""
    total = max(entry.seconds, *(each.began + each.seconds for each in entry.attempts), 0.001, 0.001)

    def bar(what: str, note: str, kind: Literal["ok", "failed", "answer"], began: float, seconds: float) -> Bar:
        left = min(WIDTH - _LEAST, WIDTH * began / total)
        width = max(_LEAST, min(WIDTH - left, WIDTH * seconds / total))
        return Bar(what, note, kind, round(left, 1), round(width, 1))

    found = [
        bar(
            f"{number}. {shortened(attempt.account)}",
            f"{'began' if attempt.word == 'ok' else attempt.word.replace('_', ' ')} after {duration(attempt.seconds)}",
            "ok" if attempt.word == "ok" else "failed",
            attempt.began,
            attempt.seconds,
        )
        for number, attempt in enumerate(entry.attempts, 1)
    ]
    if entry.first is not None:
        spent = max(0.0, entry.seconds - entry.first)
        found.append(bar("Answer", f"first token after {duration(entry.first)}", "answer", entry.first, spent))
    return found
