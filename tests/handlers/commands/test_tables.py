"""Tables of commands: they are paged only if they are longer than the terminal."""

from __future__ import annotations

import io
import pydoc
import sys

import pytest

from handlers.commands.terminal import print_table


class Terminal(io.StringIO):
    """A terminal as standard output."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "rows", "paged", "expected"),
    [
        pytest.param(Terminal(), 100, True, True, id="a long table on a terminal"),
        pytest.param(Terminal(), 5, True, False, id="a short one"),
        pytest.param(Terminal(), 100, False, False, id="one that is never paged"),
        pytest.param(io.StringIO(), 100, True, False, id="a pipe"),
    ],
)
def test_a_table_longer_than_the_terminal_is_paged(
    out: io.StringIO, rows: int, paged: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(pydoc, "pager", seen.append)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("LINES", "24")
    print_table(("name",), ([f"model {number}\x1b[2J"] for number in range(rows)), paged=paged)
    shown = "".join(seen) if expected else out.getvalue()
    assert bool(seen) == expected
    assert f"model {rows - 1}" in shown
    assert "\x1b[2J" not in shown
