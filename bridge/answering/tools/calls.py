"""Calls in a history: what two equal ones have in common, and which call each result answers. Pure values."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from bridge.answering.messages import Message, ToolCall

#: From here on not every whole number is a float of its own, so that spelling one as the other is no longer certain.
_EXACT = 2**53


class Matched(NamedTuple):
    """Whose result a message is: `place` counts the calls of the history from 0, None where there is no such call."""

    place: int | None
    name: str


class CallsSoFar:
    """The calls of a history up to some message."""

    __slots__ = ("_by_id", "_by_name", "_count")

    def __init__(self) -> None:
        self._count = 0
        self._by_id: dict[str, Matched] = {}
        self._by_name: dict[str, Matched] = {}

    def add(self, calls: tuple[ToolCall, ...]) -> None:
        """Take a message's calls. Of two calls with one id the later counts."""
        for call in calls:
            matched = Matched(self._count, call.name)
            self._by_name[call.name] = matched
            if call.id:
                self._by_id[call.id] = matched
            self._count += 1

    def answered_by(self, result: Message) -> Matched:
        """Find the call that a message of role `tool` answers: by its id, or by its name where it has no id."""
        if result.tool_call_id:
            return self._by_id.get(result.tool_call_id) or Matched(None, result.name or "")
        return self._by_name.get(result.name or "") or Matched(None, result.name or "")


def compared_call(call: ToolCall) -> list[object]:
    """What two equal calls have in common: tool and arguments' value, not their spelling, and not the id."""
    return [call.name, call.kind, call.arguments if call.kind == "custom" else _value(call.arguments)]


def _value(arguments: str) -> object:
    """The value of a JSON text, so that equal ones are written alike; the text itself where it is no JSON."""
    if not arguments.strip():
        return {}
    try:
        value = orjson.loads(arguments)
        return _whole_numbers_as_integers(value) if "." in arguments or "e" in arguments or "E" in arguments else value
    except (orjson.JSONDecodeError, RecursionError):
        return arguments.strip()


def _whole_numbers_as_integers(value: object) -> object:
    """Take 3.0 for 3, as JSON Schema does, and as JavaScript writes it."""
    match value:
        case float() if value.is_integer() and abs(value) < _EXACT:
            return int(value)
        case list():
            return [_whole_numbers_as_integers(item) for item in value]
        case dict():
            return {name: _whole_numbers_as_integers(item) for name, item in value.items()}
    return value
