"""The Messages API's content blocks → the messages of a chat, with their pictures, calls and results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import orjson

from bridge.answering.messages import Message, Role, ToolCall
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.errors import ApiError
from upstream.protocol.files import File

ROLES: Final[Mapping[str, Role]] = {"user": "user", "assistant": "assistant", "system": "system"}

#: What a model has thought before is not shown to it again; clients send it back all the same.
_NOT_SHOWN: Final = frozenset({"thinking", "redacted_thinking"})

#: What stands between the texts of a message. An answer that thinks or cites in between has several, of one piece.
_BETWEEN_TEXTS: Final[Mapping[Role, str]] = {"user": "\n", "system": "\n", "assistant": ""}


def links(fields: Fields) -> Iterator[str]:
    """Find the http(s) URLs of a request's pictures. What is wrong is skipped."""
    for message in fields.any_mappings("messages"):
        for block in message.any_mappings("content"):
            for holder in (block, *block.any_mappings("content")):
                for source in holder.any_mappings("source"):
                    url = source.any("url")
                    if holder.any("type") == "image" and source.any("type") == "url" and isinstance(url, str):
                        yield url


def read_system(fields: Fields) -> tuple[Message, ...]:
    """Read `system`: a text, or blocks of text, each a message of its own. Raises ApiError (400)."""
    if fields.kind("system") is list:
        texts = [_read_only_text(block) for block in fields.mappings("system") or ()]
        return tuple(Message("system", text) for text in texts if text)
    text = fields.string("system")
    return (Message("system", text),) if text else ()


def read_messages(fields: Fields, files: FileReader) -> Iterator[Message]:
    """Read `messages`; a result of a tool becomes a message of its own. Raises ApiError (400) that names the field."""
    messages = fields.mappings("messages")
    if messages is None:
        raise fields.required("messages")
    if not messages:
        raise fields.invalid("messages", "invalid_value", "'messages' must have at least one message.")
    for message in messages:
        sent = message.string("role")
        if sent is None:
            raise message.required("role")
        role = ROLES.get(sent)
        if role is None:
            allowed = ", ".join(ROLES)
            raise message.invalid("role", "invalid_value", f"'{message.path('role')}' must be one of {allowed}.")
        if message.kind("content") is list:
            yield from _read_blocks(role, message.mappings("content") or [], files)
        elif (text := message.string("content")) is not None:
            yield Message(role, text)
        else:
            raise message.required("content")


def _read_blocks(role: Role, blocks: list[Fields], files: FileReader) -> Iterator[Message]:
    """Read one message's blocks: results of tools are messages of their own, before and after which the rest stands."""
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
    """Read a block of a message or of a tool's result. Raises ApiError (400): its type is not supported."""
    match block.string("type"):
        case "text":
            return _read_text(block)
        case "image":
            return _read_image(block, files)
        case "document":
            return _read_document(block, files)
        case "search_result":
            about = [block.string("title"), block.string("source")]
            return "\n".join(filter(None, (*about, *map(_read_only_text, block.mappings("content") or ()))))
        case None:
            raise block.required("type")
        case other:
            message = f"Content blocks of type '{other[:50]}' are not supported."
            raise block.invalid("type", "unsupported_parameter", message)


def _read_only_text(block: Fields) -> str:
    """Read a block where there may be none but text."""
    if block.string("type") not in ("text", None):
        message = f"'{block.path('type')}' must be text."
        raise block.invalid("type", "unsupported_parameter", message)
    return _read_text(block)


def _read_text(block: Fields) -> str:
    text = block.string("text")
    if text is None:
        raise block.required("text")
    return text


def _read_image(block: Fields, files: FileReader) -> File:
    source = _read_source(block)
    match source.string("type"):
        case "base64":
            return files.read_picture_text(_required(source, "data"), source.path("data"))
        case "url":
            return files.read_picture_text(_required(source, "url"), source.path("url"))
    raise _unsupported_source(source, "base64 or a URL")


def _read_document(block: Fields, files: FileReader) -> str | File:
    """Read a document: its text where it has one, behind its title; else a PDF as a file."""
    source = _read_source(block)
    match source.string("type"):
        case "base64":
            return files.read_data(_required(source, "data"), source.path("data"), block)
        case "text":
            body = files.read_text(_required(source, "data"))
        case "content" if source.kind("content") is list:
            body = "\n".join(map(_read_only_text, source.mappings("content") or ()))
        case "content":
            body = _required(source, "content")
        case _:
            raise _unsupported_source(source, "text, or a PDF as base64")
    return "\n".join(filter(None, (block.string("title"), block.string("context"), body)))


def _read_source(block: Fields) -> Fields:
    source = block.mapping("source")
    if source is None:
        raise block.required("source")
    return source


def _required(source: Fields, name: str) -> str:
    text = source.string(name)
    if not text:
        raise source.required(name)
    return text


def _unsupported_source(source: Fields, instead: str) -> ApiError:
    message = f"Sources of type '{(source.string('type') or '')[:50]}' are not supported here: send {instead}."
    return source.invalid("type", "unsupported_parameter", message)


def _read_result(block: Fields, files: FileReader) -> Message:
    """Read what a tool gave back: a text, or blocks; that it failed is said before it."""
    call_id = block.string("tool_use_id")
    if call_id is None:
        raise block.required("tool_use_id")
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
    """Read a call of a tool; what looked like a file in its input is a text."""
    name = block.string("name")
    if not name:
        raise block.required("name")
    arguments = orjson.dumps(block.json_object("input") or {}).decode()
    return ToolCall(block.string("id") or "", name, files.read_json(arguments))
