"""Reads requests of the Completions API: one ChatRequest for each choice of each prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from bridge.answering.chat import ChatRequest
from bridge.answering.messages import Message
from bridge.dialects.answer_form import read_max_tokens, read_stops
from bridge.dialects.fields import Fields, Reader

#: The maximum number of evaluations for one request.
MAX_CHOICES: Final = 8

#: Parameters without an equivalent upstream: their types are checked, and `x-bridge-ignored` lists them.
IGNORED: Final[Mapping[str, Reader]] = {
    "temperature": Fields.number,
    "top_p": Fields.number,
    "presence_penalty": Fields.number,
    "frequency_penalty": Fields.number,
    "seed": Fields.integer,
    "logit_bias": Fields.mapping,
    "user": Fields.string,
}

_BETWEEN: Final = """\
Write the text that belongs between the two texts below, so that the whole reads as one. Write nothing else: no \
explanation, no quotation marks, and none of the two texts themselves.

<before>
{before}
</before>
<after>
{after}
</after>"""


class CompletionFields(NamedTuple):
    """A request that has been read; `echoed` has the text with which each choice begins, '' if nothing is echoed."""

    chats: tuple[ChatRequest, ...]
    echoed: tuple[str, ...]
    include_usage: bool


def read_request(fields: Fields) -> CompletionFields:
    """Read a request. Raises ApiError (400) that names the field."""
    model = fields.nonempty_string("model")
    if fields.any("logprobs") not in (None, False, 0):
        raise fields.unsupported("logprobs")
    prompts = _read_prompts(fields)
    suffix = fields.string("suffix")
    if not suffix and not all(map(str.strip, prompts)):
        raise fields.invalid("prompt", "invalid_value", "'prompt' contains no text to send.")
    n = fields.integer("n", minimum=1) or 1
    if (fields.integer("best_of", minimum=1) or 1) > n:
        raise fields.unsupported("best_of")
    if n * len(prompts) > MAX_CHOICES:
        limit = f"A request may have at most {MAX_CHOICES} choices: 'n' for each text in 'prompt'."
        raise fields.invalid("n" if n > 1 else "prompt", "invalid_value", limit)
    stream = fields.boolean("stream") or False
    shared = ChatRequest(
        model,
        (),
        stream=stream,
        ignored=tuple(fields.ignored(IGNORED)),
        stops=read_stops(fields, "stop"),
        max_tokens=read_max_tokens(fields, "max_tokens"),
        choices=n * len(prompts),
    )
    chats = [
        shared._replace(messages=(Message("user", _BETWEEN.format(before=text, after=suffix) if suffix else text),))
        for text in prompts
        for _ in range(n)
    ]
    echo = fields.boolean("echo") or False
    echoed = tuple(text if echo else "" for text in prompts for _ in range(n))
    options = fields.mapping("stream_options")
    include_usage = options is not None and (options.boolean("include_usage") or False)
    return CompletionFields(tuple(chats), echoed, include_usage)


def _read_prompts(fields: Fields) -> list[str]:
    """Read one or several prompts. Raises ApiError (400) if there is none, or if they are token ids."""
    sent = fields.any("prompt")
    items = sent if isinstance(sent, list) else [] if sent is None else [sent]
    prompts = [item for item in items if isinstance(item, str)]
    if len(prompts) < len(items):
        message = "'prompt' must be a string or an array of strings: token ids are not supported."
        raise fields.invalid("prompt", "invalid_type", message)
    if not prompts:
        raise fields.required("prompt")
    return prompts
