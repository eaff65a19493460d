"""The schemas of the Completions API (docs/fronts.md, "Completions")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.answer_form import MAX_STOPS
from bridge.dialects.completions.request import IGNORED, MAX_CHOICES
from bridge.dialects.openai.chat_schemas import FINISH_REASON
from bridge.dialects.schema import (
    Schema,
    any_of,
    array,
    boolean,
    input_object,
    integer,
    null,
    nullable,
    output_object,
    ref,
    string,
    without_effect,
)

_ABOUT: Final[Mapping[str, Schema]] = {
    "id": string(),
    "object": {"type": "string", "const": "text_completion"},
    "created": integer("Unix time, in seconds."),
    "model": string(),
    "system_fingerprint": string(),
}


def _choices(reason: Schema) -> Schema:
    return array(output_object({"index": integer(), "text": string(), "logprobs": null(), "finish_reason": reason}))


SCHEMAS: Final[Mapping[str, Schema]] = {
    "CompletionRequest": input_object(
        {
            "model": string(minLength=1),
            "prompt": any_of(
                string(),
                array(string(), minItems=1),
                about="A text or several texts, each of which is an evaluation of its own.",
            ),
        },
        {
            "suffix": string("The text after the wanted text; the bridge puts it into the prompt, in words."),
            "stream": boolean(),
            "stream_options": input_object({}, {"include_usage": boolean()}),
            "echo": boolean("Whether the answer begins with the prompt."),
            "max_tokens": integer("The maximum length of the answer; -1 and 0 mean no limit.", minimum=-1),
            "n": integer(
                f"The number of answers to each prompt; a request may have at most {MAX_CHOICES} in total.",
                minimum=1,
                maximum=MAX_CHOICES,
            ),
            "best_of": integer("At most `n`.", minimum=1),
            "stop": any_of(string(), array(string(), maxItems=MAX_STOPS)),
            "logprobs": {
                "description": "Not supported: values other than `false` and 0 are answered with 400.",
                "enum": [False, 0, None],
            },
            **without_effect(IGNORED),
        },
    ),
    "Completion": output_object({**_ABOUT, "choices": _choices(FINISH_REASON), "usage": ref("ChatUsage")}),
    "CompletionChunk": output_object(
        {**_ABOUT, "choices": _choices(nullable(FINISH_REASON))}, {"usage": nullable(ref("ChatUsage"))}
    ),
    "CompletionEvent": any_of(
        ref("CompletionChunk"),
        ref("StreamError"),
        about="The data of one event. The last event is the text `[DONE]`, or an error, after which the stream ends.",
    ),
}
