"""Text from strangers, made fit to be shown."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` on one line, without anything that a terminal would obey or an encoding refuse."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
