"""Text from strangers, made fit to be shown, on a terminal or a page. The only place that says what may be shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

#: What a terminal would obey, what turns the rest of a row round (Unicode's Bidi_Control), what ends a line without
#: looking like it, what is no text at all, and marks that nothing shows. Line breaks and tabs stay, and what scripts
#: and emoji need: joiners, soft hyphens, spaces of all kinds, signs that this Python does not know yet.
_UNREADABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\u2028\u2029\ud800-\udfff"
    "\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0001]"
)


def printable(text: str, instead: str = _REPLACEMENT) -> str:
    """`text` on one line, with `instead` for each character that a terminal obeys or an encoding refuses."""
    return replaced(text, lambda _: instead)


def replaced(text: str, instead: Callable[[str], str]) -> str:
    """`text` on one line; `instead` is asked what stands in the place of a character that cannot be printed."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else instead(char) for char in text)


def readable(text: str) -> str:
    """`text` with its line breaks and tabs, but with nothing that steers what shows it."""
    return _UNREADABLE.sub(_REPLACEMENT, text)
