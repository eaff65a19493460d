"""Untrusted text on a terminal and on pages: readable in every script, without effective control characters."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upstream.protocol.printable import printable, readable

#: Unicode's Bidi_Control.
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
TERMINAL = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
LINES = "\u2028\u2029"
SURROGATES = "\ud800\udbff\udc80\udfff"
BAD = (*BIDI, *(char for char in TERMINAL if char not in "\n\t"), *LINES, *SURROGATES, "\ufeff", "\ufff9", "\U000e0001")


@pytest.mark.parametrize("char", BAD, ids=lambda char: f"U+{ord(char):04X}")
def test_control_characters_are_replaced(char: str) -> None:
    assert readable(f"a{char}b") == printable(f"a{char}b") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize(
    "text",
    [
        "plain\n\ttext",
        "你好, héllo, שלום, سلام, नमस्ते, ไทย",
        "می‌خواهم",  # has a zero-width non-joiner, without which it is misspelt
        "👩‍💻 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 👍🏽 \U0001fae8",
        "1\u202f234\xa0km, soft\xadhyphen",
        "\ue0b0",
    ],
)
def test_ordinary_text_is_shown_unchanged(text: str) -> None:
    assert readable(text) == text


@given(st.text(st.characters()))
def test_no_control_characters_remain_in_any_text(text: str) -> None:
    shown = readable(text)
    assert len(shown) == len(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    assert not [char for char in shown if unicodedata.category(char) in ("Cs", "Zl", "Zp") or char in BIDI]
    assert readable(shown) == shown
    assert printable(text).isprintable()
