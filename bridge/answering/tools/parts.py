"""The parts that blocks of tool calls share, whatever their form: JSON values, arguments, and XML parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from bridge.answering.tools.json_values import is_too_long, read_nearly, skip_spaces
from bridge.answering.tools.offered import RawCall

_NAMES: Final = ("name", "function", "tool")
_ARGUMENTS: Final = ("arguments", "parameters", "args", "input")
#: All keys that a call may have.
_KEYS: Final = frozenset({*_NAMES, *_ARGUMENTS, "id", "type", "index", "call_id"})

#: The maximum nesting of calls, such as a list of wrappers around lists of calls.
_MAX_DEPTH: Final = 6

_FENCE: Final = re.compile(r"\s*(?:`{3,}|~{3,})[\w+-]*[ \t]*\n?")
_FENCE_END: Final = re.compile(r"\s*(?:`{3,}|~{3,})")
_BETWEEN: Final = re.compile(r"[\s,;]*")


class Block(NamedTuple):
    """One block as it was read: its calls, and the index in the text where it ends.

    `problem` says why it cannot be read, '' if it can. `closed` says that it is complete, `mended` that its JSON was
    malformed. A `wrapper` is only an opening tag around blocks.
    """

    calls: tuple[RawCall, ...]
    end: int
    problem: str = ""
    closed: bool = False
    mended: bool = False
    wrapper: bool = False


def calls_in(value: object, depth: int = _MAX_DEPTH) -> list[RawCall] | None:
    """Find the calls in a JSON value, under any of the keys that models use; None if it is not made of calls."""
    if depth <= 0:
        return None
    if isinstance(value, list):
        found = [calls_in(item, depth - 1) for item in value]
        calls = [call for each in found for call in each or ()]
        return calls if value and all(found) else None
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get("tool_calls"), list):
        return calls_in(value["tool_calls"], depth - 1)
    for key in ("function", "tool"):
        if isinstance(value.get(key), Mapping):
            return calls_in(value[key], depth - 1)
    name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), None)
    if name is None:
        return None
    for key in _ARGUMENTS:
        if key in value:
            return [RawCall(name, value[key])]
    return [RawCall(name)] if _KEYS.issuperset(value) else None


def read_calls_as_json(text: str, at: int, closer: re.Pattern[str] | None) -> Block:
    """Read one JSON value after another, with or without a fence, up to the closing tag, if there is one."""
    fence = _FENCE.match(text, at)
    at = fence.end() if fence else skip_spaces(text, at)
    calls: list[RawCall] = []
    mended = False
    while text[at : at + 1] in ("{", "["):
        value = read_nearly(text, at)
        found = None if value is None else calls_in(value.value)
        if value is None or found is None:
            too_long = " and is too long to be repaired" if value is None and is_too_long(text, at) else ""
            return Block((), at, f"It is not valid JSON with a name and arguments{too_long}.")
        calls += found
        mended |= value.mended
        at = value.end
        between = _BETWEEN.match(text, at)
        if between and text[between.end() : between.end() + 1] in ("{", "["):
            at = between.end()
    if fence and (fence_end := _FENCE_END.match(text, at)):
        at = fence_end.end()
    end, closed = closed_by(text, at, closer)
    problem = "" if calls else "It contains no call."
    if calls and closer is not None and not closed and _has_stray_bracket(text, at):
        problem = "Its JSON is followed by a surplus bracket or quotation mark."
    return Block(tuple(calls), end, problem, closed or closer is None, mended)


def closed_by(text: str, at: int, closer: re.Pattern[str] | None) -> tuple[int, bool]:
    """Skip white space and a closing tag, if there is one; return the index after it, and whether it was there."""
    found = closer.match(text, skip_spaces(text, at)) if closer is not None else None
    return (found.end(), True) if found else (at, False)


def _has_stray_bracket(text: str, at: int) -> bool:
    """Whether a value is followed by surplus brackets, because the model lost count of them."""
    at = skip_spaces(text, at)
    return text[at : at + 1] in ("}", "]", '"')


def read_arguments(text: str, name: str, at: int, closer: re.Pattern[str]) -> Block:
    """Read the arguments of one call, with or without a fence: JSON, or free text up to the closing tag."""
    fence = _FENCE.match(text, at)
    value = read_nearly(text, fence.end() if fence else at)
    if value is not None:
        end = value.end
        if fence and (fence_end := _FENCE_END.match(text, end)):
            end = fence_end.end()
        end, closed = closed_by(text, end, closer)
        if closed or not closer.search(text, end):
            return Block((RawCall(name, value.value),), end, closed=closed, mended=value.mended)
    found = closer.search(text, at)
    if found is None:
        empty = not text[at:].strip()
        return Block((RawCall(name),) if empty else (), len(text), "" if empty else "It has no closing tag.")
    content = text[at : found.start()]
    call = RawCall(name, text=content) if content.strip() else RawCall(name)
    return Block((call,), found.end(), closed=True)


class ParameterSyntax(NamedTuple):
    """How parameters are written in one kind of XML; `trims` says that line breaks just inside the tags are dropped.

    `closing` matches a closing tag before something that may follow a parameter, `any_closing` matches it anywhere.
    """

    opening: re.Pattern[str]
    closing: re.Pattern[str]
    any_closing: re.Pattern[str]
    trims: bool = False


def read_parameters(text: str, at: int, syntax: ParameterSyntax) -> tuple[list[tuple[str, str]], int, bool]:
    """Read parameters one after another; return their names and texts, where they end, and whether all are closed."""
    values: list[tuple[str, str]] = []
    while opening := syntax.opening.match(text, at):
        closing = syntax.closing.search(text, opening.end()) or syntax.any_closing.search(text, opening.end())
        if closing is None:
            return values, len(text), False
        value = text[opening.end() : closing.start()]
        if syntax.trims:
            value = value.removeprefix("\n").removesuffix("\n")
        values.append((opening["name"], value))
        at = closing.end()
    return values, at, True
