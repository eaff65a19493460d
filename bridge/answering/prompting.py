"""The size of a request's prompt: its whole history, and the instructions about tools and formats."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from bridge.answering.chat import ChatRequest
from bridge.answering.messages import Message, join_answers
from bridge.answering.tokens import InThread, estimate, prompt_tokens
from bridge.answering.tools.instructions import instructions
from bridge.errors import CHARS_PER_TOKEN, context_exceeded

#: This many messages are always accepted, however small the site's limit on prompts is.
MOST_MESSAGES: Final = 10_000
#: The least that the heading of a message adds to a prompt.
_HEADING_CHARS: Final = len("[User]\n\n\n")


async def request_tokens(request: ChatRequest, in_thread: InThread = asyncio.to_thread) -> int:
    """Estimate the tokens of everything that the model sees when it answers a request.

    Long texts are counted through `in_thread`.
    """
    instruction_text = instructions(request.tools, request.json_format)
    return await prompt_tokens(join_answers(request.messages), in_thread) + (
        estimate(instruction_text) if instruction_text else 0
    )


def check_count(messages: Sequence[Message], max_chars: int) -> None:
    """Raise ApiError (400) if there are far more messages than fit into a prompt of `max_chars`.

    Some work is done per message without yielding to the event loop.
    """
    if len(messages) > max(MOST_MESSAGES, max_chars // _HEADING_CHARS):
        raise context_exceeded(
            f"The request has {len(messages)} messages; LMArena accepts a prompt of at most {max_chars} characters. "
            "Drop earlier messages.",
            _HEADING_CHARS * len(messages) // CHARS_PER_TOKEN,
            max_chars // CHARS_PER_TOKEN,
        )
