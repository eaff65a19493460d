"""OpenAI's chat completions: a request's fields → ChatRequest (docs/behaviour.md, "Chat completions: parameters")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bridge.answering.chat import ChatRequest
from bridge.answering.messages import Message, Role, ToolCall
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.errors import ApiError, invalid_request
from upstream.protocol.files import File

_ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}

#: Parameters that upstream has no place for: checked for type, then named in `x-bridge-ignored`.
_IGNORED: Final[dict[str, Callable[[Fields, str], object]]] = {
    "temperature": Fields.number,
    "top_p": Fields.number,
    "presence_penalty": Fields.number,
    "frequency_penalty": Fields.number,
    "seed": Fields.integer,
    "logit_bias": Fields.mapping,
    "user": Fields.string,
    "metadata": Fields.mapping,
    "store": Fields.boolean,
    "service_tier": Fields.string,
    "reasoning_effort": Fields.string,
    "verbosity": Fields.string,
    "max_tokens": lambda fields, name: fields.integer(name, least=1),
    "max_completion_tokens": lambda fields, name: fields.integer(name, least=1),
}

#: What nearly every request is made of: without anything else, nothing else need be looked for.
_USUAL: Final = frozenset({"model", "messages", "stream", "stream_options"})

#: OpenAI's own bound on `stop`.
MAX_STOPS: Final = 4


def read_request(fields: Fields, files: FileReader) -> tuple[ChatRequest, bool]:
    """Read a request, and whether its stream is to end with its usage. Raises ApiError (400) that names the field."""
    model = fields.string("model")
    if not model:
        raise fields.required("model")
    stream = fields.boolean("stream") or False
    messages = _read_messages(fields, files)
    ignored = () if fields.names <= _USUAL else _read_ignored(fields)
    include_usage = _read_include_usage(fields, stream=stream)
    return ChatRequest(model, messages, stream, ignored, files.first_document), include_usage


def _read_ignored(fields: Fields) -> tuple[str, ...]:
    """Name what is asked for and has no effect. Raises ApiError where it would be missed."""
    _refuse_unsupported(fields)
    ignored = [name for name, read in _IGNORED.items() if read(fields, name) is not None]
    return (*ignored, *_read_stop(fields), *_read_response_format(fields), *_read_tools(fields))


def _read_messages(fields: Fields, files: FileReader) -> tuple[Message, ...]:
    messages = fields.array("messages")
    if messages is None:
        raise fields.required("messages")
    if not messages:
        raise fields.invalid("messages", "invalid_value", "'messages' must have at least one message.")
    return tuple(
        [
            _read_plain(message) or _read_message(fields.mapping_at("messages", at, message), files)
            for at, message in enumerate(messages)
        ]
    )


def _read_plain(message: object) -> Message | None:
    """Read a message that has nothing but a role and a text, as nearly all of a long history: a tenth of the time."""
    if isinstance(message, dict) and len(message) == 2:
        role, text = message.get("role"), message.get("content")
        if isinstance(role, str) and isinstance(text, str) and role in _ROLES:
            return Message(_ROLES[role], text)
    return None


def _read_message(fields: Fields, files: FileReader) -> Message:
    role = fields.string("role")
    if role is None:
        raise fields.required("role")
    if role not in _ROLES:
        raise fields.invalid(
            "role", "invalid_value", f"'{fields.path('role')}' must be one of {', '.join(_ROLES)}, not '{role[:50]}'."
        )
    text, shown = _read_content(fields, files)
    return Message(
        _ROLES[role],
        text,
        fields.string("name"),
        tuple(_read_tool_call(call) for call in fields.mappings("tool_calls") or ()),
        fields.string("tool_call_id"),
        shown,
    )


def _read_content(fields: Fields, files: FileReader) -> tuple[str, tuple[File, ...]]:
    """Content is a string, null or parts."""
    if fields.kind("content") is not list:
        if fields.kind("content") not in (str, type(None)):
            raise fields.invalid(
                "content", "invalid_type", f"'{fields.path('content')}' must be a string, null or an array of parts."
            )
        return fields.string("content") or "", ()
    parts = [_read_part(part, files) for part in fields.mappings("content") or ()]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts), tuple(part for part in parts if isinstance(part, File))


def _read_part(part: Fields, files: FileReader) -> str | File:
    match part.string("type"):
        case "text":
            text = part.string("text")
            if text is None:
                raise part.required("text")
            return text
        case "image_url":
            return files.read_picture(part)
        case "file":
            content = part.mapping("file")
            if content is None:
                raise part.required("file")
            return files.read_file(part, content)
        case "input_file":  # the Responses API's spelling, which some clients use here too
            return files.read_file(part, part)
        case None:
            raise part.required("type")
        case other:
            raise part.invalid(
                "type",
                "unsupported_parameter",
                f"Content parts of type '{other[:50]}' are not supported: send `text`, `image_url` and `file` parts.",
            )


def _read_tool_call(call: Fields) -> ToolCall:
    function = call.mapping("function")
    if function is None:
        raise call.required("function")
    name = function.string("name")
    if name is None:
        raise function.required("name")
    return ToolCall(call.string("id") or "", name, function.string("arguments") or "")


def _read_include_usage(fields: Fields, *, stream: bool) -> bool:
    options = fields.mapping("stream_options")
    if options is None:
        return False
    if not stream:
        raise fields.invalid(
            "stream_options", "invalid_value", "'stream_options' is allowed only with 'stream': true, as at OpenAI."
        )
    return options.boolean("include_usage") or False


def _read_stop(fields: Fields) -> list[str]:
    if fields.kind("stop") is list:
        stops = fields.strings("stop") or []
        if len(stops) > MAX_STOPS:
            raise fields.invalid("stop", "invalid_value", f"'stop' must be a string or up to {MAX_STOPS} strings.")
        return ["stop"] if stops else []
    return ["stop"] if fields.string("stop") is not None else []


def _read_response_format(fields: Fields) -> list[str]:
    form = fields.mapping("response_format")
    if form is None:
        return []
    match form.string("type"):
        case "text":
            return []
        case "json_object":
            return ["response_format"]
        case "json_schema":
            raise _unsupported(fields, "response_format")
        case None:
            raise form.required("type")
        case _:
            raise form.invalid(
                "type", "invalid_value", "'response_format.type' must be text, json_object or json_schema."
            )


def _read_tools(fields: Fields) -> list[str]:
    """Tools are refused while they cannot be called; an empty list, or a choice of `none`, asks for nothing."""
    given = [name for name in ("tools", "functions") if fields.array(name)]
    for choice in ("tool_choice", "function_call"):
        if fields.kind(choice) is str and fields.string(choice) in ("none", "auto"):
            continue
        if choice in fields:
            raise _unsupported(fields, choice)
    if given and "none" not in (_word(fields, "tool_choice"), _word(fields, "function_call")):
        raise _unsupported(fields, given[0])
    return given


def _word(fields: Fields, name: str) -> str | None:
    return fields.string(name) if fields.kind(name) is str else None


def _refuse_unsupported(fields: Fields) -> None:
    n = fields.integer("n", least=1)
    if n is not None and n > 1:
        raise _unsupported(fields, "n")
    if fields.boolean("logprobs"):
        raise _unsupported(fields, "logprobs")
    if fields.integer("top_logprobs", least=0):
        raise _unsupported(fields, "top_logprobs")
    if fields.mapping("audio") is not None:
        raise _unsupported(fields, "audio")
    if any(modality != "text" for modality in fields.strings("modalities") or ()):
        raise _unsupported(fields, "modalities")


def _unsupported(fields: Fields, name: str) -> ApiError:
    return invalid_request(
        "unsupported_parameter", f"The bridge does not support '{name}': leave it out.", fields.path(name)
    )
