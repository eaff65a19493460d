"""Runs of delta events, each with its own sequence number: spliced from parts, without an object for each event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: The last three digits of a number: of one below a thousand, and of any other.
_SHORT: Final = tuple([b"%d" % number for number in range(1000)])
_DIGITS: Final = tuple([b"%03d" % number for number in range(1000)])


class DeltaEvent:
    """The event of one delta of one item: what stands before its number, between that and the delta, and behind it."""

    __slots__ = ("_after", "_again", "_before", "_between")

    def __init__(self, before: bytes, between: bytes, after: bytes) -> None:
        self._before = before
        self._between = between
        self._after = after
        self._again = after + before

    def one(self, number: int, delta: bytes) -> bytes:
        """Encode one event."""
        return b"%b%d%b%b%b" % (self._before, number, self._between, delta, self._after)

    def run(self, first: int, deltas: Sequence[bytes]) -> bytes:
        """Encode an event for each delta, numbered from `first` on."""
        parts: list[bytes] = []
        at, end = 0, len(deltas)
        while at < end:  # a block for each thousand
            high, low = divmod(first + at, 1000)
            count = min(end - at, 1000 - low)
            block = [self._again + b"%d" % high if high else self._again, b"", self._between, b""] * count
            block[1::4] = (_DIGITS if high else _SHORT)[low : low + count]
            block[3::4] = deltas[at : at + count]
            parts += block
            at += count
        parts[0] = parts[0].removeprefix(self._after)
        parts.append(self._after)
        return b"".join(parts)
