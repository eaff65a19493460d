"""Prepares what /docs shows of each call: parameters, answers, errors and a curl command. Pure functions."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from bridge.dialects.openai.errors import OpenAI
from bridge.dialects.schema import WITHOUT_EFFECT, Schema
from bridge.error_codes import Code
from bridge.errors import ApiError
from handlers.reference.document import failures, schemas
from handlers.reference.operation import ORIGIN, Answer, DescribedCall, Tag

_KEY: Final = '"Authorization: Bearer $OPENAI_API_KEY"'
_ANTHROPIC_KEY: Final = '"x-api-key: $OPENAI_API_KEY"'
_VERSION: Final = "anthropic-version: 2023-06-01"
_STAND_INS: Final = (("{name}", "MODEL"), ("{id}", "RESPONSE"))
#: The names of JSON types that the page replaces.
_WORDS: Final = {"array": "list", "null": ""}


class Field(NamedTuple):
    """A parameter, or a field of the body."""

    name: str
    place: str
    kind: str
    about: str
    required: bool


class Error(NamedTuple):
    """One error as the call's API names it: `name` is a code, or in Anthropic's API a type."""

    status: int
    name: str
    reasons: Sequence[str]
    when: str


class ShownCall(NamedTuple):
    """One call as the page shows it."""

    id: str
    method: str
    path: str
    summary: str
    about: str
    needs_key: bool
    fields: Sequence[Field]
    without_effect: Sequence[str]
    answers: Sequence[Answer]
    headers: Sequence[str]
    errors: Sequence[Error]
    curl: str


class Section(NamedTuple):
    """The calls of one API."""

    name: str
    about: str
    calls: Sequence[ShownCall]


def sections(calls: Iterable[DescribedCall], tags: Iterable[Tag]) -> list[Section]:
    """Return the content of the page, one section for each API."""
    shown = [(call.operation.tag, shown_call(call)) for call in calls]
    return [Section(tag.name, tag.about, [call for name, call in shown if name == tag.name]) for tag in tags]


def shown_call(call: DescribedCall) -> ShownCall:
    """Return what the page shows of one call."""
    about = call.operation
    fields = [
        Field(each.name, each.place, kind_of(each.schema), each.about, each.place == "path")
        for each in about.parameters
    ]
    body = _body_fields(schemas()[about.body]) if about.body is not None else []
    return ShownCall(
        about.id,
        call.method,
        call.shown_path,
        about.summary,
        about.about,
        call.keyed,
        [*fields, *(field for field in body if not _has_no_effect(field))],
        [field.name for field in body if _has_no_effect(field)],
        about.answers,
        about.headers,
        [_error(call, failure.status, row) for failure in failures(call) for row in failure.codes],
        curl_line(call) if about.answers else "",
    )


def curl_line(call: DescribedCall) -> str:
    """A command that can be pasted: the key comes from the environment, and MODEL stands for a model's name."""
    about = call.operation
    path = call.shown_path
    for name, stand_in in _STAND_INS:
        path = path.replace(name, stand_in)
    anthropic = not isinstance(call.apis[0], OpenAI)
    streamed = isinstance(about.example, Mapping) and about.example.get("stream")
    parts = [f"curl{' -N' if streamed else ''}{' -X DELETE' if call.method == 'DELETE' else ''} {ORIGIN}{path}"]
    if call.keyed:
        parts.append(f"-H {_ANTHROPIC_KEY if anthropic else _KEY}")
    if anthropic:
        parts.append(f"-H {shlex.quote(_VERSION)}")
    if about.example is not None:
        parts += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(orjson.dumps(about.example).decode())}"]
    return " \\\n  ".join(parts)


def kind_of(schema: Schema) -> str:
    """Describe the type of a value in a few words."""
    if "const" in schema:
        return orjson.dumps(schema["const"]).decode()
    if "enum" in schema:
        return " or ".join(orjson.dumps(each).decode() for each in _list(schema["enum"]) if each is not None)
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(filter(None, map(kind_of, _list(schema[several])))))
    sent = schema.get("type", "anything")
    kinds = [_WORDS.get(f"{each}", f"{each}") for each in (sent if isinstance(sent, list) else [sent])]
    kind = " or ".join(filter(None, kinds))
    if isinstance(items := schema.get("items"), dict) and items:
        kind += f" of {kind_of(items)}"
    return kind + _range(schema)


def _range(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f", {least} to {most}"
    return f", at least {least}" if least is not None else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _body_fields(schema: Schema) -> list[Field]:
    properties, required = schema["properties"], _list(schema["required"])
    if not isinstance(properties, dict):
        return []
    return [
        Field(name, "body", kind_of(each), str(each.get("description", "")), name in required)
        for name, each in properties.items()
    ]


def _has_no_effect(field: Field) -> bool:
    return field.about == WITHOUT_EFFECT


def _error(call: DescribedCall, status: int, row: Code) -> Error:
    name = row.code
    if not isinstance(call.apis[0], OpenAI):
        name = orjson.loads(call.apis[0].error(ApiError(row.status, row.code, ""), "").body)["error"]["type"]
    return Error(status, name, [reason.value for reason in row.reasons], row.when)
