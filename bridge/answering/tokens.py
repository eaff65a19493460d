"""The count behind `usage`: about how many tokens o200k_base makes of a text, by a sum over its characters.

Every character has a fixed weight, and a text's tokens are the sum of them, rounded up. So the count is additive: it
does not depend on how the text was cut, and never falls as text is added. bench/DECISIONS.md says why this is no
tokenizer, and how far from one it is.
"""

from __future__ import annotations

import asyncio
import string
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from bridge.answering.messages import Message, calls_of

#: What says who wrote a message, where there are several (`bridge.answering.transcript`).
_HEADING_TOKENS: Final = 4

#: A prompt of more characters is counted in a thread, in pieces of so many: the event loop runs in between.
PIECE_CHARS: Final = 200_000

# In hundredths of a token, so that a sum is exact and does not depend on the order.
_LETTER: Final = 20
_OTHER_ASCII: Final = 62
#: What a space differs by.
_SPACE: Final = 10 - _OTHER_ASCII
#: Characters of two, three and four bytes by the first byte in UTF-8, as `_FIRST_BYTES` writes it.
_WEIGHTS: Final = {b"\xc0": 35, b"\xe0": 71, b"\xf0": 200}
#: What they differ by.
_CORRECTIONS: Final = [(first_byte, weight - _OTHER_ASCII) for first_byte, weight in _WEIGHTS.items()]
#: No character has more tokens than one of four bytes.
MOST_TOKENS_OF_CHARACTER: Final = _WEIGHTS[b"\xf0"] // 100

_FIRST_BYTES: Final = bytes((*range(0xC0), *[0xC0] * 32, *[0xE0] * 16, *[0xF0] * 16))
#: ASCII letters, and the bytes of a character behind its first.
_LETTERS_AND_LATER_BYTES: Final = string.ascii_letters.encode() + bytes(range(0x80, 0xC0))


#: Counts a text by a function, in a thread.
InThread: TypeAlias = Callable[[Callable[[str], int], str], Awaitable[int]]


class TokenCount:
    """Counts the tokens of a text that comes in pieces, with the same total however it was cut."""

    __slots__ = ("_hundredths",)

    def __init__(self) -> None:
        self._hundredths = 0

    def add(self, text: str) -> None:
        """Count the next piece, lone surrogates included."""
        others = text.encode("utf-8", "surrogatepass").translate(_FIRST_BYTES, _LETTERS_AND_LATER_BYTES)
        weight = _LETTER * (len(text) - len(others)) + _OTHER_ASCII * len(others) + _SPACE * others.count(b" ")
        if not text.isascii():
            for first_byte, difference in _CORRECTIONS:
                weight += difference * others.count(first_byte)
        self._hundredths += weight

    @property
    def total(self) -> int:
        """Tokens so far; 0 for nothing. It never falls as pieces are added."""
        return -(-self._hundredths // 100)


def estimate(text: str) -> int:
    """Estimate the tokens of a whole text."""
    count = TokenCount()
    count.add(text)
    return count.total


def rough_estimate(text: str) -> int:
    """Estimate a text by its first `PIECE_CHARS` characters, for an error: it may be some tokens off."""
    first = text[:PIECE_CHARS]
    return estimate(first) * len(text) // max(1, len(first))


async def prompt_tokens(messages: Sequence[Message], in_thread: InThread = asyncio.to_thread) -> int:
    """Estimate the tokens of a request's messages, as a model that is shown all of them reads them.

    `in_thread` is used if there are many characters.
    """
    texts = [message.text for message in messages]
    texts += [part for call in calls_of(messages) for part in (call.name, call.arguments)]
    headings = _HEADING_TOKENS * len(messages) if len(messages) > 1 else 0
    text = "".join(texts)
    if len(text) <= PIECE_CHARS:
        return estimate(text) + headings
    return await in_thread(_estimate_in_pieces, text) + headings


def _estimate_in_pieces(text: str) -> int:
    count = TokenCount()
    for start in range(0, len(text), PIECE_CHARS):
        count.add(text[start : start + PIECE_CHARS])
    return count.total
