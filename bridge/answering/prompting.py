"""How many tokens a request puts before a model: its whole history, with what the model is told about tools."""

from __future__ import annotations

from bridge.answering.chat import ChatRequest
from bridge.answering.messages import join_answers
from bridge.answering.tokens import estimate, prompt_tokens
from bridge.answering.tools.instructions import instructions


async def request_tokens(request: ChatRequest) -> int:
    """Estimate the tokens of all that a model has before it when it answers a request."""
    told = instructions(request.tools, request.json_format)
    return await prompt_tokens(join_answers(request.messages)) + (estimate(told) if told else 0)
