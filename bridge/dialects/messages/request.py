"""The Messages API: a request's fields → ChatRequest, and how its answer is to be encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import orjson

from bridge.answering.chat import ChatRequest, JsonFormat, Tools
from bridge.answering.messages import Message, Role, ToolCall
from bridge.dialects.answer_form import read_json_schema, read_stops
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.dialects.messages.errors import THREAD_UNSUPPORTED
from bridge.dialects.messages.vendor_tools import VENDOR_TOOLS
from bridge.dialects.tool_reading import Choice, ToolReader, read_tools
from bridge.errors import invalid_request
from upstream.protocol.files import File

#: Fields that upstream has no place for: checked for type, then named in `x-bridge-ignored`.
_IGNORED: Final[Mapping[str, Callable[[Fields, str], object]]] = {
    "temperature": Fields.number,
    "top_p": Fields.number,
    "top_k": Fields.integer,
    "metadata": Fields.mapping,
    "service_tier": Fields.string,
    "speed": Fields.string,
    "inference_geo": Fields.string,
}

_ROLES: Final[Mapping[str, Role]] = {"user": "user", "assistant": "assistant", "system": "system"}

#: Blocks that stand for what the vendor's own servers did: there is nothing in them for another model.
_SKIPPED: Final = frozenset({"thinking", "redacted_thinking"})


class MessagesFields(NamedTuple):
    """A request as it was read; `thinking` asks for the model's reasoning to be shown."""

    chat: ChatRequest
    thinking: bool


def links(fields: Fields) -> Iterator[str]:
    """Find the http(s) URLs of a request's pictures. What is wrong is skipped."""
    for message in fields.any_mappings("messages"):
        for block in message.any_mappings("content"):
            for holder in (block, *block.any_mappings("content")):
                for source in holder.any_mappings("source"):
                    url = source.any("url")
                    if source.any("type") == "url" and isinstance(url, str):
                        yield url


def count_request(fields: Fields, files: FileReader, owner: str) -> ChatRequest:
    """Read a request whose tokens are to be counted; it needs no limit. Raises ApiError (400)."""
    del owner
    if "max_tokens" not in fields:
        fields = Fields({**fields.values, "max_tokens": 1})
    return read_request(fields, files).chat


def read_request(fields: Fields, files: FileReader) -> MessagesFields:
    """Read a request. Raises ApiError (400) that names the field."""
    _refuse_unsupported(fields)
    model = fields.string("model")
    if not model:
        raise fields.required("model")
    max_tokens = fields.integer("max_tokens", least=1)
    if max_tokens is None:
        raise fields.required("max_tokens")
    tools, left_out = _read_tools(fields)
    thinking, json_format, ignored = _read_output(fields)
    chat = ChatRequest(
        model,
        (*_read_system(fields), *_read_messages(fields, files)),
        stream=fields.boolean("stream") or False,
        ignored=(*(name for name, read in _IGNORED.items() if read(fields, name) is not None), *ignored, *left_out),
        first_document=files.first_document,
        tools=tools,
        json_format=json_format,
        stops=read_stops(fields, "stop_sequences"),
        max_tokens=max_tokens,
    )
    return MessagesFields(chat, thinking)


def _refuse_unsupported(fields: Fields) -> None:
    if "thread" in fields:
        message = "The bridge keeps no threads: send the whole history in 'messages'."
        raise invalid_request(THREAD_UNSUPPORTED, message, "thread")
    for name in ("container", "mcp_servers"):
        if name in fields and fields.any(name) != []:
            raise invalid_request("unsupported_parameter", f"The bridge does not support '{name}': leave it out.", name)


def _read_system(fields: Fields) -> tuple[Message, ...]:
    if fields.kind("system") is list:
        texts = [_text(block) for block in fields.mappings("system") or ()]
        return tuple(Message("system", text) for text in texts if text)
    text = fields.string("system")
    return (Message("system", text),) if text else ()


def _read_output(fields: Fields) -> tuple[bool, JsonFormat | None, list[str]]:
    """Read `thinking` and `output_config`: whether reasoning is shown, the answer's format, and what has no effect."""
    thinking = fields.mapping("thinking")
    shown = thinking is not None and thinking.string("type") != "disabled"
    config = fields.mapping("output_config")
    if config is None:
        return shown, None, []
    ignored = ["output_config.effort"] if config.string("effort") is not None else []
    form = config.mapping("format")
    if form is None:
        return shown, None, ignored
    if form.string("type") != "json_schema":
        raise form.invalid("type", "invalid_value", f"'{form.path('type')}' must be json_schema.")
    if "schema" not in form:
        raise form.required("schema")
    return shown, read_json_schema(form), ignored


def _read_messages(fields: Fields, files: FileReader) -> Iterator[Message]:
    messages = fields.mappings("messages")
    if messages is None:
        raise fields.required("messages")
    if not messages:
        raise fields.invalid("messages", "invalid_value", "'messages' must have at least one message.")
    for message in messages:
        role = message.string("role")
        if role is None:
            raise message.required("role")
        if role not in _ROLES:
            allowed = ", ".join(_ROLES)
            raise message.invalid("role", "invalid_value", f"'{message.path('role')}' must be one of {allowed}.")
        if message.kind("content") is list:
            yield from _read_blocks(_ROLES[role], message.mappings("content") or [], files)
        elif (text := message.string("content")) is not None:
            yield Message(_ROLES[role], text)
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
                if texts or shown:
                    yield Message(role, "\n".join(texts), files=tuple(shown))
                    texts, shown = [], []
                yield _read_result(block, files)
            case "tool_use":
                calls.append(_read_call(block))
            case kind if kind in _SKIPPED:
                continue
            case _:
                part = _read_part(block, files)
                if isinstance(part, File):
                    shown.append(part)
                else:
                    texts.append(part)
    if texts or shown or calls:
        yield Message(role, "\n".join(texts), tool_calls=tuple(calls), files=tuple(shown))


def _read_part(block: Fields, files: FileReader) -> str | File:
    """Read a text, a picture or a document. Raises ApiError (400)."""
    match block.string("type"):
        case "text":
            return _text(block)
        case "image":
            return _read_source(block, files)
        case "document":
            return _read_document(block, files)
        case "search_result":
            parts = [block.string("title") or "", block.string("source") or ""]
            return "\n".join(filter(None, (*parts, *map(_text, block.mappings("content") or ()))))
        case None:
            raise block.required("type")
        case other:
            message = f"Content blocks of type '{other[:50]}' are not supported."
            raise block.invalid("type", "unsupported_parameter", message)


def _text(block: Fields) -> str:
    text = block.string("text")
    if text is None:
        raise block.required("text")
    return text


def _read_source(block: Fields, files: FileReader) -> File:
    source = block.mapping("source")
    if source is None:
        raise block.required("source")
    match source.string("type"):
        case "base64":
            data = source.string("data")
            if not data:
                raise source.required("data")
            if block.string("type") == "document":
                return files.read_data(data, source.path("data"), block)
            return files.read_picture_text(data, source.path("data"))
        case "url":
            url = source.string("url")
            if not url:
                raise source.required("url")
            return files.read_picture_text(url, source.path("url"))
        case other:
            message = f"Sources of type '{(other or '')[:50]}' are not supported: send base64 or a URL."
            raise source.invalid("type", "unsupported_parameter", message)


def _read_document(block: Fields, files: FileReader) -> str | File:
    """Read a document: its text where it has one, behind its title; else a PDF as a file."""
    source = block.mapping("source")
    if source is None:
        raise block.required("source")
    match source.string("type"):
        case "text":
            body = source.string("data") or ""
        case "content":
            content = source.any("content")
            body = content if isinstance(content, str) else "\n".join(map(_text, source.mappings("content") or ()))
        case _:
            return _read_source(block, files)
    return "\n".join(filter(None, (block.string("title"), block.string("context"), body)))


def _read_result(block: Fields, files: FileReader) -> Message:
    call_id = block.string("tool_use_id")
    if call_id is None:
        raise block.required("tool_use_id")
    if block.kind("content") is list:
        parts = [_read_part(part, files) for part in block.mappings("content") or ()]
        text = "\n".join(part for part in parts if isinstance(part, str))
        shown = tuple(part for part in parts if isinstance(part, File))
    else:
        text, shown = block.string("content") or "", ()
    if block.boolean("is_error"):
        text = f"The tool failed.\n{text}"
    return Message("tool", text, tool_call_id=call_id, files=shown)


def _read_call(block: Fields) -> ToolCall:
    name = block.string("name")
    if not name:
        raise block.required("name")
    given = block.json_object("input")
    return ToolCall(block.string("id") or "", name, orjson.dumps(given or {}).decode())


def _read_tools(fields: Fields) -> tuple[Tools | None, list[str]]:
    """Read tools and the choice among them; name what has no effect: those that only the vendor's servers could run."""
    reader = ToolReader()
    left_out: list[str] = []
    for tool in read_tools(fields, "tools"):
        kind = tool.string("type") or "custom"
        if kind == "custom":
            reader.read_function(tool, "input_schema")
        elif known := next((made for prefix, made in VENDOR_TOOLS.items() if kind.startswith(prefix)), None):
            reader.add(known._replace(name=tool.string("name") or known.name), tool)
        else:
            left_out.append(f"tools.{kind[:64]}")
    tools = reader.chosen(_read_choice(fields, reader), parallel=_may_call_several(fields))
    return tools, [*reader.ignored, *left_out]


def _read_choice(fields: Fields, reader: ToolReader) -> Choice:
    choice = fields.mapping("tool_choice")
    match None if choice is None else choice.string("type"):
        case None if choice is not None:
            raise choice.required("type")
        case None | "auto":
            return Choice()
        case "none":
            return Choice(none=True)
        case "any":
            if not reader:
                message = "'tool_choice' asks for a call, but no tool is given that the bridge can show."
                raise invalid_request("invalid_value", message, "tool_choice")
            return Choice(required=True)
        case "tool" if choice is not None:
            return Choice(required=True, allowed=frozenset({reader.find(choice)}))
    raise invalid_request("invalid_value", "'tool_choice.type' must be auto, any, tool or none.", "tool_choice.type")


def _may_call_several(fields: Fields) -> bool:
    choice = fields.mapping("tool_choice")
    return choice is None or not choice.boolean("disable_parallel_tool_use")
