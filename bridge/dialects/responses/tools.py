"""Reads the tools of the Responses API: functions and custom tools, which may be in namespaces or in input items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from bridge.answering.chat import Tools
from bridge.dialects.fields import Fields
from bridge.dialects.tool_reading import Choice, ToolReader
from bridge.dialects.tool_reading import read_tools as read_array
from bridge.errors import ApiError, invalid_request

_KINDS: Final = ("function", "custom")


class ToolNames(NamedTuple):
    """The caller's names of tools, each with a namespace or None, by the names that the model is shown."""

    given: Mapping[str, tuple[str, str | None]]

    def of_call(self, shown: str) -> tuple[str, str | None]:
        """Return the caller's name and namespace of a tool, by the name that the model was shown."""
        return self.given.get(shown, (shown, None))

    def shown(self, name: str, namespace: str | None) -> str:
        """Return the name that the model was shown, by the caller's name and namespace of a tool."""
        return next((shown for shown, given in self.given.items() if given == (name, namespace)), name)


class ReadTools(NamedTuple):
    """The tools of a request and their names; `ignored` lists what has no effect."""

    tools: Tools | None
    names: ToolNames
    ignored: tuple[str, ...]


_NO_TOOLS: Final = ReadTools(None, ToolNames({}), ())


class _Found(NamedTuple):
    """A tool that is described by `about`, with its namespace, if it has one."""

    about: Fields
    name: str
    namespace: str | None


def read_tools(fields: Fields, items: Iterable[Fields]) -> ReadTools:
    """Read `tools`, those of `additional_tools` items, and the choice among them. Raises ApiError (400).

    Tools with the same name are distinguished by their namespaces; if those are the same too, the last one counts.
    """
    sources = [fields, *[item for item in items if item.any("type") == "additional_tools"]]
    if len(sources) == 1 and "tools" not in fields and "tool_choice" not in fields:  # as in most chats
        return _NO_TOOLS
    left_out: list[str] = []
    entries = [tool for source in sources for tool in read_array(source, "tools")]
    every = [found for entry in entries for found in _find(entry, None, left_out)]
    found = list({(tool.name, tool.namespace): tool for tool in every}.values())
    name_counts = Counter(tool.name for tool in found)
    reader, names = ToolReader(), dict[str, tuple[str, str | None]]()
    for about, name, namespace in found:
        shown = f"{namespace}.{name}" if namespace and name_counts[name] > 1 else name
        names[shown] = (name, namespace)
        if about.string("type") == "function":
            reader.read_function(about, name=shown)
        else:
            reader.read_custom(about, name=shown)
    tool_names = ToolNames(names)
    parallel = fields.boolean("parallel_tool_calls") is not False
    tools = reader.choose(_read_choice(fields, reader, tool_names), parallel=parallel)
    return ReadTools(tools, tool_names, tuple(dict.fromkeys((*reader.ignored, *left_out))))


def echoed_tool(tool: Fields) -> Mapping[str, object]:
    """Return a tool as the response object repeats it; a function gets all of its fields."""
    if tool.any("type") != "function":
        return tool.values
    return {"description": None, "parameters": None, "strict": None, **tool.values}


def echoed_choice(fields: Fields) -> object:
    """Return `tool_choice` as the response object repeats it."""
    match fields.any("tool_choice"):
        case None:
            return "auto"
        case {"type": "allowed_tools", **rest}:
            return {"type": "allowed_tools", "mode": "auto", **rest}
        case choice:
            return choice


def _find(tool: Fields, namespace: str | None, left_out: list[str]) -> Iterator[_Found]:
    """Yield the tools that one entry describes; add to `left_out` those that only OpenAI's servers can run."""
    kind = tool.required_string("type")
    if kind == "namespace" and namespace is None:
        name = tool.nonempty_string("name")
        for inner in read_array(tool, "tools"):
            yield from _find(inner, name, left_out)
    elif kind in _KINDS:
        yield _Found(tool, ToolReader.read_name(tool), namespace)
    else:
        left_out.append(f"tools.{kind[:64]}")


def _read_choice(fields: Fields, reader: ToolReader, names: ToolNames) -> Choice:
    if fields.kind("tool_choice") in (str, type(None)):
        return _of_mode(fields.string("tool_choice") or "auto", None, reader)
    choice = fields.mapping("tool_choice")
    match None if choice is None else choice.string("type"):
        case "function" | "custom" if choice is not None:
            return Choice(required=True, allowed=frozenset({_named(choice, reader, names)}))
        case "allowed_tools" if choice is not None:
            listed = [tool for tool in choice.mappings("tools") or [] if tool.string("type") in _KINDS]
            allowed = frozenset(_named(tool, reader, names) for tool in listed)
            return _of_mode(choice.string("mode") or "auto", allowed, reader)
        case kind:
            raise _bad_choice(
                f"'tool_choice' requires the tool '{(kind or '')[:64]}', which the bridge does not support."
            )


def _of_mode(mode: str, allowed: frozenset[str] | None, reader: ToolReader) -> Choice:
    if mode not in ("auto", "none", "required"):
        raise _bad_choice("'tool_choice' must be auto, none, required, a tool, or allowed_tools.")
    if mode == "required" and not (reader if allowed is None else allowed):
        raise _bad_choice("'tool_choice' requires a call, but the request has no tool that the bridge can show.")
    none = mode == "none" or (allowed is not None and not allowed)
    return Choice(none=none, required=mode == "required", allowed=allowed)


def _named(choice: Fields, reader: ToolReader, names: ToolNames) -> str:
    shown = names.shown(choice.string("name") or "", choice.string("namespace"))
    return reader.find(choice, name=shown)


def _bad_choice(message: str) -> ApiError:
    return invalid_request("invalid_value", message, "tool_choice")
