"""Reads requests of the Chat Completions API (docs/behaviour.md, "Chat completions: parameters")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from bridge.answering.chat import ChatRequest, JsonFormat
from bridge.dialects.answer_form import read_json_schema, read_max_tokens, read_stops
from bridge.dialects.fields import Fields, Reader
from bridge.dialects.files import FileReader
from bridge.dialects.openai.chat_messages import MessageReader
from bridge.dialects.openai.chat_tools import read_chat_tools

#: Parameters without an equivalent upstream: their types are checked, and `x-bridge-ignored` lists them.
IGNORED: Final[Mapping[str, Reader]] = {
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
    "moderation": Fields.mapping,
    "prediction": Fields.mapping,
    "prompt_cache_key": Fields.string,
    "prompt_cache_options": Fields.mapping,
    "prompt_cache_retention": Fields.string,
    "safety_identifier": Fields.string,
    "web_search_options": Fields.mapping,
}

#: The parameters of nearly all requests; if there are no others, no others are looked for.
_USUAL: Final = frozenset({"model", "messages", "stream", "stream_options"})

#: The maximum number of answers to one request.
MAX_CHOICES: Final = 8


class ChatFields(NamedTuple):
    """A request that has been read.

    With `include_usage`, the stream ends with the usage; with `older_form`, a call is sent as a `function_call`.
    """

    chat: ChatRequest
    include_usage: bool
    older_form: bool = False


def read_request(fields: Fields, files: FileReader) -> ChatFields:
    """Read a request. Raises ApiError (400) that names the field."""
    model = fields.nonempty_string("model")
    stream = fields.boolean("stream") or False
    reader = MessageReader(files)
    messages = reader.read(fields)
    chat = ChatRequest(model, messages, stream, reader.ignored, files.first_document)
    read = ChatFields(chat, include_usage=False)
    if not fields.names <= _USUAL:
        read = _read_rest(fields, read)
    return _read_stream_options(fields, read)


def _read_rest(fields: Fields, read: ChatFields) -> ChatFields:
    """Read the less common parameters. Raises ApiError (400) for one that is unsupported but essential."""
    _refuse_unsupported(fields)
    ignored = fields.ignored(IGNORED)
    tools, ignored_tools, older_form = read_chat_tools(fields)
    stops = read_stops(fields, "stop")
    if "stop" in fields and not stops and fields.any("stop") != []:
        ignored.append("stop")
    limits = [read_max_tokens(fields, name) for name in ("max_tokens", "max_completion_tokens")]
    chat = read.chat._replace(
        ignored=(*ignored, *ignored_tools, *read.chat.ignored),
        tools=tools,
        json_format=_read_response_format(fields),
        stops=stops,
        max_tokens=min([limit for limit in limits if limit is not None], default=None),
        choices=_read_choices(fields),
    )
    return read._replace(chat=chat, older_form=older_form)


def _read_stream_options(fields: Fields, read: ChatFields) -> ChatFields:
    options = fields.mapping("stream_options")
    if options is None:
        return read
    chat = read.chat
    if not chat.stream:
        raise fields.invalid(
            "stream_options", "invalid_value", "'stream_options' is allowed only with 'stream': true, as at OpenAI."
        )
    if options.boolean("include_obfuscation"):
        chat = chat._replace(ignored=(*chat.ignored, "stream_options.include_obfuscation"))
    return read._replace(chat=chat, include_usage=options.boolean("include_usage") or False)


def _read_response_format(fields: Fields) -> JsonFormat | None:
    form = fields.mapping("response_format")
    if form is None:
        return None
    match form.string("type"):
        case "text":
            return None
        case "json_object":  # as with servers for local models, there may be a schema next to it
            return read_json_schema(form)
        case "json_schema":
            about = form.mapping("json_schema")
            if about is None:
                raise form.required("json_schema")
            return read_json_schema(about)
        case None:
            raise form.required("type")
        case _:
            raise form.invalid(
                "type", "invalid_value", "'response_format.type' must be text, json_object or json_schema."
            )


def _read_choices(fields: Fields) -> int:
    count = fields.integer("n", minimum=1)
    if count is not None and count > MAX_CHOICES:
        raise fields.invalid("n", "invalid_value", f"'n' must be at most {MAX_CHOICES}, not {count}.")
    return count or 1


def _refuse_unsupported(fields: Fields) -> None:
    if fields.boolean("logprobs"):
        raise fields.unsupported("logprobs")
    if fields.integer("top_logprobs", minimum=0):
        raise fields.unsupported("top_logprobs")
    if fields.mapping("audio") is not None:
        raise fields.unsupported("audio")
    if any(modality != "text" for modality in fields.strings("modalities") or ()):
        raise fields.unsupported("modalities")
