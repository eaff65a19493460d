"""Fast encoding of delta events with consecutive sequence numbers, by joining prepared parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: The last three digits of numbers: below a thousand without leading zeros, and above with them.
_SHORT: Final = tuple([b"%d" % number for number in range(1000)])
_DIGITS: Final = tuple([b"%03d" % number for number in range(1000)])


class DeltaEvent:
    """The delta events of one item, by what comes before the number, between number and delta, and after the delta."""

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
        """Encode an event for each delta, numbered from `first`."""
        parts: list[bytes] = []
        at, end = 0, len(deltas)
        while at < end:  # each iteration encodes the events whose numbers have the same thousands
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
