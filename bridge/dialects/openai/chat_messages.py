"""Reads the messages of a chat completion. Content is either read or refused by name, and never dropped silently."""

from __future__ import annotations

from typing import Final

from bridge.answering.messages import Message, Role, ToolCall
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from upstream.protocol.files import File

ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",  # the older form, whose `name` identifies the call
}

#: Parts with an assistant's reasoning, which is not shown to the model again, like `reasoning_content`.
THOUGHTS: Final = frozenset({"thinking", "redacted_thinking", "reasoning"})


class MessageReader:
    """Reads the messages of one request; `ignored` lists what in them has no effect."""

    def __init__(self, files: FileReader) -> None:
        self._files = files
        self._ignored: dict[str, None] = {}

    @property
    def ignored(self) -> tuple[str, ...]:
        """The names of what has no effect, without duplicates."""
        return tuple(self._ignored)

    def read(self, fields: Fields) -> tuple[Message, ...]:
        """Read `messages`. Raises ApiError (400) that names the field."""
        messages = fields.array("messages")
        if messages is None:
            raise fields.required("messages")
        if not messages:
            raise fields.invalid("messages", "invalid_value", "'messages' must have at least one message.")
        return tuple(
            [
                _read_plain(message) or self._read_message(fields.mapping_at("messages", at, message))
                for at, message in enumerate(messages)
            ]
        )

    def _read_message(self, fields: Fields) -> Message:
        sent_role = fields.required_string("role")
        role = ROLES.get(sent_role)
        if role is None:
            allowed = f"must be one of {', '.join(ROLES)}, not '{sent_role[:50]}'."
            raise fields.invalid("role", "invalid_value", f"'{fields.path('role')}' {allowed}")
        if "audio" in fields:
            raise fields.invalid(
                "audio",
                "unsupported_parameter",
                f"'{fields.path('audio')}' is not supported: send the text of the answer.",
            )
        texts, files = self._read_content(fields, role)
        refusal = fields.string("refusal")
        if refusal:
            if role != "assistant":
                raise fields.invalid(
                    "refusal",
                    "unsupported_parameter",
                    f"'{fields.path('refusal')}' is allowed only in an assistant's message.",
                )
            texts.append(refusal)
        calls, call_id = _read_calls(fields), fields.string("tool_call_id")
        return Message(role, "\n".join(texts), fields.string("name"), calls, call_id if role == "tool" else None, files)

    def _read_content(self, fields: Fields, role: Role) -> tuple[list[str], tuple[File, ...]]:
        """Read content, which is a string, null or an array of parts."""
        if fields.kind("content") is not list:
            if fields.kind("content") not in (str, type(None)):
                raise fields.invalid(
                    "content",
                    "invalid_type",
                    f"'{fields.path('content')}' must be a string, null or an array of parts.",
                )
            text = fields.string("content")
            return [text] if text else [], ()
        parts = [self._read_part(part, role) for part in fields.mappings("content") or ()]
        return [part for part in parts if isinstance(part, str)], tuple(
            part for part in parts if isinstance(part, File)
        )

    def _read_part(self, part: Fields, role: Role) -> str | File | None:
        if "prompt_cache_breakpoint" in part:
            self._ignored["prompt_cache_breakpoint"] = None
        match part.string("type"):
            case "text":
                return part.required_string("text")
            case "refusal" if role == "assistant":
                return part.required_string("refusal")
            case str() as kind if kind in THOUGHTS and role == "assistant":
                return None
            case "image_url":
                return self._read_picture(part)
            case "file":
                content = part.mapping("file")
                if content is None:
                    raise part.required("file")
                return self._read_file(part, content)
            case "input_file":  # as in the Responses API; some clients use it here too
                return self._read_file(part, part)
            case None:
                raise part.required("type")
            case other:
                message = (
                    f"Content parts of type '{other[:50]}' are not supported: send text, image_url and file parts."
                )
                raise part.invalid("type", "unsupported_parameter", message)

    def _read_picture(self, part: Fields) -> File:
        picture = self._files.read_picture(part)
        image = part.mapping("image_url")
        if image is not None and image.string("detail") is not None:
            self._ignored["image_url.detail"] = None
        return picture

    def _read_file(self, part: Fields, content: Fields) -> File:
        file = self._files.read_file(part, content)
        if "file_id" in content:  # in addition to the data itself
            self._ignored["file.file_id"] = None
        if content.string("filename"):  # the site gets a generated name
            self._ignored["file.filename"] = None
        return file


def _read_plain(message: object) -> Message | None:
    """Read a message that has only a role and a text, as most do; this takes a tenth of the time."""
    if isinstance(message, dict) and len(message) == 2:
        role, text = message.get("role"), message.get("content")
        if isinstance(role, str) and isinstance(text, str) and role in ROLES:
            return Message(ROLES[role], text)
    return None


def _read_calls(fields: Fields) -> tuple[ToolCall, ...]:
    """Read the calls of a message, including one in the older form."""
    calls = [_read_tool_call(call) for call in fields.mappings("tool_calls") or ()]
    older = fields.mapping("function_call")
    if older is not None:
        calls.append(_read_function(older, ""))
    return tuple(calls)


def _read_tool_call(call: Fields) -> ToolCall:
    call_id = call.string("id") or ""
    if call.string("type") == "custom":
        custom = call.mapping("custom")
        if custom is None:
            raise call.required("custom")
        return ToolCall(call_id, custom.required_string("name"), custom.string("input") or "", "custom")
    function = call.mapping("function")
    if function is None:
        raise call.required("function")
    return _read_function(function, call_id)


def _read_function(function: Fields, call_id: str) -> ToolCall:
    return ToolCall(call_id, function.required_string("name"), function.string("arguments") or "")
