"""The messages of a chat completion. What says something is read or refused by name: nothing is dropped in silence."""

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
    "function": "tool",  # the older form: its `name` says which call it answers
}

#: Parts of an assistant's message that hold its thoughts. They are not shown again, as `reasoning_content` is not.
THOUGHTS: Final = frozenset({"thinking", "redacted_thinking", "reasoning"})


class MessageReader:
    """Reads the messages of one request; `ignored` names what stands in them and has no effect."""

    def __init__(self, files: FileReader) -> None:
        self._files = files
        self._ignored: dict[str, None] = {}

    @property
    def ignored(self) -> tuple[str, ...]:
        """What has no effect, each once."""
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
        word = fields.string("role")
        if word is None:
            raise fields.required("role")
        role = ROLES.get(word)
        if role is None:
            allowed = f"must be one of {', '.join(ROLES)}, not '{word[:50]}'."
            raise fields.invalid("role", "invalid_value", f"'{fields.path('role')}' {allowed}")
        if "audio" in fields:
            raise fields.invalid(
                "audio", "unsupported_parameter", f"'{fields.path('audio')}' is not supported: send the answer's text."
            )
        texts, files = self._read_content(fields, role)
        refusal = fields.string("refusal")
        if refusal:
            if role != "assistant":
                raise fields.invalid(
                    "refusal", "unsupported_parameter", f"'{fields.path('refusal')}' is an assistant's alone."
                )
            texts.append(refusal)
        calls, call_id = _read_calls(fields), fields.string("tool_call_id")
        return Message(role, "\n".join(texts), fields.string("name"), calls, call_id if role == "tool" else None, files)

    def _read_content(self, fields: Fields, role: Role) -> tuple[list[str], tuple[File, ...]]:
        """Content is a string, null or parts."""
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
                return _required_text(part, "text")
            case "refusal" if role == "assistant":
                return _required_text(part, "refusal")
            case str() as kind if kind in THOUGHTS and role == "assistant":
                return None
            case "image_url":
                return self._read_picture(part)
            case "file":
                content = part.mapping("file")
                if content is None:
                    raise part.required("file")
                return self._read_file(part, content)
            case "input_file":  # the Responses API's spelling, which some clients use here too
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
        if "file_id" in content:  # beside the bytes themselves
            self._ignored["file.file_id"] = None
        if content.string("filename"):  # the site is given a name of our own
            self._ignored["file.filename"] = None
        return file


def _read_plain(message: object) -> Message | None:
    """Read a message that has nothing but a role and a text, as nearly all of a long history: a tenth of the time."""
    if isinstance(message, dict) and len(message) == 2:
        role, text = message.get("role"), message.get("content")
        if isinstance(role, str) and isinstance(text, str) and role in ROLES:
            return Message(ROLES[role], text)
    return None


def _required_text(part: Fields, name: str) -> str:
    text = part.string(name)
    if text is None:
        raise part.required(name)
    return text


def _read_calls(fields: Fields) -> tuple[ToolCall, ...]:
    """Read the calls of a message, in the older form too."""
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
        name = custom.string("name")
        if name is None:
            raise custom.required("name")
        return ToolCall(call_id, name, custom.string("input") or "", "custom")
    function = call.mapping("function")
    if function is None:
        raise call.required("function")
    return _read_function(function, call_id)


def _read_function(function: Fields, call_id: str) -> ToolCall:
    name = function.string("name")
    if name is None:
        raise function.required("name")
    return ToolCall(call_id, name, function.string("arguments") or "")
