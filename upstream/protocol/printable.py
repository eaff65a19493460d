"""Makes untrusted text safe to show on a terminal or a page. The only place that decides which characters may be."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

#: Control characters, bidirectional controls (Unicode's Bidi_Control), unusual line separators, surrogates, and other
#: invisible characters. Line breaks and tabs are allowed, and so is what scripts and emoji need: joiners, soft hyphens,
#: all kinds of spaces, characters that this Python does not know yet.
_UNREADABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\u2028\u2029\ud800-\udfff"
    "\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0001]"
)


def printable(text: str, instead: str = _REPLACEMENT) -> str:
    """`text` on one line, with `instead` for each character that a terminal interprets or cannot be encoded."""
    return text if text.isprintable() else replaced(text, lambda _: instead)


def replaced(text: str, instead: Callable[[str], str]) -> str:
    """`text` on one line; `instead` returns the replacement of a character that is not printable."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else instead(char) for char in text)


def readable(text: str) -> str:
    """`text` with its line breaks and tabs, but without other control characters."""
    return _UNREADABLE.sub(_REPLACEMENT, text)
