"""What a command is given on standard input, never more than it can use."""

from __future__ import annotations

import sys
from typing import BinaryIO

import click


def read_all(limit: int) -> bytes:
    """All of standard input, at most `limit` bytes. Raises ClickException where it is more, or closed."""
    return _within(_stream().read(limit + 1), limit)


def read_line(limit: int) -> bytes:
    """The first line of standard input, at most `limit` bytes of it. Raises ClickException where there is more."""
    return _within(_stream().readline(limit + 1), limit)


def is_terminal() -> bool:
    """Whether a person types."""
    return sys.stdin is not None and sys.stdin.isatty()


def _stream() -> BinaryIO:
    if sys.stdin is None:  # the shell's <&-
        raise click.ClickException("standard input is closed")
    return sys.stdin.buffer


def _within(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise click.ClickException(f"standard input gives more than the {limit:,} bytes that can be used")
    return data
