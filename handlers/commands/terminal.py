"""Output of commands: tables and times. Colour and wrapping are for terminals only."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import datetime
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from bridge.activity.moments import displayable
from upstream.protocol.printable import printable

#: The width if stdout is not a terminal: no row is wrapped, so that `grep` finds whole rows.
_PIPE_COLUMNS: Final = 10_000
#: The lines of a table's heading and of the shell's prompt below it.
_HEADING_LINES: Final = 3
_UNITS: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]], *, paged: bool = False) -> None:
    """Print a table of plain text on stdout; control characters are replaced.

    With `paged`, a table that has more rows than the terminal has lines goes through the user's pager.
    """
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # an ellipsis could not be copied
    for row in rows:
        table.add_row(*(printable(cell) for cell in row))
    long = paged and sys.stdout.isatty() and table.row_count >= console.height - _HEADING_LINES
    with console.pager() if long else nullcontext():
        console.print(table)


def moment(when: float, now: float) -> str:
    """A unix time relative to `now`: `in 6 days (2026-11-29 12:00 CET)`, `2 hours ago (…)`."""
    distance = when - now
    unit, seconds = next((each for each in _UNITS if abs(distance) >= each[1]), _UNITS[-1])
    count = int(abs(distance) // seconds)
    words = f"{count} {unit}{'' if count == 1 else 's'}"
    date = datetime.fromtimestamp(displayable(when)).astimezone()
    return f"{f'in {words}' if distance > 0 else f'{words} ago'} ({date:%Y-%m-%d %H:%M %Z})"
