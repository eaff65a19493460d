"""The Responses API through the `openai` package of Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeAlias

import openai
from job import FUNCTIONS, PATCH, TOOLS, Job, Say, called, run
from pydantic import BaseModel

#: Yields the pieces of an answer's text, and returns the response.
Asking: TypeAlias = Generator[str, None, Any]


class Failed(openai.OpenAIError):
    """A failed response in a stream, for which the SDK itself raises no error."""


class Animal(BaseModel):
    """What `parse` is asked for."""

    name: str
    legs: int


def begin(job: Job) -> Say:
    client = openai.OpenAI(base_url=job.base_url, api_key=job.key, max_retries=0)
    way, _, what = job.task.partition(" ")
    match what:
        case "talk":
            return talking(client, job, way)
        case "parse":
            return parsing(client, job, way)
        case "stored":
            return storing(client, job, way)
    tools = [PATCH] if what == "custom" else [{"type": "function", **tool["function"]} for tool in TOOLS]
    return calling(client, job, way, tools)


def create(client: openai.OpenAI, **asked: Any) -> Asking:
    response = client.responses.create(**asked)
    yield response.output_text
    return response


def stream(client: openai.OpenAI, **asked: Any) -> Asking:
    with client.responses.stream(**asked) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                yield event.delta
            if event.type == "response.failed":
                raise Failed(event.response.error.message)
        return stream.get_final_response()


def events(client: openai.OpenAI, **asked: Any) -> Asking:
    """Read single events, and take only finished items as the output, as Codex does."""
    output = []
    for event in client.responses.create(**asked, stream=True):
        if event.type == "response.output_text.delta":
            yield event.delta
        if event.type == "response.output_item.done":
            output.append(event.item)
        if event.type == "response.failed":
            raise Failed(event.response.error.message)
        if event.type == "response.completed":
            return event.response.model_copy(update={"output": output})
    raise Failed("the stream has no end")


WAYS: dict[str, Callable[..., Asking]] = {"create": create, "stream": stream, "events": events}


def talking(client: openai.OpenAI, job: Job, way: str) -> Say:
    """With `stream`, name the previous response; otherwise send the history again."""
    history: list[Any] = []
    previous = None

    def say(text: str, picture: str | None) -> Iterator[str]:
        nonlocal history, previous
        shown = [] if picture is None else [{"type": "input_image", "image_url": picture, "detail": "auto"}]
        history.append({"role": "user", "content": [{"type": "input_text", "text": text}, *shown]})
        response = yield from WAYS[way](client, model=job.model, input=history, previous_response_id=previous)
        if way == "stream":
            history, previous = [], response.id
        else:
            history += response.output

    return say


def calling(client: openai.OpenAI, job: Job, way: str, tools: list[Any]) -> Say:
    """With `create`, name the previous response; when streaming, send the history again."""
    history: list[Any] = []
    previous = None

    def say(text: str, _: str | None) -> Iterator[str]:
        nonlocal history, previous
        history.append({"role": "user", "content": text})
        while True:
            asked = {"input": history, "previous_response_id": previous, "store": way == "create"}
            response = quietly(WAYS[way](client, model=job.model, tools=tools, **asked))
            if way == "create":
                history, previous = [], response.id
            else:
                history += response.output
            calls = [item for item in response.output if item.type.endswith("_call")]
            for call in calls:
                name, result = call.name, "Done."
                if call.type == "custom_tool_call":
                    yield called(name, call.input)
                else:
                    arguments = json.loads(call.arguments)
                    yield called(name, arguments)
                    result = FUNCTIONS[name](**arguments)
                history.append({"type": f"{call.type}_output", "call_id": call.call_id, "output": result})
            if not calls:
                yield response.output_text
                return

    return say


def quietly(asking: Asking) -> Any:
    """Return the response without yielding its pieces."""
    while True:
        try:
            next(asking)
        except StopIteration as end:
            return end.value


def parsing(client: openai.OpenAI, job: Job, way: str) -> Say:
    def say(text: str, _: str | None) -> Iterator[str]:
        asked: Any = {"model": job.model, "input": text, "text_format": Animal}
        if way == "create":
            animal = client.responses.parse(**asked).output_parsed
        else:
            with client.responses.stream(**asked) as stream:
                animal = stream.get_final_response().output_parsed
        assert animal is not None
        yield animal.model_dump_json()

    return say


def storing(client: openai.OpenAI, job: Job, way: str) -> Say:
    """Retrieve a response and its input, delete it, and check that it can no longer be used."""

    def say(text: str, _: str | None) -> Iterator[str]:
        responses, asked = client.responses, {"model": job.model, "input": text}
        made = quietly(WAYS[way](client, **asked))
        yield responses.retrieve(made.id).output_text
        for item in responses.input_items.list(made.id):
            yield item.content[0].text
        responses.delete(made.id)
        yield name_of_error(lambda: responses.retrieve(made.id))
        yield name_of_error(lambda: responses.create(**asked, previous_response_id=made.id))
        yield str(responses.input_tokens.count(**asked).input_tokens == made.usage.input_tokens).lower()

    return say


def name_of_error(call: Callable[[], object]) -> str:
    try:
        call()
    except openai.OpenAIError as error:
        return type(error).__name__
    return "none"


run(begin, openai.OpenAIError)
