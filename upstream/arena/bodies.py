"""Strict validation of a call's body against the site's schema, with the schema's error messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NoReturn, TypeAlias

from upstream.arena.ids import UUIDV7
from upstream.arena.replies import Issue, RefusedError, error, invalid
from upstream.arena.traits import Era

PROMPT_CHARS: Final = 113_000

Path: TypeAlias = tuple[str | int, ...]
Check: TypeAlias = Callable[[Any], str | None]
# A check, an object of fields (names ending in "?" are optional), or a list whose items have the same shape.
Shape: TypeAlias = "Check | Mapping[str, Shape] | list[Shape]"


@dataclass(frozen=True, slots=True)
class ChatBody:
    """The validated body of create or follow-up; `mode` is None for a follow-up."""

    mode: str | None
    evaluation_id: str
    model_id: str
    user_message_id: str
    answer_id: str
    content: str
    attachments: tuple[Mapping[str, str], ...]
    modality: str


def _string(value: Any) -> str | None:
    return None if isinstance(value, str) else f"Expected string, received {_kind(value)}"


def _uuid7(value: Any) -> str | None:
    return _string(value) or (None if UUIDV7.fullmatch(value) else "Invalid uuid: expected version 7 in lower case")


def _one_of(*words: str) -> Check:
    expected = " | ".join(f"'{word}'" for word in words)
    return lambda value: None if value in words else f"Invalid value, expected {expected}"


def _prompt(value: Any) -> str | None:
    if complaint := _string(value):
        return complaint
    return f"String must contain at most {PROMPT_CHARS} character(s)" if len(value) > PROMPT_CHARS else None


def _image_type(value: Any) -> str | None:
    return _string(value) or (None if value.startswith("image/") else "Unsupported content type")


def _file_type(value: Any) -> str | None:
    return None if value == "application/pdf" else _image_type(value)


def _object(value: Any) -> str | None:
    return None if isinstance(value, dict) else f"Expected object, received {_kind(value)}"


def _url(value: Any) -> str | None:
    return _string(value) or (None if value.startswith(("https://", "http://")) else "Invalid url")


def _follow_up(attachment_type: Check, modalities: Check) -> Mapping[str, Shape]:
    attachment: Shape = {"name": _string, "contentType": attachment_type, "url": _url}
    return {
        "id": _uuid7,
        "modelAId": _string,
        "userMessageId": _uuid7,
        "modelAMessageId": _uuid7,
        "userMessage": {"content": _prompt, "experimental_attachments": [attachment], "metadata?": _object},
        "modality": modalities,
        "recaptchaV3Token?": _string,
    }


# All modes that the schema knows; the account may not be allowed to use each of them.
_MODE: Final = _one_of("direct", "direct-battle")
_FOLLOW_UP: Final[Mapping[Era, Mapping[str, Shape]]] = {
    2025: _follow_up(_image_type, _one_of("chat", "search", "image")),
    2026: _follow_up(_file_type, _one_of("chat", "search", "image", "auto", "webdev", "p2l", "video", "audio")),
}
_CREATE: Final = {era: {"mode": _MODE, **shape} for era, shape in _FOLLOW_UP.items()}
_REGENERATE: Final[Mapping[str, Shape]] = {}


def read_create(body: bytes, era: Era) -> ChatBody:
    """Parse the body of `create-evaluation`. Raises RefusedError (400) with the reasons."""
    return _chat_body(_read(body, _CREATE[era]))


def read_follow_up(body: bytes, era: Era) -> ChatBody:
    """Parse the body of `post-to-evaluation`: the same without `mode`."""
    return _chat_body(_read(body, _FOLLOW_UP[era]))


def read_regenerate(body: bytes) -> None:
    """Check the body of `retry-evaluation-session-message`, which must be `{}`."""
    _read(body, _REGENERATE)


def _chat_body(body: dict[str, Any]) -> ChatBody:
    """Check what concerns several fields: the order of the ids, an empty message. Raises RefusedError."""
    ids = [(name, body[name]) for name in ("id", "userMessageId", "modelAMessageId")]
    complaints = [
        Issue((name,), f"must be later than {before}")
        for (before, earlier), (name, later) in pairwise(ids)
        if earlier >= later
    ]
    content, attachments = body["userMessage"]["content"], body["userMessage"]["experimental_attachments"]
    if not content.strip() and not attachments:
        complaints.append(Issue(("userMessage", "content"), "String must contain at least 1 character(s)"))
    if complaints:
        raise RefusedError(invalid(complaints))
    return ChatBody(
        body.get("mode"),
        body["id"],
        body["modelAId"],
        body["userMessageId"],
        body["modelAMessageId"],
        content,
        tuple(attachments),
        body["modality"],
    )


def _read(body: bytes, shape: Mapping[str, Shape]) -> dict[str, Any]:
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as cause:
        raise RefusedError(error(400, "Invalid JSON in the request body")) from cause
    if issues := list(_issues(value, shape, ())):
        raise RefusedError(invalid(issues))
    return dict(value)


def _issues(value: Any, shape: Shape, path: Path) -> Iterator[Issue]:
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            yield Issue(path, f"Expected object, received {_kind(value)}")
            return
        fields = {name.removesuffix("?"): (name, inner) for name, inner in shape.items()}
        for field, (name, inner) in fields.items():
            if field in value:
                yield from _issues(value[field], inner, (*path, field))
            elif name == field:
                yield Issue((*path, field), "Required")
        if unknown := ", ".join(f"'{key}'" for key in value if key not in fields):
            yield Issue(path, f"Unrecognized key(s) in object: {unknown}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield Issue(path, f"Expected array, received {_kind(value)}")
            return
        for index, item in enumerate(value):
            yield from _issues(item, shape[0], (*path, index))
    elif complaint := shape(value):
        yield Issue(path, complaint)


def _kind(value: Any) -> str:
    """The name of a JSON value's type in JavaScript."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
