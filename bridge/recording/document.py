"""The file of a recording: one JSON document with a version (docs/recordings.md).

The types here hold what is written, without secrets. `decode` is the inverse of `encode`, except that times are rounded
to milliseconds.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from bridge.recording.material import AskedModel, Headers, Outcome

#: The version of the format. Readers refuse any other.
VERSION: Final = 1
_NAME: Final = "lmarena_bridge_recording"
_PIECES_PER_LINE: Final = 50
#: The largest file that is read.
MAX_FILE_BYTES: Final = 64 * 1024 * 1024

Pieces = tuple[tuple[float, bytes], ...]


class NotARecording(ValueError):
    """A file is not a recording, or one of another version. The text says why, and does not quote the file."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call to the site. `kind` is what it was for; `status` is None if no response head arrived."""

    kind: str
    at: float
    method: str
    target: str
    headers: Headers
    body: bytes
    status: int | None
    head_at: float
    answer_headers: Headers
    pieces: Pieces
    end: str
    end_at: float


@dataclass(frozen=True, slots=True)
class Recording:
    """One call, both sides; see docs/recordings.md for what each field is."""

    bridge: str
    at: float
    texts: bool
    cut: bool
    method: str
    target: str
    headers: Headers
    body: bytes
    calls: tuple[RecordedCall, ...]
    status: int | None
    answer_headers: Headers
    pieces: Pieces
    answer_cut: bool
    outcome: Outcome | None
    models: tuple[AskedModel, ...] = ()
    accounts: int = 1
    settings: dict[str, dict[str, object]] = field(default_factory=dict)
    drift: tuple[str, ...] = ()


def encode(recording: Recording) -> bytes:
    """Write a recording as its file's bytes."""
    document = {
        _NAME: VERSION,
        "bridge": recording.bridge,
        "at": round(recording.at),
        "texts": recording.texts,
        "cut": recording.cut,
        "outcome": None if recording.outcome is None else recording.outcome._asdict(),
        "drift": recording.drift,
        "models": [model._asdict() for model in recording.models],
        "accounts": recording.accounts,
        "settings": recording.settings,
        "request": {
            "method": recording.method,
            "target": recording.target,
            "headers": recording.headers,
            "body": _text(recording.body),
        },
        "calls": [_call(call) for call in recording.calls],
        "answer": {
            "status": recording.status,
            "headers": recording.answer_headers,
            "pieces": _pieces(recording.pieces),
            "cut": recording.answer_cut,
        },
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def decode(data: bytes) -> Recording:
    """Read a recording. Raises NotARecording."""
    if len(data) > MAX_FILE_BYTES:
        raise NotARecording(f"it is larger than {MAX_FILE_BYTES} bytes")
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise NotARecording("it is not JSON") from error
    version = document.get(_NAME) if isinstance(document, dict) else None
    if version is None:
        raise NotARecording(f"it has no {_NAME}")
    if version != VERSION:
        raise NotARecording(f"its version is {str(version)[:20]}, and this bridge reads {VERSION}")
    try:
        return _read(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotARecording("a field is missing, or has another type") from error


def _read(document: dict[str, Any]) -> Recording:
    request, answer, outcome = document["request"], document["answer"], document["outcome"]
    return Recording(
        bridge=str(document["bridge"]),
        at=float(document["at"]),
        texts=bool(document["texts"]),
        cut=bool(document["cut"]),
        method=str(request["method"]),
        target=str(request["target"]),
        headers=_read_headers(request["headers"]),
        body=_bytes(request["body"]),
        calls=tuple(_read_call(call) for call in document["calls"]),
        status=_read_status(answer["status"]),
        answer_headers=_read_headers(answer["headers"]),
        pieces=_read_pieces(answer["pieces"]),
        answer_cut=bool(answer["cut"]),
        outcome=None if outcome is None else _read_outcome(outcome),
        models=tuple(_read_model(model) for model in document["models"]),
        accounts=int(document["accounts"]),
        settings={str(name): dict(values) for name, values in document["settings"].items()},
        drift=tuple(str(kind) for kind in document["drift"]),
    )


def _call(call: RecordedCall) -> dict[str, object]:
    return {
        "kind": call.kind,
        "at": round(call.at, 3),
        "method": call.method,
        "target": call.target,
        "headers": call.headers,
        "body": _text(call.body),
        "answer": {
            "at": round(call.head_at, 3),
            "status": call.status,
            "headers": call.answer_headers,
            "pieces": _pieces(call.pieces),
            "end": call.end,
            "end_at": round(call.end_at, 3),
        },
    }


def _read_call(call: dict[str, Any]) -> RecordedCall:
    answer = call["answer"]
    return RecordedCall(
        kind=str(call["kind"]),
        at=float(call["at"]),
        method=str(call["method"]),
        target=str(call["target"]),
        headers=_read_headers(call["headers"]),
        body=_bytes(call["body"]),
        status=_read_status(answer["status"]),
        head_at=float(answer["at"]),
        answer_headers=_read_headers(answer["headers"]),
        pieces=_read_pieces(answer["pieces"]),
        end=str(answer["end"]),
        end_at=float(answer["end_at"]),
    )


def _read_status(status: Any) -> int | None:
    if status is not None and status not in range(100, 600):
        raise ValueError("not an HTTP status")
    return None if status is None else int(status)


def _read_outcome(outcome: dict[str, Any]) -> Outcome:
    code, finish = outcome["code"], outcome["finish"]
    return Outcome(
        int(outcome["status"]),
        str(outcome["reason"]),
        None if code is None else str(code),
        tuple(None if reason is None else str(reason) for reason in finish),
        int(outcome["chars"]),
        int(outcome["calls"]),
    )


def _read_model(model: dict[str, Any]) -> AskedModel:
    return AskedModel(
        str(model["name"]),
        str(model["modality"]),
        tuple(map(str, model["inputs"])),
        tuple(map(str, model["outputs"])),
        bool(model["multiple_images"]),
    )


def _read_headers(headers: list[list[str]]) -> Headers:
    return tuple((str(name), str(value)) for name, value in headers)


def _pieces(pieces: Pieces) -> orjson.Fragment:
    """The JSON of pieces, written line by line: no other thread runs while orjson writes."""
    lines = [_line(pieces[at : at + _PIECES_PER_LINE]) for at in range(0, len(pieces), _PIECES_PER_LINE)]
    return orjson.Fragment(b"[" + b",\n".join(lines) + b"]")


def _line(pieces: Pieces) -> bytes:
    try:
        values: list[object] = [(round(at, 3), data.decode()) for at, data in pieces]
    except UnicodeDecodeError:
        values = [(round(at, 3), _text(data)) for at, data in pieces]
    return orjson.dumps(values)[1:-1]


def _read_pieces(pieces: list[list[Any]]) -> Pieces:
    return tuple((float(at), _bytes(data)) for at, data in pieces)


def _text(data: bytes) -> object:
    """Bytes as a string, or as base64 if they are not UTF-8: a read may end within a character."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode()}


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else b64decode(value["base64"], validate=True)
