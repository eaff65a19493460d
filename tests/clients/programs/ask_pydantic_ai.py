"""Agents of pydantic-ai: without tools, with two tools, and with an output type."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from job import FUNCTIONS, Job, Say, called, run
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


class Animal(BaseModel):
    """What an agent puts out."""

    name: str
    legs: int


def begin(job: Job) -> Say:
    model = OpenAIChatModel(job.model, provider=OpenAIProvider(base_url=job.base_url, api_key=job.key))
    return {"talk": talking, "tools": calling, "output": putting_out}[job.task](model)


def talking(model: OpenAIChatModel) -> Say:
    agent = Agent(model)
    messages: list[Any] = []

    def say(text: str, picture: str | None) -> Iterator[str]:
        prompt: Any = text
        if picture is not None:
            prompt = [text, BinaryContent(base64.b64decode(picture.partition(",")[2]), media_type="image/png")]
        answer = agent.run_stream_sync(prompt, message_history=messages)
        yield from answer.stream_text(delta=True, debounce_by=None)
        messages[:] = answer.all_messages()

    return say


def calling(model: OpenAIChatModel) -> Say:
    agent = Agent(model, tools=list(FUNCTIONS.values()))
    messages: list[Any] = []

    def say(text: str, _: str | None) -> Iterator[str]:
        answer = agent.run_sync(text, message_history=messages)
        for message in answer.new_messages():
            for part in message.parts:
                if isinstance(part, ToolCallPart):
                    yield called(part.tool_name, part.args_as_dict())
        yield answer.output
        messages[:] = answer.all_messages()

    return say


def putting_out(model: OpenAIChatModel) -> Say:
    agent = Agent(model, output_type=Animal)

    def say(text: str, _: str | None) -> Iterator[str]:
        yield agent.run_sync(text).output.model_dump_json()

    return say


run(begin, AgentRunError)
