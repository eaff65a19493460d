"""Chat Completions described: requests, answers, chunks (docs/behaviour.md, "Chat completions")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.answer_form import MAX_STOPS
from bridge.dialects.openai.chat_answer import FINISH_REASONS
from bridge.dialects.openai.chat_messages import ROLES, THOUGHTS
from bridge.dialects.openai.chat_request import IGNORED, MAX_CHOICES
from bridge.dialects.schema import (
    Schema,
    answered,
    any_of,
    anything,
    array,
    flag,
    nothing,
    one_of,
    or_null,
    ref,
    taken,
    text,
    whole,
    without_effect,
    word,
)
from bridge.dialects.tool_reading import MAX_TOOLS

_FILE: Final = taken(
    {},
    {"file_data": text("A PDF as a data URL, or as bare base64."), "filename": text("Without effect.")},
)
_NAMED: Final = taken({"name": text()})

#: How an answer ends: `function_call` stands for `tool_calls` where `functions` were sent.
FINISH_REASON: Final = word(*dict.fromkeys(FINISH_REASONS.values()), "function_call")

#: Estimates, by the encoding o200k_base.
USAGE: Final = answered(
    {
        "prompt_tokens": whole(),
        "completion_tokens": whole(),
        "total_tokens": whole(),
        "prompt_tokens_details": answered({"cached_tokens": whole(), "audio_tokens": whole()}),
        "completion_tokens_details": answered({"reasoning_tokens": whole(), "audio_tokens": whole()}),
    },
    about="An estimate. cached_tokens is what a follow-up did not send again.",
)

#: What is told of a choice besides where several models are asked.
_COMPARED: Final = {
    "model": text("The choice's model, where several were asked."),
    "error": ref("ErrorInStream"),
    "usage": ref("ChatUsage"),
}
_CHOICE_END: Final = word(*dict.fromkeys(FINISH_REASONS.values()), "function_call", "error")

_REQUEST: Final = taken(
    {
        "model": text(
            "A name, name@xxxx, id or display name of GET /v1/models, or an alias. "
            "Up to four joined by + give a choice each.",
            minLength=1,
        ),
        "messages": array(ref("ChatMessage"), "The whole conversation.", minItems=1),
    },
    {
        "stream": flag("Answer by server-sent events, delta by delta."),
        "stream_options": taken(
            {},
            {
                "include_usage": flag("A last chunk with the usage; only with stream."),
                "include_obfuscation": flag("Without effect."),
            },
            "Only with stream: include_usage asks for a last chunk with the usage.",
        ),
        "max_tokens": whole("The answer ends there; -1 and 0 mean no limit. The lower of the two counts.", minimum=-1),
        "max_completion_tokens": whole("As max_tokens.", minimum=-1),
        "stop": any_of(
            text(), array(text(), maxItems=MAX_STOPS), about="The answer ends before the first of these texts."
        ),
        "n": whole("So many answers, each an evaluation of its own.", minimum=1, maximum=MAX_CHOICES),
        "tools": array(ref("ChatTool"), "Shown to the model, which calls them by text.", maxItems=MAX_TOOLS),
        "tool_choice": any_of(word("auto", "none", "required", "any"), anything("Names a tool, or allowed_tools.")),
        "parallel_tool_calls": flag("false: one call at most."),
        "functions": array(ref("ChatFunction"), "The older form of tools.", maxItems=MAX_TOOLS),
        "function_call": any_of(word("auto", "none"), _NAMED, about="The older form of tool_choice."),
        "response_format": taken(
            {"type": word("text", "json_object", "json_schema")},
            {"json_schema": taken({}, {"name": text(), "schema": anything(), "strict": flag(), "description": text()})},
            about="The answer is JSON alone, checked against the schema; repaired once, else 502.",
        ),
        "logprobs": {"type": "boolean", "const": False, "description": "Not supported: true is 400."},
        "top_logprobs": whole("Not supported: more than 0 is 400.", maximum=0, minimum=0),
        "modalities": array(word("text"), "Not supported: others than text are 400."),
        **without_effect(IGNORED),
    },
)

_PART: Final = any_of(
    taken({"type": word("text"), "text": text()}),
    taken(
        {
            "type": word("image_url"),
            "image_url": any_of(
                taken(
                    {"url": text("A data URL; http(s) only with images.fetch_urls.")},
                    {"detail": text("Without effect.")},
                ),
                text(),
            ),
        }
    ),
    taken({"type": word("file"), "file": _FILE}),
    taken({"type": word("input_file")}, {"file_data": text(), "filename": text()}),
    taken({"type": word("refusal"), "refusal": text()}),
    taken({"type": word(*sorted(THOUGHTS))}, about="An assistant's alone. Not shown to the model."),
)

_CALL: Final = any_of(
    taken(
        {"function": taken({"name": text()}, {"arguments": text("JSON, as text.")})},
        {"id": text(), "type": word("function")},
    ),
    taken({"type": word("custom"), "custom": taken({"name": text()}, {"input": text()})}, {"id": text()}),
)

_FUNCTION_CALL: Final = answered({"name": text(), "arguments": text("JSON, as text.")})
_ANSWERED_CALLS: Final[tuple[Mapping[str, Schema], ...]] = (
    {"id": text(), "type": word("function"), "function": _FUNCTION_CALL},
    {"id": text(), "type": word("custom"), "custom": answered({"name": text(), "input": text()})},
)

_ABOUT: Final[Mapping[str, Schema]] = {
    "created": whole("Unix time, in seconds."),
    "model": text("As it was asked for; x-bridge-model says which one answers."),
    "system_fingerprint": text(),
}

SCHEMAS: Final[Mapping[str, Schema]] = {
    "ChatCompletionRequest": _REQUEST,
    "ChatMessage": taken(
        {"role": word(*ROLES)},
        {
            "content": any_of(text(), array(ref("ChatPart"))),
            "name": text(),
            "tool_calls": array(ref("ChatCall"), "An assistant's."),
            "function_call": taken({"name": text()}, {"arguments": text()}, about="The older form."),
            "tool_call_id": text("Of a tool's message: which call it answers."),
            "refusal": text("An assistant's."),
        },
    ),
    "ChatPart": _PART,
    "ChatCall": _CALL,
    "ChatTool": any_of(
        taken({"function": ref("ChatFunction")}, {"type": word("function")}),
        taken(
            {
                "type": word("custom"),
                "custom": taken({"name": text()}, {"description": text(), "format": anything("Maybe a grammar.")}),
            }
        ),
        taken({"name": text()}, {"type": word("function", "custom"), "description": text(), "parameters": anything()}),
    ),
    "ChatFunction": taken(
        {"name": text(pattern="^[a-zA-Z0-9_.-]{1,64}$")},
        {"description": text(), "parameters": anything("JSON Schema."), "strict": flag()},
    ),
    "ChatUsage": USAGE,
    "ChatAnnotation": answered(
        {
            "type": word("url_citation"),
            "url_citation": answered(
                {"url": text(), "title": text(), "start_index": whole(), "end_index": whole()},
            ),
        },
        about="A place in the text that leans on a source.",
    ),
    "ChatAnsweredCall": one_of(*map(answered, _ANSWERED_CALLS)),
    "ChatCompletion": answered(
        {
            "id": text(),
            "object": word("chat.completion"),
            **_ABOUT,
            "choices": array(
                answered(
                    {
                        "index": whole(),
                        "message": answered(
                            {"role": word("assistant"), "content": or_null(text()), "refusal": nothing()},
                            {
                                "reasoning_content": text("What the model shows of its thoughts."),
                                "tool_calls": array(ref("ChatAnsweredCall")),
                                "function_call": _FUNCTION_CALL,
                                "annotations": array(ref("ChatAnnotation")),
                            },
                        ),
                        "logprobs": nothing(),
                        "finish_reason": _CHOICE_END,
                    },
                    _COMPARED,
                )
            ),
            "usage": ref("ChatUsage"),
        }
    ),
    "ChatCompletionChunk": answered(
        {
            "id": text(),
            "object": word("chat.completion.chunk"),
            **_ABOUT,
            "choices": array(
                answered(
                    {
                        "index": whole(),
                        "delta": answered(
                            {},
                            {
                                "role": word("assistant"),
                                "content": or_null(text()),
                                "reasoning_content": text(),
                                "tool_calls": array(
                                    one_of(*(answered({"index": whole(), **call}) for call in _ANSWERED_CALLS))
                                ),
                                "function_call": _FUNCTION_CALL,
                                "annotations": array(ref("ChatAnnotation")),
                            },
                        ),
                        "finish_reason": or_null(_CHOICE_END),
                    },
                    _COMPARED,
                ),
                "Empty in the chunk that has the usage.",
            ),
        },
        {"usage": or_null(ref("ChatUsage"))},
    ),
    "ChatCompletionEvent": any_of(
        ref("ChatCompletionChunk"),
        ref("StreamError"),
        about="The data of one event. The last one is the text [DONE], or an error, behind which nothing comes.",
    ),
}
