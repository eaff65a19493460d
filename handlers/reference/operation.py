"""The description of one call: its summary, parameters, body, answers and errors."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from bridge.dialects.dialect import Api
from bridge.dialects.schema import Schema
from bridge.error_codes import Cause

JSON: Final = "application/json"
TEXT: Final = "text/plain"
HTML: Final = "text/html"
FORM: Final = "multipart/form-data"
EVENTS: Final = "text/event-stream"
#: Stands in the page for the daemon's address until somebody asks for it. It needs no escaping.
ORIGIN: Final = "http://bridge.invalid"
#: A parameter of a path as the router has it: what follows the name is its pattern.
_PATTERN: Final = re.compile(r"\{(\w+):[^}]+\}")


class Parameter(NamedTuple):
    """A parameter in the path, the query or a header (`place`)."""

    name: str
    schema: Schema
    about: str
    place: str = "query"


class Answer(NamedTuple):
    """An answer: the component that describes it, None for a text; in `events` that of one event of its stream."""

    about: str
    schema: str | None = None
    media: str = JSON
    status: int = 200
    events: str | None = None


class Operation(NamedTuple):
    """One call. `id` is unique; `body` and `form` are components; `fails` says which errors it has.

    `headers` are those of its answers beside `x-request-id`. `example` is a body that may be sent as it is, with MODEL
    in the place of a model. A call without `answers` only says why it is not served. With `in_either_form` it speaks
    Anthropic's API too, to those who send `anthropic-version`.
    """

    id: str
    tag: str
    summary: str
    about: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: str | None = None
    form: str | None = None
    answers: tuple[Answer, ...] = ()
    headers: tuple[str, ...] = ()
    fails: tuple[Cause, ...] = ()
    example: object = None
    in_either_form: bool = False


class Tag(NamedTuple):
    """A group of calls."""

    name: str
    about: str


class DescribedCall(NamedTuple):
    """One route and its description. `open` says that it may be called without a key.

    `apis` spell its errors: two where a header of the request decides which of them does.
    """

    method: str
    path: str
    apis: tuple[Api, ...]
    keyed: bool
    open: bool
    operation: Operation

    @property
    def shown_path(self) -> str:
        """Its path without patterns."""
        return _PATTERN.sub(r"{\1}", self.path)
