"""The schemas of the Chat Completions API: requests, answers, chunks (docs/behaviour.md, "Chat completions")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.answer_form import MAX_STOPS
from bridge.dialects.openai.chat_answer import FINISH_REASONS
from bridge.dialects.openai.chat_messages import ROLES, THOUGHTS
from bridge.dialects.openai.chat_request import IGNORED, MAX_CHOICES
from bridge.dialects.schema import (
    Schema,
    any_object,
    any_of,
    array,
    boolean,
    input_object,
    integer,
    literal,
    null,
    nullable,
    one_of,
    output_object,
    ref,
    string,
    without_effect,
)
from bridge.dialects.tool_reading import MAX_TOOLS

_FILE: Final = input_object(
    {},
    {"file_data": string("A PDF, as a data URL or as bare base64."), "filename": string("Has no effect.")},
)
_NAMED: Final = input_object({"name": string()})

#: The finish reasons; `function_call` replaces `tool_calls` if the request had `functions`.
FINISH_REASON: Final = literal(*dict.fromkeys(FINISH_REASONS.values()), "function_call")

#: Estimates, by the encoding o200k_base.
USAGE: Final = output_object(
    {
        "prompt_tokens": integer(),
        "completion_tokens": integer(),
        "total_tokens": integer(),
        "prompt_tokens_details": output_object({"cached_tokens": integer(), "audio_tokens": integer()}),
        "completion_tokens_details": output_object({"reasoning_tokens": integer(), "audio_tokens": integer()}),
    },
    about="Estimates. `cached_tokens` are those that a follow-up did not have to send again.",
)

#: Additional fields of a choice if several models are asked.
_COMPARED: Final = {
    "model": string("The model that gave this choice, if several models were asked."),
    "error": ref("ErrorInStream"),
    "usage": ref("ChatUsage"),
}
_CHOICE_END: Final = literal(*dict.fromkeys(FINISH_REASONS.values()), "function_call", "error")

_REQUEST: Final = input_object(
    {
        "model": string(
            "A name, `name@xxxx`, id or display name from GET /v1/models, or an alias. "
            "Up to four models, joined by `+`, give one choice each.",
            minLength=1,
        ),
        "messages": array(ref("ChatMessage"), "The whole conversation.", minItems=1),
    },
    {
        "stream": boolean("Whether to stream the answer as server-sent events, delta by delta."),
        "stream_options": input_object(
            {},
            {
                "include_usage": boolean("Whether a last chunk has the usage."),
                "include_obfuscation": boolean("Has no effect."),
            },
            "Allowed only with `stream`: true.",
        ),
        "max_tokens": integer(
            "The maximum length of the answer; -1 and 0 mean no limit. The lower of `max_completion_tokens` and"
            " this one counts.",
            minimum=-1,
        ),
        "max_completion_tokens": integer("The same as `max_tokens`.", minimum=-1),
        "stop": any_of(
            string(), array(string(), maxItems=MAX_STOPS), about="The answer ends before the first of these strings."
        ),
        "n": integer("The number of answers; each is an evaluation of its own.", minimum=1, maximum=MAX_CHOICES),
        "tools": array(
            ref("ChatTool"),
            "Described to the model in the prompt; the bridge reads calls from the model's text.",
            maxItems=MAX_TOOLS,
        ),
        "tool_choice": any_of(
            literal("auto", "none", "required", "any"), any_object("An object that names a tool, or `allowed_tools`.")
        ),
        "parallel_tool_calls": boolean("If false, an answer has at most one call."),
        "functions": array(ref("ChatFunction"), "The older form of `tools`.", maxItems=MAX_TOOLS),
        "function_call": any_of(literal("auto", "none"), _NAMED, about="The older form of `tool_choice`."),
        "response_format": input_object(
            {"type": literal("text", "json_object", "json_schema")},
            {
                "json_schema": input_object(
                    {}, {"name": string(), "schema": any_object(), "strict": boolean(), "description": string()}
                )
            },
            about="With a JSON type, the answer is JSON alone, checked against the schema. If it does not match,"
            " the model is asked once to repair it; if that fails, the status is 502.",
        ),
        "logprobs": {"type": "boolean", "const": False, "description": "Not supported: `true` is answered with 400."},
        "top_logprobs": integer("Not supported: values above 0 are answered with 400.", maximum=0, minimum=0),
        "modalities": array(literal("text"), "Only `text` is supported; other modalities are answered with 400."),
        **without_effect(IGNORED),
    },
)

_PART: Final = any_of(
    input_object({"type": literal("text"), "text": string()}),
    input_object(
        {
            "type": literal("image_url"),
            "image_url": input_object(
                {"url": string("A data URL, or an http(s) URL if `images.fetch_urls` is set.")},
                {"detail": string("Has no effect.")},
            ),
        }
    ),
    input_object({"type": literal("file"), "file": _FILE}),
    input_object({"type": literal("input_file")}, {"file_data": string(), "filename": string()}),
    input_object({"type": literal("refusal"), "refusal": string()}),
    input_object(
        {"type": literal(*sorted(THOUGHTS))}, about="Allowed only in an assistant's message. Not shown to the model."
    ),
)

_CALL: Final = any_of(
    input_object(
        {"function": input_object({"name": string()}, {"arguments": string("JSON in a string.")})},
        {"id": string(), "type": literal("function")},
    ),
    input_object(
        {"type": literal("custom"), "custom": input_object({"name": string()}, {"input": string()})}, {"id": string()}
    ),
)

_FUNCTION_CALL: Final = output_object({"name": string(), "arguments": string("JSON in a string.")})
_ANSWERED_CALLS: Final[tuple[Mapping[str, Schema], ...]] = (
    {"id": string(), "type": literal("function"), "function": _FUNCTION_CALL},
    {"id": string(), "type": literal("custom"), "custom": output_object({"name": string(), "input": string()})},
)

_ABOUT: Final[Mapping[str, Schema]] = {
    "created": integer("Unix time, in seconds."),
    "model": string("The name that the request used; `x-bridge-model` has the model that answers."),
    "system_fingerprint": string(),
}

SCHEMAS: Final[Mapping[str, Schema]] = {
    "ChatCompletionRequest": _REQUEST,
    "ChatMessage": input_object(
        {"role": literal(*ROLES)},
        {
            "content": any_of(string(), array(ref("ChatPart"))),
            "name": string(),
            "tool_calls": array(ref("ChatCall"), "In an assistant's message."),
            "function_call": input_object(
                {"name": string()}, {"arguments": string()}, about="The older form of `tool_calls`."
            ),
            "tool_call_id": string("In a tool's message: the id of the call that it answers."),
            "refusal": string("In an assistant's message."),
        },
    ),
    "ChatPart": _PART,
    "ChatCall": _CALL,
    "ChatTool": any_of(
        input_object({"function": ref("ChatFunction")}, {"type": literal("function")}),
        input_object(
            {
                "type": literal("custom"),
                "custom": input_object(
                    {"name": string()}, {"description": string(), "format": any_object("May have a grammar.")}
                ),
            }
        ),
        input_object(
            {"name": string()},
            {"type": literal("function", "custom"), "description": string(), "parameters": any_object()},
        ),
    ),
    "ChatFunction": input_object(
        {"name": string(pattern="^[a-zA-Z0-9_.-]{1,64}$")},
        {"description": string(), "parameters": any_object("A JSON Schema."), "strict": boolean()},
    ),
    "ChatUsage": USAGE,
    "ChatAnnotation": output_object(
        {
            "type": literal("url_citation"),
            "url_citation": output_object(
                {"url": string(), "title": string(), "start_index": integer(), "end_index": integer()},
            ),
        },
        about="A citation: the range of the text that a source supports.",
    ),
    "ChatAnsweredCall": one_of(*map(output_object, _ANSWERED_CALLS)),
    "ChatCompletion": output_object(
        {
            "id": string(),
            "object": literal("chat.completion"),
            **_ABOUT,
            "choices": array(
                output_object(
                    {
                        "index": integer(),
                        "message": output_object(
                            {"role": literal("assistant"), "content": nullable(string()), "refusal": null()},
                            {
                                "reasoning_content": string("The part of its reasoning that the model shows."),
                                "tool_calls": array(ref("ChatAnsweredCall")),
                                "function_call": _FUNCTION_CALL,
                                "annotations": array(ref("ChatAnnotation")),
                            },
                        ),
                        "logprobs": null(),
                        "finish_reason": _CHOICE_END,
                    },
                    _COMPARED,
                )
            ),
            "usage": ref("ChatUsage"),
        }
    ),
    "ChatCompletionChunk": output_object(
        {
            "id": string(),
            "object": literal("chat.completion.chunk"),
            **_ABOUT,
            "choices": array(
                output_object(
                    {
                        "index": integer(),
                        "delta": output_object(
                            {},
                            {
                                "role": literal("assistant"),
                                "content": nullable(string()),
                                "reasoning_content": string(),
                                "tool_calls": array(
                                    one_of(*(output_object({"index": integer(), **call}) for call in _ANSWERED_CALLS))
                                ),
                                "function_call": _FUNCTION_CALL,
                                "annotations": array(ref("ChatAnnotation")),
                            },
                        ),
                        "finish_reason": nullable(_CHOICE_END),
                    },
                    _COMPARED,
                ),
                "Empty in the last chunk, which has the usage.",
            ),
        },
        {"usage": nullable(ref("ChatUsage"))},
    ),
    "ChatCompletionEvent": any_of(
        ref("ChatCompletionChunk"),
        ref("StreamError"),
        about="The data of one event. The last event is the text `[DONE]`, or an error, after which the stream ends.",
    ),
}
