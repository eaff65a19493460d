"""What reading one answer may take: a bound on blocks, and on the work that a block makes which is not as it should be.

A block as models are asked for it takes some 20 us. One that is not closed, or cannot be read, may have been searched
to the end of the answer; mending one takes a thousand times as long as reading it. Reading stays below 2 s (in a
thread, where an answer is long), whatever stands in the answer: `tests/bridge/answering/tools/test_effort.py`.
"""

from __future__ import annotations

from typing import Final

#: Blocks in one answer, and calls in them: 10,000 blocks of one call each.
MAX_BLOCKS: Final = 20_000
#: Characters that may be searched for the ends of blocks that have none, or cannot be read.
MAX_SEARCHED_CHARS: Final = 300_000_000
#: Characters of blocks that are mended, or were not to be mended, as far as the library is given them.
MAX_MENDED_IN_ALL: Final = 500_000


class Effort:
    """What is left of all that for one answer."""

    def __init__(self) -> None:
        self._blocks = MAX_BLOCKS
        self._searched = MAX_SEARCHED_CHARS
        self._mended = MAX_MENDED_IN_ALL

    @property
    def spent(self) -> bool:
        """The rest of the answer is not to be read."""
        return self._blocks <= 0 or self._searched <= 0 or self._mended <= 0

    def read(self, *, searched: int = 0, mended: int = 0) -> None:
        """Count a place at which a block was looked for, or a call."""
        self._blocks -= 1
        self._searched -= searched
        self._mended -= mended
