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
#: A placeholder for the daemon's address in the rendered page. It needs no escaping.
ORIGIN: Final = "http://bridge.invalid"
#: A path parameter in the router's notation: its name and its pattern.
_PATTERN: Final = re.compile(r"\{(\w+):[^}]+\}")


class Parameter(NamedTuple):
    """A parameter in the path, the query or a header (`place`)."""

    name: str
    schema: Schema
    about: str
    place: str = "query"


class Answer(NamedTuple):
    """An answer. `schema` names the component of its body, None for a text; `events` that of an event in its stream."""

    about: str
    schema: str | None = None
    media: str = JSON
    status: int = 200
    events: str | None = None


class Operation(NamedTuple):
    """One call. `id` is unique; `body` and `form` name components; `fails` lists the causes of its errors.

    `headers` are those of its answers besides `x-request-id`. `example` is a body that can be sent as it is, except
    that MODEL stands for a model's name. A call without `answers` is not served; its summary says why. If
    `in_either_form` is set, requests with `anthropic-version` are answered in the form of Anthropic's API.
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

    `apis` has the API that formats its errors, or two if a header of the request decides between them.
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
