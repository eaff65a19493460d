"""Requests independent of the API that they came through; immutable, and valid once built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bridge.answering.messages import Message, ToolKind
from bridge.answering.stages import StageMaker
from upstream.protocol.files import File


class Tool(NamedTuple):
    """A tool that the model may call. A custom tool takes free text, which `grammar` may describe.

    `parameters` is the JSON Schema of a function's arguments, exactly as the caller gave it, or None. If it is not a
    valid schema, `checkable` is False, and the arguments only have to be an object.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, object] | None = None
    kind: ToolKind = "function"
    grammar: str = ""
    checkable: bool = True


class Tools(NamedTuple):
    """The tools of a request, at least one, and which of them may or must be called.

    `allowed` has the names of those that may be called. `required` demands at least one call; `parallel` permits
    several.
    """

    tools: tuple[Tool, ...]
    allowed: frozenset[str]
    required: bool = False
    parallel: bool = True


class JsonFormat(NamedTuple):
    """The answer must be JSON: any object, or a value that matches `schema`, which is a valid JSON Schema."""

    schema: Mapping[str, object] | None = None
    name: str = ""
    strict: bool = False
    description: str = ""


class ChatRequest(NamedTuple):
    """A chat to be answered. `model` is the name that the caller used; `ignored` lists parameters without effect.

    `first_document` is the path of the first content part with a PDF, which most models do not accept. The answer's
    text ends before the first of `stops`, or after `max_tokens` tokens. `choices` is the number of answers wanted. With
    `truncate`, the oldest messages are dropped if the prompt exceeds the site's limit. `stages` are applied to the
    answer after the stages that the other fields require.
    """

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    ignored: tuple[str, ...] = ()
    first_document: str | None = None
    tools: Tools | None = None
    json_format: JsonFormat | None = None
    stops: tuple[str, ...] = ()
    max_tokens: int | None = None
    choices: int = 1
    truncate: bool = False
    stages: tuple[StageMaker, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A request to draw `count` pictures from `prompt`, or to edit `pictures` accordingly.

    `inline` asks for the image data itself instead of URLs.
    """

    model: str
    prompt: str
    count: int = 1
    inline: bool = False
    pictures: tuple[File, ...] = ()
    ignored: tuple[str, ...] = ()


class Usage(NamedTuple):
    """Token counts, estimated by `bridge.answering.tokens`; `completion` includes `reasoning`.

    `cached` is the part of `prompt` that was not sent, because the evaluation already holds it.
    """

    prompt: int
    completion: int
    reasoning: int
    cached: int = 0
