"""The size of what a request sends to a model: its whole history, and the instructions about tools."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from bridge.answering.chat import ChatRequest
from bridge.answering.messages import Message, join_answers
from bridge.answering.tokens import InThread, estimate, prompt_tokens
from bridge.answering.tools.instructions import instructions
from bridge.errors import CHARS_PER_TOKEN, context_exceeded

#: So many messages are read, however short the longest prompt is.
MOST_MESSAGES: Final = 10_000
#: What the heading of a message takes of a prompt, at least.
_HEADING_CHARS: Final = len("[User]\n\n\n")


async def request_tokens(request: ChatRequest, in_thread: InThread = asyncio.to_thread) -> int:
    """Estimate the tokens of all that a model has before it when it answers a request.

    `in_thread` is used if there are many characters.
    """
    told = instructions(request.tools, request.json_format)
    return await prompt_tokens(join_answers(request.messages), in_thread) + (estimate(told) if told else 0)


def check_count(messages: Sequence[Message], max_chars: int) -> None:
    """Raise ApiError (400) for far more messages than a prompt of `max_chars` has room for.

    Some of a request's work is done for each message, in one turn of the event loop.
    """
    if len(messages) > max(MOST_MESSAGES, max_chars // _HEADING_CHARS):
        raise context_exceeded(
            f"The request has {len(messages)} messages; LMArena takes a prompt of {max_chars} characters. "
            "Drop earlier messages.",
            _HEADING_CHARS * len(messages) // CHARS_PER_TOKEN,
            max_chars // CHARS_PER_TOKEN,
        )
