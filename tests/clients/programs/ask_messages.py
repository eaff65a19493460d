"""The Messages API through the `anthropic` package."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeAlias

import anthropic
from job import FUNCTIONS, TOOLS, Job, Say, called, run
from pydantic import BaseModel

#: Yields the pieces of an answer's thoughts and text, and returns the message.
Asking: TypeAlias = Generator[str, None, Any]

THINKING: Any = {"type": "enabled", "budget_tokens": 1024}


class Animal(BaseModel):
    """What `parse` is asked for."""

    name: str
    legs: int


def begin(job: Job) -> Say:
    client = anthropic.Anthropic(base_url=job.base_url.removesuffix("/v1"), api_key=job.key, max_retries=0)
    way, _, what = job.task.partition(" ")
    asked = {"model": job.model, "max_tokens": 2000}
    match what:
        case "talk":
            return talking(client, way, asked)
        case "thinking":
            return thinking(client, way, asked)
        case "tools":
            return calling(client, way, asked)
        case "runner":
            return running(client, way, asked)
        case "parse":
            return parsing(client, way, asked)
    return counting(client, job.model)


def create(client: anthropic.Anthropic, **asked: Any) -> Asking:
    message = client.messages.create(**asked)
    for block in message.content:
        if block.type != "tool_use":
            yield block.thinking if block.type == "thinking" else block.text
    return message


def stream(client: anthropic.Anthropic, **asked: Any) -> Asking:
    with client.messages.stream(**asked) as stream:
        for event in stream:
            if event.type == "thinking":
                yield event.thinking
            if event.type == "text":
                yield event.text
        return stream.get_final_message()


WAYS: dict[str, Callable[..., Asking]] = {"create": create, "stream": stream}


def conversation(client: anthropic.Anthropic, way: str, asked: dict[str, Any]) -> Callable[[str, str | None], Asking]:
    messages: list[Any] = []

    def say(text: str, picture: str | None) -> Asking:
        content: list[Any] = [{"type": "text", "text": text}]
        if picture is not None:
            source = {"type": "base64", "media_type": "image/png", "data": picture.partition(",")[2]}
            content.append({"type": "image", "source": source})
        messages.append({"role": "user", "content": content})
        message = yield from WAYS[way](client, messages=messages, **asked)
        messages.append({"role": "assistant", "content": message.content})
        return message

    return say


talking = conversation


def thinking(client: anthropic.Anthropic, way: str, asked: dict[str, Any]) -> Say:
    """Thoughts come first, with a signature, and are sent back with the history."""
    talk = conversation(client, way, {**asked, "thinking": THINKING})

    def say(text: str, _: str | None) -> Iterator[str]:
        message = yield from talk(text, None)
        blocks = [block.model_dump() for block in message.content]
        yield json.dumps(
            [[block["type"], block.get("thinking", block.get("text")), "signature" in block] for block in blocks]
        )

    return say


def calling(client: anthropic.Anthropic, way: str, asked: dict[str, Any]) -> Say:
    messages: list[Any] = []
    functions = [tool["function"] for tool in TOOLS]
    tools = [
        {"name": each["name"], "description": each["description"], "input_schema": each["parameters"]}
        for each in functions
    ]

    def say(text: str, _: str | None) -> Iterator[str]:
        messages.append({"role": "user", "content": text})
        while True:
            message = quietly(WAYS[way](client, messages=messages, tools=tools, **asked))
            messages.append({"role": "assistant", "content": message.content})
            calls = [block for block in message.content if block.type == "tool_use"]
            if (message.stop_reason == "tool_use") != bool(calls):
                yield f"stopped by {message.stop_reason}"
            for call in calls:
                yield called(call.name, call.input)
            if not calls:
                yield text_of(message)
                return
            messages.append({"role": "user", "content": [result(call) for call in calls]})

    return say


def running(client: anthropic.Anthropic, way: str, asked: dict[str, Any]) -> Say:
    """Let the SDK's own tool runner call the tools."""
    messages: list[Any] = []
    tools = [anthropic.beta_tool(function) for function in FUNCTIONS.values()]

    def say(text: str, _: str | None) -> Iterator[str]:
        messages.append({"role": "user", "content": text})
        runner = client.beta.messages.tool_runner(messages=list(messages), tools=tools, stream=way == "stream", **asked)
        for turn in runner:
            message: Any = turn.get_final_message() if way == "stream" else turn
            messages.append({"role": "assistant", "content": message.content})
            calls = [block for block in message.content if block.type == "tool_use"]
            for call in calls:
                yield called(call.name, call.input)
            if calls:
                messages.append({"role": "user", "content": [result(call) for call in calls]})
            else:
                yield text_of(message)

    return say


def parsing(client: anthropic.Anthropic, way: str, asked: dict[str, Any]) -> Say:
    def say(text: str, _: str | None) -> Iterator[str]:
        prepared = {**asked, "messages": [{"role": "user", "content": text}], "output_format": Animal}
        if way == "create":
            animal = client.messages.parse(**prepared).parsed_output
        else:
            with client.messages.stream(**prepared) as stream:
                animal = stream.get_final_message().parsed_output
        assert animal is not None
        yield animal.model_dump_json()

    return say


def counting(client: anthropic.Anthropic, model: str) -> Say:
    """List the models, retrieve one, and count the tokens of a text."""

    def say(text: str, _: str | None) -> Iterator[str]:
        yield json.dumps([listed.id for listed in client.models.list(limit=5)])
        yield client.models.retrieve(model).id
        messages: Any = [{"role": "user", "content": text}]
        counted = client.messages.count_tokens(model=model, messages=messages).input_tokens
        usage = client.messages.create(model=model, messages=messages, max_tokens=100).usage
        yield str(usage.input_tokens == counted).lower()

    return say


def quietly(asking: Asking) -> Any:
    """Return the message without yielding its pieces."""
    while True:
        try:
            next(asking)
        except StopIteration as end:
            return end.value


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content)


def result(call: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call.id, "content": FUNCTIONS[call.name](**call.input)}


run(begin, anthropic.AnthropicError)
