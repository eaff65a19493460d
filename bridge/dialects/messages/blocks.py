"""Reads the content blocks of the Messages API as messages with pictures, calls and results."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from bridge.answering.messages import Message, Role, ToolCall
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.errors import ApiError
from upstream.protocol.files import File

ROLES: Final[Mapping[str, Role]] = {"user": "user", "assistant": "assistant", "system": "system"}

#: Reasoning, which clients send back, but which is not shown to the model again.
_NOT_SHOWN: Final = frozenset({"thinking", "redacted_thinking"})

#: A line for Anthropic's own servers with which some agents begin the system text. It differs from request to request,
#: so no conversation could be continued if it counted.
_BILLING: Final = re.compile(r"\Ax-anthropic-billing-header:[^\n]*\n?")

#: The separators between the texts of a message. Those of an answer are one text, divided by reasoning or citations.
_BETWEEN_TEXTS: Final[Mapping[Role, str]] = {"user": "\n", "system": "\n", "assistant": ""}


def links(fields: Fields) -> Iterator[str]:
    """Yield the http(s) URLs of a request's pictures. Malformed blocks are skipped."""
    for message in fields.any_mappings("messages"):
        for block in message.any_mappings("content"):
            for holder in (block, *block.any_mappings("content")):
                for source in holder.any_mappings("source"):
                    url = source.any("url")
                    if holder.any("type") == "image" and source.any("type") == "url" and isinstance(url, str):
                        yield url


def read_system(fields: Fields) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Read `system`: a text, or blocks of text, each of which becomes a message; and list what has no effect.

    Raises ApiError (400).
    """
    if fields.kind("system") is list:
        sent = [_read_only_text(block) for block in fields.mappings("system") or ()]
    else:
        sent = [fields.string("system") or ""]
    texts = [_BILLING.sub("", text) for text in sent]
    ignored = () if texts == sent else ("system.x-anthropic-billing-header",)
    return tuple(Message("system", text) for text in texts if text), ignored


def read_messages(fields: Fields, files: FileReader) -> Iterator[Message]:
    """Read `messages`; each result of a tool becomes a message. Raises ApiError (400) that names the field."""
    messages = fields.mappings("messages")
    if messages is None:
        raise fields.required("messages")
    if not messages:
        raise fields.invalid("messages", "invalid_value", "'messages' must have at least one message.")
    for message in messages:
        role = ROLES.get(message.required_string("role"))
        if role is None:
            allowed = ", ".join(ROLES)
            raise message.invalid("role", "invalid_value", f"'{message.path('role')}' must be one of {allowed}.")
        if message.kind("content") is list:
            yield from _read_blocks(role, message.mappings("content") or [], files)
        else:
            yield Message(role, message.required_string("content"))


def _read_blocks(role: Role, blocks: list[Fields], files: FileReader) -> Iterator[Message]:
    """Read one message's blocks; each result of a tool becomes a message, between messages with the other blocks."""
    texts: list[str] = []
    shown: list[File] = []
    calls: list[ToolCall] = []
    for block in blocks:
        match block.string("type"):
            case "tool_result":
                _must_be_of(role, "user", block)
                if texts or shown:
                    yield Message(role, _BETWEEN_TEXTS[role].join(texts), files=tuple(shown))
                    texts, shown = [], []
                yield _read_result(block, files)
            case "tool_use":
                _must_be_of(role, "assistant", block)
                calls.append(_read_call(block, files))
            case kind if kind in _NOT_SHOWN:
                continue
            case _:
                part = _read_part(block, files)
                if isinstance(part, File):
                    shown.append(part)
                else:
                    texts.append(part)
    if texts or shown or calls:
        yield Message(role, _BETWEEN_TEXTS[role].join(texts), tool_calls=tuple(calls), files=tuple(shown))


def _must_be_of(role: Role, expected: Role, block: Fields) -> None:
    if role != expected:
        message = f"'{block.string('type')}' blocks belong to messages of role '{expected}', not '{role}'."
        raise block.invalid("type", "invalid_value", message)


def _read_part(block: Fields, files: FileReader) -> str | File:
    """Read a block of a message or of a tool's result. Raises ApiError (400) if its type is not supported."""
    match block.string("type"):
        case "text":
            return block.required_string("text")
        case "image":
            return _read_image(block, files)
        case "document":
            return _read_document(block, files)
        case "search_result":
            about = [block.string("title"), block.string("source")]
            return "\n".join(filter(None, (*about, *map(_read_only_text, block.mappings("content") or ()))))
        case "tool_reference":  # the tool itself has been shown from the beginning
            return block.required_string("tool_name")
        case None:
            raise block.required("type")
        case other:
            message = f"Content blocks of type '{other[:50]}' are not supported."
            raise block.invalid("type", "unsupported_parameter", message)


def _read_only_text(block: Fields) -> str:
    """Read a block that must be text."""
    if block.string("type") not in ("text", None):
        message = f"'{block.path('type')}' must be text."
        raise block.invalid("type", "unsupported_parameter", message)
    return block.required_string("text")


def _read_image(block: Fields, files: FileReader) -> File:
    source = _read_source(block)
    match source.string("type"):
        case "base64":
            return files.read_picture_text(source.nonempty_string("data"), source.path("data"))
        case "url":
            return files.read_picture_text(source.nonempty_string("url"), source.path("url"))
    raise _unsupported_source(source, "base64 or a URL")


def _read_document(block: Fields, files: FileReader) -> str | File:
    """Read a document: a PDF as a file, or a text with its title and context before it."""
    source = _read_source(block)
    match source.string("type"):
        case "base64":
            return files.read_data(source.nonempty_string("data"), source.path("data"), block)
        case "text":
            body = files.read_text(source.nonempty_string("data"))
        case "content" if source.kind("content") is list:
            body = "\n".join(map(_read_only_text, source.mappings("content") or ()))
        case "content":
            body = source.nonempty_string("content")
        case _:
            raise _unsupported_source(source, "text, or a PDF as base64")
    return "\n".join(filter(None, (block.string("title"), block.string("context"), body)))


def _read_source(block: Fields) -> Fields:
    source = block.mapping("source")
    if source is None:
        raise block.required("source")
    return source


def _unsupported_source(source: Fields, instead: str) -> ApiError:
    message = f"Sources of type '{(source.string('type') or '')[:50]}' are not supported here: send {instead}."
    return source.invalid("type", "unsupported_parameter", message)


def _read_result(block: Fields, files: FileReader) -> Message:
    """Read the result of a tool: a text, or blocks, after a line that says so if the tool failed."""
    call_id = block.required_string("tool_use_id")
    shown: tuple[File, ...] = ()
    if block.kind("content") is list:
        parts = [_read_part(part, files) for part in block.mappings("content") or ()]
        text = "\n".join([part for part in parts if isinstance(part, str)])
        shown = tuple([part for part in parts if isinstance(part, File)])
    else:
        text = block.string("content") or ""
    if block.boolean("is_error"):
        text = f"The tool failed.\n{text}"
    return Message("tool", text, tool_call_id=call_id, files=shown)


def _read_call(block: Fields, files: FileReader) -> ToolCall:
    """Read a call of a tool; strings in its input that were extracted as files are put back."""
    name = block.nonempty_string("name")
    _, arguments = block.json_object("input") or ({}, b"{}")
    return ToolCall(block.string("id") or "", name, files.read_json(arguments.decode()))
