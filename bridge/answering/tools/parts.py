"""What a block of tool calls is made of, in any form: JSON values, names and their arguments, XML parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from bridge.answering.tools.json_values import is_too_long, read_nearly, skip_spaces
from bridge.answering.tools.offered import RawCall

_NAMES: Final = ("name", "function", "tool")
_ARGUMENTS: Final = ("arguments", "parameters", "args", "input")
#: What else may stand beside a name and its arguments.
_BESIDE: Final = frozenset({*_NAMES, *_ARGUMENTS, "id", "type", "index", "call_id"})

#: So deep calls are looked for: a list of wrappers around lists of calls.
_MAX_DEPTH: Final = 6

_FENCE: Final = re.compile(r"\s*(?:`{3,}|~{3,})[\w+-]*[ \t]*\n?")
_FENCE_END: Final = re.compile(r"\s*(?:`{3,}|~{3,})")
_BETWEEN: Final = re.compile(r"[\s,;]*")


class Block(NamedTuple):
    """One block as it was read: its calls, and where it ends in the text.

    `problem` says why it cannot be read, '' where it can. `closed` says that nothing of it is missing, `mended` that
    its JSON was none. A `wrapper` is only the opening tag around blocks.
    """

    calls: tuple[RawCall, ...]
    end: int
    problem: str = ""
    closed: bool = False
    mended: bool = False
    wrapper: bool = False


def calls_in(value: object, depth: int = _MAX_DEPTH) -> list[RawCall] | None:
    """Find the calls that a JSON value holds, by any of the names that models give to the parts; None where none."""
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
    return [RawCall(name)] if _BESIDE.issuperset(value) else None


def read_calls_as_json(text: str, at: int, closer: re.Pattern[str] | None) -> Block:
    """Read one JSON value after another, in a fence or not, up to the closing tag, if there is one."""
    start = at
    fence = _FENCE.match(text, at)
    at = fence.end() if fence else skip_spaces(text, at)
    calls: list[RawCall] = []
    mended = False
    while text[at : at + 1] in ("{", "["):
        value = read_nearly(text, at)
        found = None if value is None else calls_in(value.value)
        if value is None or found is None:
            too_long = " and is too long to be mended" if value is None and is_too_long(text, at) else ""
            return Block((), max(at, start), f"It is not valid JSON with a name and arguments{too_long}.")
        calls += found
        mended |= value.mended
        at = value.end
        behind = _BETWEEN.match(text, at)
        if behind and text[behind.end() : behind.end() + 1] in ("{", "["):
            at = behind.end()
    if fence and (fence_end := _FENCE_END.match(text, at)):
        at = fence_end.end()
    end, closed = closed_by(text, at, closer)
    problem = "" if calls else "It holds no call."
    if calls and closer is not None and not closed and _stray(text, at):
        problem = "Something that is no JSON stands before its closing tag."
    return Block(tuple(calls), end, problem, closed or closer is None, mended)


def closed_by(text: str, at: int, closer: re.Pattern[str] | None) -> tuple[int, bool]:
    """Step over white space and a closing tag, if it is there; say where that ends, and whether it was."""
    found = closer.match(text, skip_spaces(text, at)) if closer is not None else None
    return (found.end(), True) if found else (at, False)


def _stray(text: str, at: int) -> bool:
    """Whether brackets are left over behind a value: the model lost count of them."""
    return text[skip_spaces(text, at) : skip_spaces(text, at) + 1] in ("}", "]", '"')


def read_arguments(text: str, name: str, at: int, closer: re.Pattern[str]) -> Block:
    """Read the arguments of one call, in a fence or not: JSON, or free text up to the closing tag."""
    fence = _FENCE.match(text, at)
    place = fence.end() if fence else skip_spaces(text, at)
    value = read_nearly(text, place)
    if value is not None:
        end = value.end
        if fence and (fence_end := _FENCE_END.match(text, end)):
            end = fence_end.end()
        end, closed = closed_by(text, end, closer)
        if closed or not text[skip_spaces(text, end) :]:
            return Block((RawCall(name, value.value),), end, closed=closed, mended=value.mended)
        if not closer.search(text, end):
            return Block((RawCall(name, value.value),), end, closed=False, mended=value.mended)
    found = closer.search(text, at)
    if found is None:
        empty = not text[at:].strip()
        return Block((RawCall(name),) if empty else (), len(text), "" if empty else "It is not closed.")
    content = text[at : found.start()]
    call = RawCall(name, text=content) if content.strip() else RawCall(name)
    return Block((call,), found.end(), closed=True)


class Parameters(NamedTuple):
    """How parameters are written in one kind of XML: `trims` one line break directly inside the tags."""

    opening: re.Pattern[str]
    closing: re.Pattern[str]
    any_closing: re.Pattern[str]
    trims: bool = False


def read_parameters(text: str, at: int, kind: Parameters) -> tuple[list[tuple[str, str]], int, bool]:
    """Read parameters one after another; say where they end, and whether each is closed."""
    values: list[tuple[str, str]] = []
    while opening := kind.opening.match(text, at):
        closing = kind.closing.search(text, opening.end()) or kind.any_closing.search(text, opening.end())
        if closing is None:
            return values, len(text), False
        value = text[opening.end() : closing.start()]
        if kind.trims:
            value = value.removeprefix("\n").removesuffix("\n")
        values.append((opening["name"], value))
        at = closing.end()
    return values, at, True
