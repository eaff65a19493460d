"""Checks answers against `/openapi.json`: the operation, its status, its headers, and every field of its body.

The document allows additional fields in answers, so that fields can be added later. These checks do not: a field that
the bridge sends and the document does not name is a gap in the document.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import aiohttp
import jsonschema_rs
import orjson
from aiohttp import web
from frames import DONE

from bridge.dialects.responses.stored import StoredResponses
from handlers.api.routes import add_routes
from handlers.reference.served import REFERENCE
from handlers.request.appkeys import STORED_RESPONSES

Json = dict[str, Any]

#: Headers of the API itself, which must be described wherever they are sent.
_OURS = re.compile(r"(x-.*|request-id|anthropic-.*|retry-after|allow|accept-encoding|www-authenticate|etag)$")
#: Headers that may accompany any body, and are not described.
_OF_ANY_BODY = frozenset({"x-content-type-options", "x-accel-buffering", "x-frame-options"})


@functools.cache
def document() -> Json:
    """The OpenAPI document, which is the same for every daemon."""
    app = web.Application()
    app[STORED_RESPONSES] = StoredResponses()
    add_routes(app)
    made: Json = orjson.loads(app[REFERENCE].make().body)
    return made


def resolved(value: Json) -> Json:
    """The value, with a reference resolved to its component."""
    while "$ref" in value:
        found: Any = document()
        for step in value["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        value = found
    return value


class Call(NamedTuple):
    """One operation of the document."""

    path: str
    operation: Json


def calls() -> Iterator[tuple[str, Call]]:
    """Each operation with its method."""
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), Call(path, operation)


@functools.cache
def find(method: str, path: str) -> Call:
    """The operation for the path of a request. Raises LookupError."""
    path = path.removeprefix("/api")
    for known, call in sorted(calls(), key=lambda each: each[1].path.count("{")):
        pattern = re.sub(r"\\{name\\}", ".+", re.escape(call.path))
        if known == method and re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", pattern), path):
            return call
    raise LookupError(f"{method} {path}")


async def hold(answer: aiohttp.ClientResponse) -> bytes:
    """Read an answer completely and check it against the document. Raises AssertionError and ValidationError."""
    body = await answer.read()
    described = find(answer.method, answer.url.path).operation["responses"]
    assert str(answer.status) in described, f"{answer.method} {answer.url.path}: {answer.status}"
    told = resolved(described[str(answer.status)])
    _hold_headers(answer.headers, told["headers"])
    if answer.status != 304:
        assert answer.content_type in told["content"], answer.content_type
        schema = told["content"][answer.content_type]["schema"]
        for value in _values(answer.content_type, body):
            validator(orjson.dumps(schema)).validate(value)
    return body


def hold_request(method: str, path: str, body: Any) -> None:
    """Check a request's body against the document. Raises ValidationError."""
    content = find(method, path).operation["requestBody"]["content"]
    validator(orjson.dumps(content["application/json"]["schema"]), closed=False).validate(body)


def _values(media: str, body: bytes) -> Iterator[Any]:
    """The values that a body's schema describes: the whole body, or the data of each event of a stream."""
    if media == "application/json":
        yield orjson.loads(body)
    elif media == "text/event-stream":
        assert body.endswith(b"\n\n")
        for event in body.split(b"\n\n")[:-1]:
            fields = dict(line.partition(b": ")[::2] for line in event.split(b"\n") if not line.startswith(b":"))
            if fields.get(b"data", DONE) != DONE:
                value = orjson.loads(fields[b"data"])
                assert fields.get(b"event", b"").decode() in ("", value.get("type"))
                yield value
    else:
        yield body.decode()


def _hold_headers(sent: Mapping[str, str], described: Json) -> None:
    known = {name.lower(): resolved(header)["schema"] for name, header in described.items()}
    for name, value in sent.items():
        if _OURS.match(name.lower()) and name.lower() not in _OF_ANY_BODY:
            assert name.lower() in known, f"{name} is not described"
            schema = known[name.lower()]
            validator(orjson.dumps(schema)).validate(int(value) if schema["type"] == "integer" else value)


@functools.cache
def validator(schema: bytes, *, closed: bool = True) -> Any:
    """A validator for a schema of the document; with `closed`, objects may have only the fields that it names."""
    schemas = document()["components"]["schemas"]
    value = {**orjson.loads(schema), "components": {"schemas": _closed(schemas) if closed else schemas}}
    return jsonschema_rs.Draft202012Validator(value)


def _closed(value: Any) -> Any:
    if isinstance(value, list):
        return [_closed(each) for each in value]
    if not isinstance(value, dict):
        return value
    closed = {name: _closed(each) for name, each in value.items()}
    is_object = value.get("type") == "object" and "properties" in value
    return {"additionalProperties": False, **closed} if is_object else closed
