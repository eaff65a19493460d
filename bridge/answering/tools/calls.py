"""Calls in a history: when two calls count as equal, and which call each result belongs to. Pure functions."""

from __future__ import annotations

from typing import Final, NamedTuple

import orjson

from bridge.answering.messages import Message, ToolCall
from bridge.answering.schemas import MAX_DEPTH, is_too_deep

#: Below this, every integer has its own float, so that 3.0 certainly means 3.
_MAX_EXACT: Final = 2**53


class Matched(NamedTuple):
    """The call that a result belongs to: its index among all calls of the history, or None if there is no such call."""

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
        """Add a message's calls. If two calls have the same id, the later one counts."""
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
    """Return what two calls are compared by: the tool and the value of its arguments, but not their spelling or id."""
    return [call.name, call.kind, call.arguments if call.kind == "custom" else _value(call.arguments)]


def _value(arguments: str) -> object:
    """Return the value of a JSON text, or the text itself if it is not JSON or nested too deeply."""
    if not arguments.strip():
        return {}
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments.strip()
    if arguments.count("{") + arguments.count("[") > MAX_DEPTH and is_too_deep(value):
        return arguments.strip()
    return _whole_numbers_as_integers(value) if "." in arguments or "e" in arguments or "E" in arguments else value


def _whole_numbers_as_integers(value: object) -> object:
    """Replace 3.0 by 3, which are equal in JSON Schema and in JavaScript."""
    match value:
        case float() if value.is_integer() and abs(value) < _MAX_EXACT:
            return int(value)
        case list():
            return [_whole_numbers_as_integers(item) for item in value]
        case dict():
            return {name: _whole_numbers_as_integers(item) for name, item in value.items()}
    return value
