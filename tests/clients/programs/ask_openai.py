"""The `openai` package of Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
from job import FUNCTIONS, TOOLS, Job, Say, called, run, spoken
from pydantic import BaseModel


class Animal(BaseModel):
    """What `parse` is asked for."""

    name: str
    legs: int


def begin(job: Job) -> Say:
    client = openai.OpenAI(base_url=job.base_url, api_key=job.key, max_retries=0)
    match job.task:
        case "talk":
            return talking(client, job)
        case "parse":
            return parsing(client, job)
    return calling(client, job, ASKING[job.task])


def talking(client: openai.OpenAI, job: Job) -> Say:
    messages: list[Any] = []

    def say(text: str, picture: str | None) -> Iterator[str]:
        messages.append({"role": "user", "content": spoken(text, picture)})
        with client.chat.completions.stream(model=job.model, messages=messages) as stream:
            for event in stream:
                if event.type == "content.delta":
                    yield event.delta
            answer = stream.get_final_completion().choices[0].message
        messages.append({"role": "assistant", "content": answer.content})

    return say


def parsing(client: openai.OpenAI, job: Job) -> Say:
    def say(text: str, _: str | None) -> Iterator[str]:
        messages: Any = [{"role": "user", "content": text}]
        answer = client.chat.completions.parse(model=job.model, messages=messages, response_format=Animal)
        animal = answer.choices[0].message.parsed
        assert animal is not None
        yield animal.model_dump_json()

    return say


def calling(client: openai.OpenAI, job: Job, ask: Callable[..., dict[str, Any]]) -> Say:
    messages: list[Any] = []

    def say(text: str, _: str | None) -> Iterator[str]:
        messages.append({"role": "user", "content": text})
        while True:
            message = ask(client, model=job.model, messages=messages, tools=TOOLS)
            messages.append(message)
            if not message.get("tool_calls"):
                yield message["content"]
                return
            for call in message["tool_calls"]:
                name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
                yield called(name, arguments)
                result = FUNCTIONS[name](**arguments)
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})

    return say


def create(client: openai.OpenAI, **asked: Any) -> dict[str, Any]:
    return client.chat.completions.create(**asked).choices[0].message.model_dump(exclude_none=True)


def stream(client: openai.OpenAI, **asked: Any) -> dict[str, Any]:
    """Read the chunks of a stream, and join them by hand."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    calls: dict[int, Any] = {}
    for chunk in client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            message["content"] += choice.delta.content or ""
            for piece in choice.delta.tool_calls or ():
                function = {"name": "", "arguments": ""}
                call = calls.setdefault(piece.index, {"id": piece.id, "type": "function", "function": function})
                call["function"]["name"] += piece.function.name or ""
                call["function"]["arguments"] += piece.function.arguments or ""
    return {**message, "tool_calls": [calls[index] for index in sorted(calls)]} if calls else message


def helper(client: openai.OpenAI, **asked: Any) -> dict[str, Any]:
    with client.chat.completions.stream(**asked) as stream:
        answer = stream.get_final_completion()
    return answer.choices[0].message.model_dump(exclude_none=True, exclude={"parsed"})


ASKING: dict[str, Callable[..., dict[str, Any]]] = {"create": create, "stream": stream, "helper": helper}

run(begin, openai.OpenAIError)
