"""Generates ids as upstream expects them from its callers: lower-case UUIDv7, in increasing order.

Source: docs/protocol.md, "Ids and the clock".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from typing import Final

_RANDOM_BITS: Final = 74  # RFC 9562, 5.7: rand_a (12 bits) and rand_b (62 bits)
_B_BITS: Final = 62
_B_MASK: Final = (1 << _B_BITS) - 1
_VARIANT: Final = 0b10 << _B_BITS
_RANDOM_BYTES: Final = 10
_SPARE_BITS: Final = 8 * _RANDOM_BYTES - _RANDOM_BITS
_STEP_BYTES: Final = 4  # keeps the next id of the same millisecond unguessable (RFC 9562, 6.2, method 2)
_UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Uuid7Source:
    """Generates strictly increasing UUIDv7 strings, even within a millisecond and when the clock steps back.

    Only `follow_clock` allows an earlier time again. `clock` gives unix seconds, `random_bytes` the given number of
    bytes. Not thread-safe.
    """

    def __init__(self, clock: Callable[[], float], random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._last = 0

    def follow_clock(self) -> None:
        """Use the clock's time for the next id even if it is earlier: the clock has been corrected."""
        self._last = 0

    def later_than(self, id_: str) -> Callable[[], str]:
        """This source, but with ids later than `id_`, which an uncorrected clock may have produced.

        If `id_` is not a UUIDv7, it is ignored.
        """
        return partial(self, _number_of(id_))

    def __call__(self, bound: int = 0) -> str:
        """The next id; its time and random bits, as one number, are larger than `bound`."""
        now = int(self._clock() * 1000) << _RANDOM_BITS
        last = max(self._last, bound)
        # An overflow of the random bits carries into the milliseconds, as RFC 9562, 6.2 allows.
        if now > last:
            self._last = now | int.from_bytes(self._random_bytes(_RANDOM_BYTES)) >> _SPARE_BITS
        else:
            self._last = last + 1 + int.from_bytes(self._random_bytes(_STEP_BYTES))
        digits = f"{self._last >> _B_BITS:015x}{_VARIANT | self._last & _B_MASK:016x}"
        return f"{digits[:8]}-{digits[8:12]}-7{digits[12:15]}-{digits[15:19]}-{digits[19:]}"


def _number_of(id_: str) -> int:
    """The time and the random bits of a UUIDv7 as one number, 0 for anything else."""
    if not _UUID7.fullmatch(id_):
        return 0
    digits = id_.replace("-", "")
    return int(digits[:12] + digits[13:16], 16) << _B_BITS | int(digits[16:], 16) & _B_MASK
