"""An answer on its way: the steps to play, and what is below them."""

from __future__ import annotations

from dataclasses import dataclass

from upstream.arena.steps import Flow
from upstream.arena.written import Written


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer to be played step by step; `written` (None for all but a model's) must see each byte of it first.

    `source` lies below `steps` where a fault bends them; both are to be closed. `bursts` says that lines between
    two other steps may share a write, since their source never waits by itself.
    """

    steps: Flow
    source: Flow
    bursts: bool = True
    written: Written | None = None
