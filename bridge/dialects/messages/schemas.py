"""Requests of the Messages API described (docs/fronts.md, "Messages")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.answer_form import MAX_STOPS
from bridge.dialects.messages.blocks import ROLES
from bridge.dialects.messages.request import IGNORED, THINKING
from bridge.dialects.schema import (
    Schema,
    any_of,
    anything,
    array,
    flag,
    ref,
    taken,
    text,
    whole,
    without_effect,
    word,
)
from bridge.dialects.tool_reading import MAX_TOOLS

_TEXT: Final = taken({"type": word("text"), "text": text()})
_PARTS: Final = (
    _TEXT,
    taken(
        {
            "type": word("image"),
            "source": any_of(
                taken({"type": word("base64"), "data": text()}, {"media_type": text()}),
                taken({"type": word("url"), "url": text("Fetched only with images.fetch_urls.")}),
            ),
        }
    ),
    taken(
        {
            "type": word("document"),
            "source": any_of(
                taken({"type": word("base64"), "data": text("A PDF.")}, {"media_type": text()}),
                taken({"type": word("text"), "data": text()}),
                taken({"type": word("content"), "content": any_of(text(), array(_TEXT))}),
            ),
        },
        {"title": text(), "context": text()},
    ),
    taken({"type": word("search_result")}, {"title": text(), "source": text(), "content": array(_TEXT)}),
)

_BLOCK: Final = any_of(
    *_PARTS,
    taken(
        {"type": word("tool_result"), "tool_use_id": text()},
        {"content": any_of(text(), array(any_of(*_PARTS))), "is_error": flag()},
        about="A user's.",
    ),
    taken({"type": word("tool_use"), "name": text()}, {"id": text(), "input": anything()}, about="An assistant's."),
    taken({"type": word("thinking", "redacted_thinking")}, about="Accepted, and not shown to a model."),
)

_OPTIONAL: Final[Mapping[str, Schema]] = {
    "system": any_of(text(), array(_TEXT)),
    "stream": flag("Answer by server-sent events."),
    "stop_sequences": array(text(), maxItems=MAX_STOPS),
    "thinking": taken(
        {"type": word(*THINKING)},
        {"display": text("omitted: no thinking block comes."), "budget_tokens": whole("Without effect.")},
        about="enabled and adaptive show what the model shows of its thoughts.",
    ),
    "tools": array(ref("MessageTool"), maxItems=MAX_TOOLS),
    "tool_choice": taken(
        {"type": word("auto", "any", "tool", "none")}, {"name": text(), "disable_parallel_tool_use": flag()}
    ),
    "output_config": taken(
        {},
        {
            "format": taken({"type": word("json_schema"), "schema": anything("JSON Schema.")}),
            "effort": text("Without effect."),
        },
    ),
    **without_effect(IGNORED),
}
_REQUIRED: Final[Mapping[str, Schema]] = {
    "model": text(minLength=1),
    "messages": array(taken({"role": word(*ROLES), "content": any_of(text(), array(ref("MessageBlock")))}), minItems=1),
}

SCHEMAS: Final[Mapping[str, Schema]] = {
    "MessageRequest": taken(
        {**_REQUIRED, "max_tokens": whole("The answer ends there.", minimum=1)},
        _OPTIONAL,
    ),
    "MessageCountRequest": taken(_REQUIRED, {"max_tokens": whole(minimum=1), **_OPTIONAL}),
    "MessageBlock": _BLOCK,
    "MessageTool": any_of(
        taken(
            {"name": text(pattern="^[a-zA-Z0-9_.-]{1,64}$")},
            {"type": word("custom"), "description": text(), "input_schema": anything("JSON Schema.")},
        ),
        taken(
            {"type": text("Such as bash_20250124: shown with its schema, or named in x-bridge-ignored.")},
            {"name": text()},
        ),
    ),
}
