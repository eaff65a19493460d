"""Ids as upstream wants them made by its caller: lower-case UUIDv7, each later than the one before (PROTOCOL)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

_RANDOM_BITS = 74  # RFC 9562, 5.7: rand_a (12 bits) and rand_b (62 bits)
_STEP_BITS = 32  # keeps the next id of the same millisecond unguessable (RFC 9562, 6.2, method 2)


class Uuid7Source:
    """Makes UUIDv7 strings that grow strictly, within a millisecond and when the clock steps back too.

    `clock` gives unix seconds, `randbits` that many random bits. One source belongs to one thread.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, randbits: Callable[[int], int] = secrets.randbits
    ) -> None:
        self._clock = clock
        self._randbits = randbits
        self._last = 0

    def __call__(self) -> str:
        now = int(self._clock() * 1000) << _RANDOM_BITS
        # A step past the last random bit carries into the milliseconds, as RFC 9562, 6.2 allows.
        self._last = (
            now | self._randbits(_RANDOM_BITS) if now > self._last else self._last + 1 + self._randbits(_STEP_BITS)
        )
        milliseconds, random = divmod(self._last, 1 << _RANDOM_BITS)
        rand_a, rand_b = divmod(random, 1 << 62)
        digits = f"{milliseconds << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
