"""Counts, by kind, what the bridge does not recognise in LMArena's answers: the first sign that the site has changed.

A kind is a short name: `tag ah` (a line with an unknown tag), `no tag` (a line that has none), `item routed_model` and
`no item type` (entries of an `a2:` list), `late line` (a line after the answer's end).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

#: The kind under which further kinds are counted once there are too many.
OTHER: Final = "other"
#: The longest name of a kind: names come from upstream and end up in logs and metric labels.
MAX_KIND_CHARS: Final = 30
#: The maximum number of kinds for one answer and for the whole process, besides `OTHER`.
MAX_KINDS_PER_ANSWER: Final = 20
MAX_KINDS: Final = 50
#: How many lines with something unknown are kept of one answer, and how much of each.
MAX_LINES: Final = 8
MAX_KEPT_BYTES: Final = 4096


class KindCounter:
    """Counts by kind, for at most `limit` kinds; further ones are counted under `OTHER`."""

    __slots__ = ("_limit", "counts")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        #: How often each kind was seen, in the order of first appearance.
        self.counts: dict[str, int] = {}

    def add(self, kind: str, times: int = 1) -> str | None:
        """Count a kind; return the name under which it is counted if that is new, else None."""
        name = _ascii(kind)
        if name not in self.counts and len(self.counts) - (OTHER in self.counts) >= self._limit:
            name = OTHER
        before = self.counts.get(name)
        self.counts[name] = (before or 0) + times
        return name if before is None else None


class Drift:
    """Everything unknown since the process started.

    `on_new` is called with each kind that is seen for the first time, `on_lines` with all new kinds of an answer and
    the lines in which something was unknown.
    """

    def __init__(
        self,
        on_new: Callable[[str], None],
        on_lines: Callable[[Sequence[str], Sequence[bytes]], None] = lambda _kinds, _lines: None,
    ) -> None:
        self._kinds = KindCounter(MAX_KINDS)
        self._on_new = on_new
        self._on_lines = on_lines

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each kind was seen; at most `MAX_KINDS` kinds, and `OTHER`."""
        return self._kinds.counts

    def note(self, kinds: Mapping[str, int], lines: Sequence[bytes] = ()) -> None:
        """Add the counts of one answer (`ArenaAnswer.unknown`), which come from `lines`."""
        if not kinds:
            return
        new = [name for kind, times in kinds.items() if (name := self._kinds.add(kind, times)) is not None]
        for name in new:
            self._on_new(name)
        if new and lines:
            self._on_lines(new, lines)


def _ascii(kind: str) -> str:
    """A name as printable ASCII, truncated to `MAX_KIND_CHARS`."""
    return "".join(char if " " <= char <= "~" else "?" for char in kind[:MAX_KIND_CHARS])
