"""What a request asks for, of whichever front API it came by: immutable, valid once built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bridge.answering.messages import Message, ToolKind
from bridge.answering.stages import StageMaker
from upstream.protocol.files import File


class Tool(NamedTuple):
    """A tool that the model may call; a custom one takes free text, described by `grammar` if there is one.

    `parameters` is the JSON Schema of a function's arguments as it was given, None where none was. Where it is not
    `checkable`, since it is no valid schema, arguments need only be an object.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, object] | None = None
    kind: ToolKind = "function"
    grammar: str = ""
    checkable: bool = True


class Tools(NamedTuple):
    """The tools of a request, at least one, and which of them may or must be called.

    `allowed` names those that may be called. `required` asks for at least one call, `parallel` allows several.
    """

    tools: tuple[Tool, ...]
    allowed: frozenset[str]
    required: bool = False
    parallel: bool = True


class JsonFormat(NamedTuple):
    """The answer is to be JSON: any object, or a value that fits `schema`, which is a valid one."""

    schema: Mapping[str, object] | None = None
    name: str = ""
    strict: bool = False
    description: str = ""


class ChatRequest(NamedTuple):
    """A chat to be answered. `model` is the name as asked; `ignored` names what was asked for and has no effect.

    `first_document` is the path of the first part that brings a PDF, which most models do not take. The answer's text
    ends before the first of `stops`, or after `max_tokens` tokens. `choices` answers are given side by side. `stages`
    change the answer on its way to the caller, after all that the other fields ask for.
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
    stages: tuple[StageMaker, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """Pictures to be drawn: `count` of them after `prompt`, from `pictures` where it is an edit.

    `inline` asks for the bytes themselves instead of URLs.
    """

    model: str
    prompt: str
    count: int = 1
    inline: bool = False
    pictures: tuple[File, ...] = ()
    ignored: tuple[str, ...] = ()


class Usage(NamedTuple):
    """Tokens, estimated by `bridge.answering.tokens`; `completion` includes `reasoning`."""

    prompt: int
    completion: int
    reasoning: int
