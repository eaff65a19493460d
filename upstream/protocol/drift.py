"""Counts by kind what LMArena sends and the bridge does not know: the first sign that the site has changed.

A kind is a short name: `tag ah` (a line with an unknown tag), `no tag` (a line that has none), `item routed_model` and
`no item type` (entries of an `a2:` list), `late line` (a line after the answer's end).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

#: Where everything is counted that comes when there is no room for a further kind.
OTHER: Final = "other"
#: Names come from upstream, and end up in logs and metric labels.
MAX_KIND_CHARS: Final = 30
#: How many kinds one answer, and the whole process, tell apart; `OTHER` comes on top.
MAX_KINDS_PER_ANSWER: Final = 20
MAX_KINDS: Final = 50


class Kinds:
    """Counts by kind. At most `limit` kinds are told apart; the rest is counted under `OTHER`."""

    __slots__ = ("_limit", "counts")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        #: How often each kind was seen, in the order of their first appearance.
        self.counts: dict[str, int] = {}

    def add(self, kind: str, times: int = 1) -> str | None:
        """Count a kind; return the name it is counted under if that name is new, else None."""
        name = _ascii(kind)
        if name not in self.counts and len(self.counts) - (OTHER in self.counts) >= self._limit:
            name = OTHER
        before = self.counts.get(name)
        self.counts[name] = (before or 0) + times
        return name if before is None else None


class Drift:
    """All that was unknown since the process started. Calls `on_new` the first time that a kind is seen."""

    def __init__(self, on_new: Callable[[str], None]) -> None:
        self._kinds = Kinds(MAX_KINDS)
        self._on_new = on_new

    @property
    def counts(self) -> Mapping[str, int]:
        """Kind → how often it was seen; at most `MAX_KINDS` kinds, and `OTHER`."""
        return self._kinds.counts

    def note(self, kinds: Mapping[str, int]) -> None:
        """Add the counts of one answer (`ArenaAnswer.unknown`)."""
        for kind, times in kinds.items():
            if (name := self._kinds.add(kind, times)) is not None:
                self._on_new(name)


def _ascii(kind: str) -> str:
    """Cut a name to `MAX_KIND_CHARS` of printable ASCII."""
    return "".join(char if " " <= char <= "~" else "?" for char in kind[:MAX_KIND_CHARS])
