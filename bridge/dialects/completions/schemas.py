"""Completions described (docs/fronts.md, "Completions")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.answer_form import MAX_STOPS
from bridge.dialects.completions.request import IGNORED, MAX_CHOICES
from bridge.dialects.openai.chat_schemas import FINISH_REASON
from bridge.dialects.schema import (
    Schema,
    answered,
    any_of,
    array,
    flag,
    nothing,
    or_null,
    ref,
    taken,
    text,
    whole,
    without_effect,
)

_ABOUT: Final[Mapping[str, Schema]] = {
    "id": text(),
    "object": {"type": "string", "const": "text_completion"},
    "created": whole("Unix time, in seconds."),
    "model": text(),
    "system_fingerprint": text(),
}


def _choices(reason: Schema) -> Schema:
    return array(answered({"index": whole(), "text": text(), "logprobs": nothing(), "finish_reason": reason}))


SCHEMAS: Final[Mapping[str, Schema]] = {
    "CompletionRequest": taken(
        {
            "model": text(minLength=1),
            "prompt": any_of(
                text(), array(text(), minItems=1), about="A text, or several, each an evaluation of its own."
            ),
        },
        {
            "suffix": text("What stands behind the text that is wanted; asked for in words."),
            "stream": flag(),
            "stream_options": taken({}, {"include_usage": flag()}),
            "echo": flag("The answer begins with the prompt."),
            "max_tokens": whole("-1 and 0 mean no limit.", minimum=-1),
            "n": whole("Answers to each prompt; eight in all.", minimum=1, maximum=MAX_CHOICES),
            "best_of": whole("Not more than n.", minimum=1),
            "stop": any_of(text(), array(text(), maxItems=MAX_STOPS)),
            "logprobs": {"description": "Not supported: others than false and 0 are 400.", "enum": [False, 0, None]},
            **without_effect(IGNORED),
        },
    ),
    "Completion": answered({**_ABOUT, "choices": _choices(FINISH_REASON), "usage": ref("ChatUsage")}),
    "CompletionChunk": answered(
        {**_ABOUT, "choices": _choices(or_null(FINISH_REASON))}, {"usage": or_null(ref("ChatUsage"))}
    ),
    "CompletionEvent": any_of(
        ref("CompletionChunk"),
        ref("StreamError"),
        about="The data of one event. The last one is the text [DONE], or an error, behind which nothing comes.",
    ),
}
