"""Limits on the work of reading one answer: the number of blocks, and the cost of malformed ones.

A well-formed block takes some 20 µs. For one that is not closed or cannot be read, the rest of the answer may have been
searched; mending one takes a thousand times as long as reading it. The limits keep reading below 2 s (in a thread, if
the answer is long) for any answer: `tests/bridge/answering/tools/test_budget.py`.
"""

from __future__ import annotations

from typing import Final

#: The maximum number of blocks and calls together: 10,000 blocks with one call each.
MAX_BLOCKS: Final = 20_000
#: The maximum number of characters searched for the ends of blocks that have none or cannot be read.
MAX_SEARCHED_CHARS: Final = 300_000_000
#: The maximum number of characters passed to the library that mends JSON, with or without success.
MAX_MENDED_IN_ALL: Final = 500_000


class ReadingBudget:
    """What is left of these limits for one answer."""

    def __init__(self) -> None:
        self._blocks = MAX_BLOCKS
        self._searched = MAX_SEARCHED_CHARS
        self._mended = MAX_MENDED_IN_ALL

    @property
    def exhausted(self) -> bool:
        """Whether a limit is reached, so that the rest of the answer must not be read."""
        return self._blocks <= 0 or self._searched <= 0 or self._mended <= 0

    def spend(self, *, searched: int = 0, mended: int = 0) -> None:
        """Count one block or call, and the characters that were searched and mended for it."""
        self._blocks -= 1
        self._searched -= searched
        self._mended -= mended
