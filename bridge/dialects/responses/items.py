"""Items of the Responses API → messages: what was said, called and answered, in the order in which it stands.

An assistant's message and the calls behind it are one message of ours, as they were one answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from bridge.answering.messages import Message, Role, ToolCall
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from upstream.protocol.files import File

_ROLES: Final[Mapping[str, Role]] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
#: Items that say nothing to another model.
_SKIPPED: Final = frozenset({"reasoning", "additional_tools"})
_CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})


def read_items(items: Iterable[Fields], files: FileReader) -> Iterator[Message]:
    """Read items, those of earlier responses first. Raises ApiError (400) that names the field."""
    said: Message | None = None  # the assistant's, which calls may follow
    for item in items:
        kind = item.string("type") or ("message" if "role" in item else None)
        if kind is None:
            raise item.required("type")
        if kind in _SKIPPED:
            continue
        if kind in _CALLS:
            call = _read_call(item, kind)
            said = (said or Message("assistant", ""))._replace(tool_calls=(*(said.tool_calls if said else ()), call))
            continue
        if said is not None:
            yield said
            said = None
        if kind in _OUTPUTS:
            yield _read_output(item, files)
        elif kind == "message":
            message = _read_message(item, files)
            if message.role == "assistant":
                said = message
            else:
                yield message
        else:
            text = f"Items of type '{kind[:50]}' are not supported."
            raise item.invalid("type", "unsupported_parameter", text)
    if said is not None:
        yield said


def _read_message(item: Fields, files: FileReader) -> Message:
    role = item.string("role")
    if role is None:
        raise item.required("role")
    if role not in _ROLES:
        allowed = ", ".join(_ROLES)
        raise item.invalid("role", "invalid_value", f"'{item.path('role')}' must be one of {allowed}.")
    text, shown = _read_content(item, "content", files)
    return Message(_ROLES[role], text, files=shown)


def _read_content(item: Fields, name: str, files: FileReader) -> tuple[str, tuple[File, ...]]:
    """Read a string or parts."""
    if item.kind(name) is not list:
        text = item.string(name)
        if text is None:
            raise item.required(name)
        return text, ()
    parts = [_read_part(part, files) for part in item.mappings(name) or ()]
    text = "\n".join(part for part in parts if isinstance(part, str))
    return text, tuple(part for part in parts if isinstance(part, File))


def _read_part(part: Fields, files: FileReader) -> str | File:
    match part.string("type"):
        case "input_text" | "output_text" | "text" | "summary_text":
            text = part.string("text")
            if text is None:
                raise part.required("text")
            return text
        case "refusal":
            return part.string("refusal") or ""
        case "input_image":
            url = part.string("image_url")
            if not url:
                raise part.required("image_url")
            return files.read_picture_text(url, part.path("image_url"))
        case "input_file":
            return files.read_text_file(part) or files.read_file(part, part)
        case None:
            raise part.required("type")
        case other:
            message = (
                f"Content parts of type '{other[:50]}' are not supported: send input_text, input_image, input_file."
            )
            raise part.invalid("type", "unsupported_parameter", message)


def _read_call(item: Fields, kind: str) -> ToolCall:
    for name in ("call_id", "name"):
        if not item.string(name):
            raise item.required(name)
    given = item.string(_CALLS[kind])
    if given is None:
        raise item.required(_CALLS[kind])
    name, call_id = item.string("name") or "", item.string("call_id") or ""
    return ToolCall(call_id, name, given, "custom" if kind == "custom_tool_call" else "function")


def _read_output(item: Fields, files: FileReader) -> Message:
    call_id = item.string("call_id")
    if not call_id:
        raise item.required("call_id")
    text, shown = _read_content(item, "output", files)
    return Message("tool", text, tool_call_id=call_id, files=shown)


def links_of(items: Iterable[Fields]) -> Iterator[str]:
    """Find the http(s) URLs of pictures in items. What is wrong is skipped."""
    for item in items:
        for part in (*item.any_mappings("content"), *item.any_mappings("output")):
            url = part.any("image_url")
            if part.any("type") == "input_image" and isinstance(url, str) and url[:4].lower() == "http":
                yield url
