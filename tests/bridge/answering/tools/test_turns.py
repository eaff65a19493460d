"""What looking through text for calls takes of one turn of the loop, whatever a model or a site writes."""

from __future__ import annotations

import time

import pytest
from tool_forms import offering

from bridge.answering.tools.call_buffer import CallBuffer
from bridge.answering.tools.offered import OfferedTools

#: What one read from the site may bring, and what a model that repeats itself sends in small deltas.
READ_CHARS, MANY_CHARS, SMALL_CHARS = 32 * 1024, 16 * 1024, 8
#: Seconds of CPU; on a machine of 2026 they are some 0.03 and 0.05.
ONE_READ, SMALL_DELTAS = 0.15, 0.5

#: What may begin something again and again, and each time is none in the end; what stands before NUL comes once.
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
    """What is behind NUL (or all) again and again, behind what is before it."""
    before, _, piece = text.rpartition("\0")
    return (before + piece * (chars // len(piece) + 1))[:chars]


def seconds(pieces: list[str]) -> float:
    """The CPU time of a thread in which they are taken."""
    buffer = CallBuffer(OfferedTools(offering()))
    began = time.thread_time()
    for piece in pieces:
        buffer.push(piece)
    return time.thread_time() - began


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_read_holds_the_loop_only_for_a_moment(text: str) -> None:
    read = repeated(text, READ_CHARS)
    assert min(seconds([read]), seconds([read])) < ONE_READ


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_small_deltas_are_not_looked_through_again_and_again(text: str) -> None:
    text = repeated(text, MANY_CHARS)
    assert seconds([text[at : at + SMALL_CHARS] for at in range(0, len(text), SMALL_CHARS)]) < SMALL_DELTAS


def test_a_piece_as_long_as_no_model_writes_one_waits_for_the_end() -> None:
    buffer = CallBuffer(OfferedTools(offering()))
    assert buffer.push("[\n" * 40_000) == ""
    assert buffer.size == 80_000
