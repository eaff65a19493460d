"""Reads the items of the Responses API as messages, in order.

A message of the assistant and the calls after it become one message, because they were one answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from bridge.answering.messages import Message, Role, ToolCall
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader, is_link
from bridge.dialects.responses.tools import ToolNames
from upstream.protocol.files import File

ROLES: Final[Mapping[str, Role]] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
#: Items that are not shown to the model.
_SKIPPED: Final = frozenset({"reasoning", "additional_tools"})
_CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})


class ItemReader:
    """Reads the items of one request; `ignored` lists what in them has no effect."""

    def __init__(self, files: FileReader, names: ToolNames) -> None:
        self._files = files
        self._names = names
        self.ignored: set[str] = set()

    def read(self, items: Iterable[Fields]) -> Iterator[Message]:
        """Read the items in order. Raises ApiError (400) that names the field."""
        answer: Message | None = None  # the assistant's, which calls may follow
        for item in items:
            kind = item.string("type") or ("message" if "role" in item else None)
            if kind is None:
                raise item.required("type")
            if kind in _SKIPPED:
                continue
            if kind in _CALLS:
                answer = answer or Message("assistant", "")
                answer = answer._replace(tool_calls=(*answer.tool_calls, self._read_call(item, kind)))
                continue
            if answer is not None:
                yield answer
                answer = None
            message = self._read_item(item, kind)
            if message.role == "assistant":
                answer = message
            else:
                yield message
        if answer is not None:
            yield answer

    def _read_item(self, item: Fields, kind: str) -> Message:
        if kind == "message":
            return self._read_message(item)
        if kind in _OUTPUTS:
            return self._read_output(item)
        if kind == "item_reference":  # those with an id have been resolved
            raise item.required("id")
        raise item.invalid("type", "unsupported_parameter", f"Items of type '{kind[:50]}' are not supported.")

    def _read_message(self, item: Fields) -> Message:
        role = item.required_string("role")
        if role not in ROLES:
            allowed = ", ".join(ROLES)
            raise item.invalid("role", "invalid_value", f"'{item.path('role')}' must be one of {allowed}.")
        text, files = self._read_content(item, "content")
        return Message(ROLES[role], text, files=files)

    def _read_call(self, item: Fields, kind: str) -> ToolCall:
        call_id, name = item.nonempty_string("call_id"), item.nonempty_string("name")
        arguments = item.required_string(_CALLS[kind])
        shown = self._names.shown(name, item.string("namespace"))
        return ToolCall(call_id, shown, arguments, "custom" if kind == "custom_tool_call" else "function")

    def _read_output(self, item: Fields) -> Message:
        call_id = item.nonempty_string("call_id")
        text, files = self._read_content(item, "output")
        return Message("tool", text, tool_call_id=call_id, files=files)

    def _read_content(self, item: Fields, name: str) -> tuple[str, tuple[File, ...]]:
        """Read a string or an array of parts."""
        if item.kind(name) is str:
            return item.required_string(name), ()
        if item.kind(name) not in (list, type(None)):
            message = f"'{item.path(name)}' must be a string or an array of parts."
            raise item.invalid(name, "invalid_type", message)
        content = item.mappings(name)
        if content is None:
            raise item.required(name)
        parts = [self._read_part(part) for part in content]
        text = "\n".join([part for part in parts if isinstance(part, str)])
        return text, tuple([part for part in parts if isinstance(part, File)])

    def _read_part(self, part: Fields) -> str | File:
        match part.string("type"):
            case "input_text" | "output_text" | "text":
                return part.required_string("text")
            case "refusal":
                return part.required_string("refusal")
            case "input_image":
                return self._read_picture(part)
            case "input_file":
                return self._files.read_input_file(part)
            case None:
                raise part.required("type")
            case other:
                kinds = "input_text, input_image and input_file"
                message = f"Content parts of type '{other[:50]}' are not supported: send {kinds}."
                raise part.invalid("type", "unsupported_parameter", message)

    def _read_picture(self, part: Fields) -> File:
        if part.string("detail") not in (None, "auto"):
            self.ignored.add("input_image.detail")
        if "image_url" not in part and "file_id" in part:
            message = "The bridge does not support 'file_id': send the picture itself as 'image_url'."
            raise part.invalid("file_id", "unsupported_parameter", message)
        if part.kind("image_url") is dict:  # as in chat completions; some clients send it here too
            return self._files.read_picture(part)
        return self._files.read_picture_text(part.nonempty_string("image_url"), part.path("image_url"))


def links_of(items: Iterable[Fields]) -> Iterator[str]:
    """Yield the http(s) URLs of pictures in items. Malformed parts are skipped."""
    for item in items:
        for part in (*item.any_mappings("content"), *item.any_mappings("output")):
            url = part.any("image_url")
            if isinstance(url, dict):
                url = url.get("url")
            if part.any("type") == "input_image" and isinstance(url, str) and is_link(url):
                yield url
