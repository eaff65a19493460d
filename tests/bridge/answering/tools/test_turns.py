"""How long a search for calls holds the event loop, whatever a model or a site writes."""

from __future__ import annotations

import time

import pytest
from tool_forms import offering

from bridge.answering.tools.call_buffer import CallBuffer
from bridge.answering.tools.offered import OfferedTools

#: The characters in one read from the site, in a repetitive answer, and in each of its small deltas.
READ_CHARS, MANY_CHARS, SMALL_CHARS = 32 * 1024, 16 * 1024, 8
#: Limits in seconds of CPU; a machine of 2026 takes about 0.03 and 0.05.
ONE_READ, SMALL_DELTAS = 0.15, 0.5

#: Text that begins a construct again and again without completing it; the part before a NUL is written once.
TEXTS = {
    "marks of a fence": "`",
    "tildes": "~",
    "fences": "```\n",
    "lines of marks": "```` \n",
    "lines with a bracket": "[\n",
    "lines with a brace": "{\n",
    "markers": "<tool_call",
    "quoted markers": '"<tool_call>',
    "results behind quotation marks": '<tool_response>"""" ',
    "blanks": " ",
    "line ends and blanks": "\n ",
    "marks in a fence": "```xyz\na\0`",
    "blanks in a fence": "```xyz\na\n\0 ",
    "blanks at the beginning of a fence": "```xyz\n\0 ",
    "line ends at the beginning of a fence": "```xyz\n\0\n",
    "marks behind a call without a marker": '{"name": "now", "arguments": {}}\0`',
    "blanks behind a call without a marker": '{"name": "now", "arguments": {}}\0 ',
    "line ends behind a call in a fence": '```json\n{"name": "now", "arguments": {}}\n\0\n',
    "marks behind a call in a fence": '```json\n{"name": "now", "arguments": {}}\n\0`',
}


def repeated(text: str, chars: int) -> str:
    """Repeat the text, or only its part after a NUL behind the part before it, up to this many characters."""
    before, _, piece = text.rpartition("\0")
    return (before + piece * (chars // len(piece) + 1))[:chars]


def seconds(pieces: list[str]) -> float:
    """Return the CPU seconds that it takes to push the pieces."""
    buffer = CallBuffer(OfferedTools(offering()))
    began = time.thread_time()
    for piece in pieces:
        buffer.push(piece)
    return time.thread_time() - began


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_one_read_of_repetitive_text_blocks_the_event_loop_only_briefly(text: str) -> None:
    read = repeated(text, READ_CHARS)
    assert min(seconds([read]), seconds([read])) < ONE_READ


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_many_small_deltas_of_repetitive_text_are_searched_in_bounded_time(text: str) -> None:
    text = repeated(text, MANY_CHARS)
    assert seconds([text[at : at + SMALL_CHARS] for at in range(0, len(text), SMALL_CHARS)]) < SMALL_DELTAS


def test_an_implausibly_long_piece_that_may_be_a_call_is_held_back_until_the_end() -> None:
    buffer = CallBuffer(OfferedTools(offering()))
    assert buffer.push("[\n" * 40_000) == ""
    assert buffer.size == 80_000
