"""Reads requests of the Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from bridge.answering.chat import ChatRequest, JsonFormat
from bridge.dialects.answer_form import read_json_schema, read_stops
from bridge.dialects.fields import Fields, Reader
from bridge.dialects.files import FileReader
from bridge.dialects.messages.blocks import read_messages, read_system
from bridge.dialects.messages.errors import THREAD_UNSUPPORTED
from bridge.dialects.messages.tools import read_offered
from bridge.errors import invalid_request

#: Fields without an equivalent upstream: their types are checked, and `x-bridge-ignored` lists them.
IGNORED: Final[Mapping[str, Reader]] = {
    "temperature": Fields.number,
    "top_p": Fields.number,
    "top_k": Fields.integer,
    "metadata": Fields.mapping,
    "service_tier": Fields.string,
    "speed": Fields.string,
    "inference_geo": Fields.string,
    "cache_control": Fields.mapping,
    "context_management": Fields.mapping,
    "diagnostics": Fields.mapping,
    "fallbacks": Fields.any,
    "fallback_credit_token": Fields.any,
    "user_profile_id": Fields.string,
    "billing_policy": Fields.mapping,
    "betas": Fields.strings,
}

#: Fields that are refused, because the answer would not be what they ask for.
_REFUSED: Final = ("container", "mcp_servers", "compaction")

#: The types of `thinking`, and whether they ask for the model's reasoning.
THINKING: Final[Mapping[str, bool]] = {"enabled": True, "adaptive": True, "between_tools": False, "disabled": False}


class MessagesFields(NamedTuple):
    """A request that has been read; `thinking` asks for the model's reasoning."""

    chat: ChatRequest
    thinking: bool


def count_request(fields: Fields, files: FileReader, owner: str) -> ChatRequest:
    """Read a request to count tokens, in which `max_tokens` may be absent. Raises ApiError (400)."""
    del owner
    if "max_tokens" not in fields:
        fields = Fields({**fields.values, "max_tokens": 1})
    return read_request(fields, files).chat


def read_request(fields: Fields, files: FileReader) -> MessagesFields:
    """Read a request. Raises ApiError (400) that names the field."""
    _refuse_unsupported(fields)
    model = fields.nonempty_string("model")
    max_tokens = fields.integer("max_tokens", minimum=1)
    if max_tokens is None:
        raise fields.required("max_tokens")
    tools, left_out = read_offered(fields)
    json_format, without_effect = _read_output(fields)
    ignored = fields.ignored(IGNORED)
    system, no_instructions = read_system(fields)
    chat = ChatRequest(
        model,
        (*system, *read_messages(fields, files)),
        stream=fields.boolean("stream") or False,
        ignored=(*ignored, *no_instructions, *without_effect, *left_out),
        first_document=files.first_document,
        tools=tools,
        json_format=json_format,
        stops=read_stops(fields, "stop_sequences"),
        max_tokens=max_tokens,
    )
    return MessagesFields(chat, _shows_thinking(fields))


def _refuse_unsupported(fields: Fields) -> None:
    if "thread" in fields:  # the client then sends the whole history
        message = "The bridge keeps no threads: send the whole history in 'messages'."
        raise invalid_request(THREAD_UNSUPPORTED, message, "thread")
    for name in _REFUSED:
        if name in fields and fields.any(name) != []:
            raise fields.unsupported(name)


def _shows_thinking(fields: Fields) -> bool:
    thinking = fields.mapping("thinking")
    if thinking is None:
        return False
    kind = thinking.required_string("type")
    if kind not in THINKING:
        allowed = ", ".join(THINKING)
        raise thinking.invalid("type", "invalid_value", f"'{thinking.path('type')}' must be one of {allowed}.")
    return THINKING[kind] and thinking.string("display") != "omitted"


def _read_output(fields: Fields) -> tuple[JsonFormat | None, list[str]]:
    """Read the format in `output_config`, or in the older `output_format`, and list what has no effect."""
    config = fields.mapping("output_config")
    ignored = ["output_config.effort"] if config is not None and config.string("effort") is not None else []
    form = None if config is None else config.mapping("format")
    form = form or fields.mapping("output_format")
    if form is None:
        return None, ignored
    if form.string("type") != "json_schema":
        raise form.invalid("type", "invalid_value", f"'{form.path('type')}' must be json_schema.")
    if "schema" not in form:
        raise form.required("schema")
    return read_json_schema(form), ignored
