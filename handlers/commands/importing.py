"""Deferred imports: a command imports what it needs when it runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the garbage collector during imports: their objects stay, and traversing them would delay the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
