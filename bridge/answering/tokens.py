"""The token counts in `usage`: an estimate of what o200k_base would make of a text.

Every character has a fixed weight, and the estimate is the sum of the weights, rounded up. It does therefore not depend
on how the text was divided, and never decreases as text is added. bench/DECISIONS.md says why there is no real
tokenizer here, and how accurate the estimate is.
"""

from __future__ import annotations

import asyncio
import string
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from bridge.answering.messages import Message, calls_of

#: The heading that names the author of a message if there are several (`bridge.answering.transcript`).
_HEADING_TOKENS: Final = 4

#: A prompt of more characters is counted in a thread, in pieces of this size so that the event loop gets its turn.
PIECE_CHARS: Final = 200_000

# Weights are in hundredths of a token, so that sums are exact and independent of the order.
_LETTER: Final = 20
_OTHER_ASCII: Final = 62
#: A space, as a difference from `_OTHER_ASCII`.
_SPACE: Final = 10 - _OTHER_ASCII
#: Characters of two, three and four bytes in UTF-8, by their first byte as `_FIRST_BYTES` maps it.
_WEIGHTS: Final = {b"\xc0": 35, b"\xe0": 71, b"\xf0": 200}
#: The same, as differences from `_OTHER_ASCII`.
_CORRECTIONS: Final = [(first_byte, weight - _OTHER_ASCII) for first_byte, weight in _WEIGHTS.items()]
#: Characters of four bytes weigh most.
MAX_TOKENS_PER_CHAR: Final = _WEIGHTS[b"\xf0"] // 100

_FIRST_BYTES: Final = bytes((*range(0xC0), *[0xC0] * 32, *[0xE0] * 16, *[0xF0] * 16))
#: ASCII letters, and the continuation bytes of other characters.
_LETTERS_AND_LATER_BYTES: Final = string.ascii_letters.encode() + bytes(range(0x80, 0xC0))


#: Runs a function that counts a text, in a thread.
InThread: TypeAlias = Callable[[Callable[[str], int], str], Awaitable[int]]


class TokenCount:
    """Counts the tokens of a text that arrives in pieces; the total does not depend on how it was divided."""

    __slots__ = ("_hundredths",)

    def __init__(self) -> None:
        self._hundredths = 0

    def add(self, text: str) -> None:
        """Count the next piece, which may contain lone surrogates."""
        self._hundredths += _weight(text)

    @property
    def total(self) -> int:
        """The tokens so far, rounded up."""
        return -(-self._hundredths // 100)


def estimate(text: str) -> int:
    """Estimate the tokens of a whole text."""
    return -(-_weight(text) // 100)


def _weight(text: str) -> int:
    """The estimate for a text in hundredths of a token; that of two texts together is the sum of both."""
    others = text.encode("utf-8", "surrogatepass").translate(_FIRST_BYTES, _LETTERS_AND_LATER_BYTES)
    weight = _LETTER * (len(text) - len(others)) + _OTHER_ASCII * len(others) + _SPACE * others.count(b" ")
    if not text.isascii():
        for first_byte, difference in _CORRECTIONS:
            weight += difference * others.count(first_byte)
    return weight


def rough_estimate(text: str) -> int:
    """Extrapolate from the first `PIECE_CHARS` characters, which is accurate enough for an error message."""
    first = text[:PIECE_CHARS]
    return estimate(first) * len(text) // max(1, len(first))


async def prompt_tokens(messages: Sequence[Message], in_thread: InThread = asyncio.to_thread) -> int:
    """Estimate the tokens of all messages of a request, with their headings.

    Long texts are counted through `in_thread`.
    """
    texts = [message.text for message in messages]
    for call in calls_of(messages):
        texts += call.name, call.arguments
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
