"""Tools of the Responses API: functions and custom tools, by themselves, in a namespace or in an input item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from bridge.answering.chat import Tool, Tools
from bridge.dialects.fields import Fields
from bridge.dialects.tool_reading import check_tools
from bridge.errors import ApiError, invalid_request

_KINDS: Final = ("function", "custom")


class ToolNames(NamedTuple):
    """How the tools of a request are called: as the model is shown them → as the caller knows them, with a namespace."""

    given: Mapping[str, tuple[str, str | None]]

    def of_call(self, shown: str) -> tuple[str, str | None]:
        """The name and the namespace of a call by the name that the model was shown."""
        return self.given.get(shown, (shown, None))

    def shown(self, name: str, namespace: str | None) -> str:
        """The name by which the model was shown a tool."""
        return next((shown for shown, given in self.given.items() if given == (name, namespace)), name)


class ReadTools(NamedTuple):
    """The tools of a request, how they are called, and the kinds that only the vendor's servers could run."""

    tools: Tools | None
    names: ToolNames
    left_out: tuple[str, ...]


def read_tools(fields: Fields, items: Iterable[Fields]) -> ReadTools:
    """Read `tools`, those of `additional_tools` items, and the choice among them. Raises ApiError (400)."""
    found: list[tuple[Tool, str | None]] = []
    left_out: list[str] = []
    sources = [fields, *(item for item in items if item.any("type") == "additional_tools")]
    for source in sources:
        for tool in source.mappings("tools") or ():
            found += _read_one(tool, None, left_out)
    often = Counter(tool.name for tool, _ in found)
    names: dict[str, tuple[str, str | None]] = {}
    shown: list[Tool] = []
    for tool, namespace in found:
        name = f"{namespace}.{tool.name}" if namespace and often[tool.name] > 1 else tool.name
        if name not in names:
            names[name] = (tool.name, namespace)
            shown.append(tool._replace(name=name))
    left_out += check_tools(shown, "tools")
    tools = _chosen(fields, tuple(shown), ToolNames(names))
    return ReadTools(tools, ToolNames(names), tuple(dict.fromkeys(left_out)))


def _read_one(tool: Fields, namespace: str | None, left_out: list[str]) -> Iterator[tuple[Tool, str | None]]:
    kind = tool.string("type")
    if kind is None:
        raise tool.required("type")
    if kind == "namespace":
        for inner in tool.mappings("tools") or ():
            yield from _read_one(inner, tool.string("name"), left_out)
        return
    if kind not in _KINDS:
        left_out.append(f"tools.{kind[:64]}")
        return
    name = tool.string("name")
    if not name:
        raise tool.required("name")
    description = tool.string("description") or ""
    if kind == "function":
        yield Tool(name, description, tool.json_object("parameters")), namespace
        return
    form = tool.mapping("format")
    grammar = (form.string("definition") or "") if form is not None else ""
    yield Tool(name, description, kind="custom", grammar=grammar), namespace


def _chosen(fields: Fields, tools: tuple[Tool, ...], names: ToolNames) -> Tools | None:
    """Read `tool_choice` and `parallel_tool_calls`."""
    parallel = fields.boolean("parallel_tool_calls") is not False
    every = frozenset(tool.name for tool in tools)
    choice = fields.any("tool_choice")
    if isinstance(choice, str) or choice is None:
        mode, allowed = choice or "auto", every
    else:
        mode, allowed = _read_choice(fields, every, names)
    if mode not in ("auto", "none", "required"):
        raise _bad_choice("'tool_choice' must be auto, none, required, a tool, or allowed_tools.")
    if mode == "required" and not allowed:
        raise _bad_choice("'tool_choice' asks for a call, but no tool is given that the bridge can show.")
    return Tools(tools, allowed, mode == "required", parallel) if tools and mode != "none" else None


def _read_choice(fields: Fields, every: frozenset[str], names: ToolNames) -> tuple[str, frozenset[str]]:
    choice = fields.mapping("tool_choice")
    if choice is None:
        return "auto", every
    match choice.string("type"):
        case "function" | "custom":
            return "required", frozenset({_named(choice, every, names)})
        case "allowed_tools":
            listed = choice.mappings("tools") or []
            allowed = frozenset(_named(tool, every, names) for tool in listed if tool.string("type") in _KINDS)
            return choice.string("mode") or "auto", allowed
        case kind:
            raise _bad_choice(f"'tool_choice' demands '{(kind or '')[:64]}', which the bridge does not have.")


def _named(choice: Fields, every: frozenset[str], names: ToolNames) -> str:
    name = names.shown(choice.string("name") or "", choice.string("namespace"))
    if name not in every:
        raise _bad_choice(f"'{choice.path('name')}' names no tool of this request.")
    return name


def _bad_choice(message: str) -> ApiError:
    return invalid_request("invalid_value", message, "tool_choice")
