"""Bytes that all answers together may hold back: lines without an end, answers that are collected as a whole.

Each answer has a bound of its own; this one is for many at a time. Small amounts are not counted: thousands of usual
answers never come near it.
"""

from __future__ import annotations

from typing import Final

#: What one answer may hold without being counted, in bytes.
FREE_BYTES: Final = 64 * 1024
#: What all answers together may hold beyond that, in bytes.
MAX_HELD_BYTES: Final = 128 * 1024 * 1024


class Held:
    """The total, out of which each answer has a `Share`."""

    __slots__ = ("limit", "total")

    def __init__(self, limit: int = MAX_HELD_BYTES) -> None:
        self.limit = limit
        #: Bytes held at the moment, beyond what is free.
        self.total = 0

    def share(self) -> Share:
        """The share of one more answer, which holds nothing yet."""
        return Share(self)


class Share:
    """What one answer holds. Must be set to 0 in the end."""

    __slots__ = ("_counted", "_held")

    def __init__(self, held: Held) -> None:
        self._held = held
        self._counted = 0

    def set(self, size: int) -> bool:
        """Say how many bytes are held now; False, and what was held stays counted, where that is too much in all."""
        counted = max(0, size - FREE_BYTES)
        if counted == self._counted:
            return True
        more = counted - self._counted
        if more > 0 and self._held.total + more > self._held.limit:
            return False
        self._held.total += more
        self._counted = counted
        return True
