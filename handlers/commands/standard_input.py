"""Bounded reading of a command's standard input."""

from __future__ import annotations

import sys
from typing import BinaryIO

import click


def read_all(limit: int) -> bytes:
    """Read all of standard input, at most `limit` bytes. Raises ClickException if there is more, or it is closed."""
    return _within(_stream().read(limit + 1), limit)


def read_line(limit: int) -> bytes:
    """Read the first line of standard input, at most `limit` bytes. Raises ClickException if it is longer."""
    return _within(_stream().readline(limit + 1), limit)


def is_terminal() -> bool:
    """Whether standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def _stream() -> BinaryIO:
    if sys.stdin is None:  # the shell's <&-
        raise click.ClickException("standard input is closed")
    return sys.stdin.buffer


def _within(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise click.ClickException(f"standard input has more than {limit:,} bytes")
    return data
