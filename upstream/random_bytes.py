"""Random bytes for ids, fetched from the operating system for many ids at once."""

from __future__ import annotations

import os
from io import BytesIO
from typing import Final

_STOCK_BYTES: Final = 4096


class RandomBytes:
    """Random bytes of the operating system's, fetched for many ids at once: not for what must stay secret.

    One system call for each id would be five in a request.
    """

    def __init__(self) -> None:
        self._stock = BytesIO()

    def __call__(self, size: int) -> bytes:
        """Return `size` bytes, 4096 at most, that were never returned before."""
        data = self._stock.read(size)
        if len(data) < size:
            self._stock = BytesIO(os.urandom(_STOCK_BYTES))
            data = self._stock.read(size)
        return data
