"""An agent of pydantic-ai without tools."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from job import Job, Say, run
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


def begin(job: Job) -> Say:
    provider = OpenAIProvider(base_url=job.base_url, api_key=job.key)
    agent = Agent(OpenAIChatModel(job.model, provider=provider))
    messages: list[Any] = []

    def say(text: str, picture: str | None) -> Iterator[str]:
        prompt: Any = text
        if picture is not None:
            prompt = [text, BinaryContent(base64.b64decode(picture.partition(",")[2]), media_type="image/png")]
        answer = agent.run_stream_sync(prompt, message_history=messages)
        yield from answer.stream_text(delta=True, debounce_by=None)
        messages[:] = answer.all_messages()

    return say


run(begin, AgentRunError)
