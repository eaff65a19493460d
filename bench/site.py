"""LMArena's endpoints besides the streams, a minimal part of docs/protocol.md: models, the user's data, uploads."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Final

import orjson

#: How many models the site lists; requests use the first.
MODELS: Final = 320
MODEL: Final = "bench-model"
MODEL_ID: Final = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"

_SCRIPT: Final = "/_next/static/chunks/app-page.js"
_ACTIONS: Final = {"generateUploadUrl": "70" + "a1" * 20, "getSignedUrl": "b2" * 20}
#: The size of the flight data around an action's result, in bytes, as on the site.
_AROUND: Final = 120_000


def _models() -> list[dict[str, object]]:
    models = [_model(MODEL_ID, MODEL)]
    return models + [_model(f"{MODEL_ID[:24]}{at:012x}", f"{MODEL}-{at}") for at in range(1, MODELS)]


@lru_cache
def catalog() -> bytes:
    """The model catalog."""
    return orjson.dumps([{"arena": "text", "models": _models(), "complete": True}])


@lru_cache
def page() -> bytes:
    """The page with the models, reduced to what the bridge reads."""
    flight = orjson.dumps({"initialModels": _models(), "initialModelAId": MODEL_ID}).decode()
    return b'<html><script src="%b"></script><script>self.__next_f.push([1,%b])</script></html>' % (
        _SCRIPT.encode(),
        orjson.dumps(f"8:{flight}\n"),
    )


def me() -> bytes:
    """The account's user."""
    return b'{"email":"bench@example.org","touConsentTimestamp":"2026-01-01T00:00:00Z"}'


def _model(model_id: str, name: str) -> dict[str, object]:
    inputs = {"text": True, "image": {"multipleImages": True}}
    return {
        "id": model_id,
        "organization": "bench",
        "publicName": name,
        "capabilities": {"inputCapabilities": inputs, "outputCapabilities": {"text": True}},
    }


@lru_cache
def _script() -> bytes:
    references = (
        f'let {name}=(0,n.createServerReference)("{action_id}",n.callServer,void 0,n.findSourceMapURL,"{name}");'
        for name, action_id in _ACTIONS.items()
    )
    return "".join(references).encode()


def response(content_type: str, body: bytes) -> bytes:
    """A complete answer with status 200."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        content_type.encode(),
        len(body),
        body,
    )


def serve(request: bytes | bytearray, origin: str) -> bytes | None:
    """Answer a call that is not for a stream; return None for a stream. The storage is at the site's own origin."""
    if request.startswith(b"GET /_next/"):
        return response("text/javascript", _script())
    if request.startswith(b"GET /nextjs-api/model-catalog "):
        return response("application/json", catalog())
    if request.startswith(b"GET /api/me "):
        return response("application/json", me())
    if request.startswith(b"GET "):
        return response("text/html", page())
    if request.startswith(b"PUT /storage/"):
        return b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\n\r\n'
    if request.startswith(b"POST /text/direct "):
        head, _, body = request.partition(b"\r\n\r\n")
        return response("text/x-component", _acted(bytes(head), bytes(body), origin))
    return None


def _acted(head: bytes, body: bytes, origin: str) -> bytes:
    """An action's result among other flight data."""
    match orjson.loads(body):
        case [str(name), str()] if _ACTIONS["generateUploadUrl"].encode() in head:
            key = f"bench/{time.time_ns()}-{name}"
            data = {"uploadUrl": _signed(origin, key), "key": key}
        case [str(key)] if _ACTIONS["getSignedUrl"].encode() in head:
            data = {"url": _signed(origin, key)}
        case _:
            raise ValueError(f"unknown action: {head!r}")
    result = orjson.dumps({"success": True, "data": data})
    return b'0:{"a":"$@1"}\n2:T%x,%b1:%b\n' % (_AROUND, b"x" * _AROUND, result)


def _signed(origin: str, key: str) -> str:
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return f"{origin}/storage/{key}?X-Amz-Date={date}&X-Amz-Expires=3600"
