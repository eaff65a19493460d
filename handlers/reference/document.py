"""Builds the OpenAPI document (3.1) from the descriptions of the calls. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from bridge.dialects.completions import schemas as completions
from bridge.dialects.dialect import Api
from bridge.dialects.messages import answer_schemas as message_answers
from bridge.dialects.messages import schemas as messages
from bridge.dialects.openai import chat_schemas as chat
from bridge.dialects.openai import schemas as openai
from bridge.dialects.openai.errors import OpenAI
from bridge.dialects.responses import answer_schemas as response_answers
from bridge.dialects.responses import schemas as responses
from bridge.dialects.schema import Schema, any_of, literal, ref, string
from bridge.error_codes import CODES, Cause, Code
from bridge.errors import ApiError
from bridge.headers import ABOUT_ANSWER, REASON, REQUEST_ID
from handlers.monitoring import schemas as monitoring
from handlers.reference.headers import HEADERS, OF_STATUS, REFUSED_AT_ONCE
from handlers.reference.operation import EVENTS, FORM, JSON, Answer, DescribedCall, Tag

_MODULES: Final = (chat, completions, responses, response_answers, messages, message_answers, openai, monitoring)
#: The headers that can carry the key.
_KEYS: Final[Mapping[str, Mapping[str, str]]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer sk-lmab-…`"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
}
#: The schema of the document itself.
_OWN: Final[Mapping[str, Schema]] = {
    "OpenapiDocument": {"type": "object", "required": ["openapi", "info", "paths", "components"]},
}

_ABOUT: Final = """\
One daemon that speaks OpenAI's and Anthropic's APIs to its clients and LMArena's web protocol to the site.

Every path under `/v1` also works under `/api/v1`, and every path that answers GET also answers HEAD. Fields that are \
not described here are ignored. Numbers of tokens are estimates. An error's `code` and the header `x-bridge-reason` \
say what went wrong; in Anthropic's API the error's `type` does, and its status is 529 where other APIs have 503. A \
stream that breaks off ends with one error event.
"""


class Failure(NamedTuple):
    """All errors of a call that have the same status in its API."""

    status: int
    codes: tuple[Code, ...]


def schemas() -> dict[str, Schema]:
    """All schemas, by name. Raises ValueError if two have the same name."""
    found = dict(_OWN)
    for module in _MODULES:
        if twice := found.keys() & module.SCHEMAS.keys():
            raise ValueError(f"described twice: {', '.join(twice)}")
        found.update(module.SCHEMAS)
    return found


def failures(call: DescribedCall) -> Sequence[Failure]:
    """The errors of a call, by status."""
    by_status: dict[int, dict[Code, None]] = {}
    for row in CODES:
        if row.of in call.operation.fails:
            for api in call.apis:
                status = api.error(ApiError(row.status, row.code, ""), "").status
                by_status.setdefault(status, {})[row] = None
    return [Failure(status, tuple(rows)) for status, rows in sorted(by_status.items())]


def document(calls: Iterable[DescribedCall], tags: Iterable[Tag], version: str) -> dict[str, object]:
    """Build the OpenAPI document."""
    shared = _SharedResponses()
    paths: dict[str, dict[str, object]] = {}
    for call in calls:
        paths.setdefault(call.shown_path, {})[call.method.lower()] = _operation(call, shared)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LMArena Bridge",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag.name, "description": tag.about} for tag in tags],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "responses": shared.components,
            "headers": {name: {"description": about, "schema": schema} for name, (about, schema) in HEADERS.items()},
            "securitySchemes": _KEYS,
        },
    }


def _operation(call: DescribedCall, shared: _SharedResponses) -> dict[str, object]:
    about = call.operation
    described: dict[str, object] = {"operationId": about.id, "tags": [about.tag], "summary": about.summary}
    if about.about:
        described["description"] = about.about
    keys: list[dict[str, list[str]]] = [{name: []} for name in _KEYS] if call.keyed else []
    described["security"] = keys + ([{}] if call.open and call.keyed else [])
    if about.parameters:
        described["parameters"] = [
            {
                "name": each.name,
                "in": each.place,
                "required": each.place == "path",
                "description": each.about,
                "schema": each.schema,
            }
            for each in about.parameters
        ]
    content = {media: {"schema": ref(name)} for media, name in ((JSON, about.body), (FORM, about.form)) if name}
    if content:
        described["requestBody"] = {"required": True, "content": content}
    answers = {str(answer.status): _answer(call, answer) for answer in about.answers}
    described["responses"] = {**answers, **{str(each.status): shared.of(call, each) for each in failures(call)}}
    return described


def _answer(call: DescribedCall, answer: Answer) -> dict[str, object]:
    schema = string() if answer.schema is None else ref(answer.schema)
    content = {answer.media: {"schema": schema}}
    if answer.events is not None:
        content[EVENTS] = {"schema": ref(answer.events)}
    about = (
        f"{answer.about} In a stream, the schema describes the data of each event." if answer.events else answer.about
    )
    headers = (*_request_ids(call.apis), *call.operation.headers)
    described: dict[str, object] = {"description": about, "headers": dict(map(_header, headers))}
    return described if answer.status == 304 else {**described, "content": content}


def _header(name: str) -> tuple[str, dict[str, str]]:
    return name, {"$ref": f"#/components/headers/{name}"}


def _request_ids(apis: tuple[Api, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((REQUEST_ID, *(api.request_id_header for api in apis))))


class _SharedResponses:
    """Error responses as components, since most calls share them."""

    def __init__(self) -> None:
        self.components: dict[str, object] = {}
        self._names: dict[tuple[object, ...], str] = {}

    def of(self, call: DescribedCall, failure: Failure) -> dict[str, str]:
        """Return a reference to the component for a call's errors with one status."""
        headers = _headers_of(call, failure.status)
        families = tuple("OpenAI" if isinstance(api, OpenAI) else "Anthropic" for api in call.apis)
        key = families, failure, headers
        if key not in self._names:
            base = f"{'Or'.join(families)}{failure.status}"
            number = sum(name.partition("_")[0] == base for name in self.components)
            name = self._names[key] = f"{base}_{number + 1}" if number else base
            self.components[name] = _error_answer(call.apis, failure, headers)
        return {"$ref": f"#/components/responses/{self._names[key]}"}


def _headers_of(call: DescribedCall, status: int) -> tuple[str, ...]:
    """The headers of an error, without its reason. A call that asks a model may also have headers about the answer."""
    asks = Cause.LIMITS in call.operation.fails and status not in REFUSED_AT_ONCE
    own = (*ABOUT_ANSWER, *(name for name in call.operation.headers if name not in ABOUT_ANSWER)) if asks else ()
    named = dict.fromkeys((*_request_ids(call.apis), *OF_STATUS.get(status, ()), *own))
    return tuple(name for name in named if name != REASON)


def _error_answer(apis: Sequence[Api], failure: Failure, names: Iterable[str]) -> dict[str, object]:
    reasons = dict.fromkeys(reason.value for row in failure.codes for reason in row.reasons)
    headers: dict[str, object] = dict(map(_header, names))
    headers[REASON] = {"description": "The word of diagnosis.", "schema": literal(*reasons)}
    return {
        "description": "\n".join(f"- `{row.code}`: {row.when}" for row in failure.codes),
        "headers": headers,
        "content": {JSON: {"schema": _either([_error_schema(api, failure) for api in apis])}},
    }


def _either(schemas: Sequence[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else any_of(*schemas)


def _error_schema(api: Api, failure: Failure) -> Schema:
    if not isinstance(api, OpenAI):
        return ref("MessageError")
    code = literal(*dict.fromkeys(row.code for row in failure.codes))
    return {"allOf": [ref("Error"), {"properties": {"error": {"properties": {"code": code}}}}]}
