"""A bound on the bytes that all answers together may buffer: unfinished lines, and answers collected as a whole.

Each answer also has a bound of its own. Small amounts are not counted, so thousands of ordinary answers never come
near the common bound.
"""

from __future__ import annotations

from typing import Final

#: What one answer may buffer without being counted, in bytes.
FREE_BYTES: Final = 64 * 1024
#: What all answers together may buffer beyond that, in bytes.
MAX_BUFFERED_BYTES: Final = 128 * 1024 * 1024


class MemoryBudget:
    """The bytes that all answers buffer; each answer accounts for its own in a `BudgetShare`."""

    __slots__ = ("limit", "total")

    def __init__(self, limit: int = MAX_BUFFERED_BYTES) -> None:
        self.limit = limit
        #: Bytes buffered at the moment, beyond each answer's free amount.
        self.total = 0

    def share(self) -> BudgetShare:
        """Return the share of one more answer, which buffers nothing yet."""
        return BudgetShare(self)


class BudgetShare:
    """What one answer buffers. Its owner must set it to 0 when the answer is closed."""

    __slots__ = ("_budget", "_counted")

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._counted = 0

    def set(self, size: int) -> bool:
        """Record that `size` bytes are buffered now; False, and nothing is recorded, if that exceeds the budget."""
        counted = max(0, size - FREE_BYTES)
        if counted == self._counted:
            return True
        more = counted - self._counted
        if more > 0 and self._budget.total + more > self._budget.limit:
            return False
        self._budget.total += more
        self._counted = counted
        return True
