"""The calls that start, continue and regenerate an evaluation: method, path and body.

Source: docs/protocol.md, "Evaluations".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson

from upstream.protocol.line_values import loads
from upstream.protocol.models import Model
from upstream.protocol.surrogates import well_formed

CONTENT_TYPE = "text/plain;charset=UTF-8"  # although the body is JSON, as sent by the site's own page

_STREAM = "/nextjs-api/stream"


class Attachment(NamedTuple):
    """An uploaded file: `name` is its storage key, `url` the signed download URL, valid for an hour."""

    name: str
    content_type: str
    url: str


class Call(NamedTuple):
    """One call, ready to be sent to the site's origin; `message_id` is the id of the answer."""

    method: str
    path: str
    body: bytes
    evaluation_id: str
    message_id: str


def create(
    model: Model, prompt: str, attachments: Sequence[Attachment], new_id: Callable[[], str], *, mode: str
) -> Call:
    """Start a new evaluation in a mode (`upstream.modes`); takes three ids from `new_id`.

    Lone surrogates in `prompt` become U+FFFD.
    """
    evaluation_id = new_id()
    opening = {"id": evaluation_id, "mode": mode}
    return _turn(f"{_STREAM}/create-evaluation", opening, model, prompt, attachments, new_id)


def follow_up(
    evaluation_id: str, model: Model, prompt: str, attachments: Sequence[Attachment], new_id: Callable[[], str]
) -> Call:
    """Send only the next user message, since the server has the rest; takes two ids from `new_id`."""
    path = f"{_STREAM}/post-to-evaluation/{evaluation_id}"
    return _turn(path, {"id": evaluation_id}, model, prompt, attachments, new_id)


def regenerate(evaluation_id: str, message_id: str) -> Call:
    """Request another answer in place of `message_id`; it keeps this id."""
    path = f"{_STREAM}/retry-evaluation-session-message/{evaluation_id}/messages/{message_id}"
    return Call("PUT", path, b"{}", evaluation_id, message_id)


def history_path(evaluation_id: str) -> str:
    """The path for reading an evaluation back."""
    return f"/api/evaluation/{evaluation_id}"


def referer(origin: str, evaluation_id: str) -> str:
    """The `Referer` that a browser sends from this evaluation's page."""
    return f"{origin}/c/{evaluation_id}"


def _turn(
    path: str,
    opening: dict[str, str],
    model: Model,
    prompt: str,
    attachments: Sequence[Attachment],
    new_id: Callable[[], str],
) -> Call:
    user_message_id, message_id = new_id(), new_id()
    body = {
        **opening,
        "modelAId": model.id,
        "userMessageId": user_message_id,
        "modelAMessageId": message_id,
        "userMessage": {
            "content": well_formed(prompt),
            "experimental_attachments": [
                {"name": each.name, "contentType": each.content_type, "url": each.url} for each in attachments
            ],
            "metadata": {},
        },
        "modality": model.modality,
    }
    return Call("POST", path, orjson.dumps(body), opening["id"], message_id)


def read_back(document: bytes, message_id: str) -> str | None:
    """The text of an answer in the evaluation that `GET /api/evaluation/{id}` returned.

    None unless it is the evaluation's last message, complete, and by the first participant (docs/protocol.md, "Beside
    the chat").
    """
    try:
        found = loads(document)
    except ValueError:
        return None
    messages = found.get("messages") if isinstance(found, dict) else None
    match messages[-1] if isinstance(messages, list) and messages else None:
        case {"role": "assistant", "content": str(text), "status": "success", **rest} if (
            rest.get("participantPosition", "a") == "a" and rest.get("id", message_id) == message_id
        ):
            return well_formed(text)
    return None
