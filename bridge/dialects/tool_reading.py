"""Reads the tools of a request and the choice among them; common to all APIs. docs/agents.md describes the limits."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from bridge.answering.chat import Tool, Tools
from bridge.answering.schemas import check_schema
from bridge.dialects.fields import Fields
from bridge.errors import ApiError

MAX_TOOLS: Final = 512
#: The maximum size of all schemas of a request together, as compact JSON.
MAX_SCHEMA_BYTES: Final = 1024 * 1024

#: The maximum length of a tool's name at OpenAI.
_MAX_NAME_CHARS: Final = 64

_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]+")


class Choice(NamedTuple):
    """Which tools may or must be called. `allowed` has their names, None for all; with `none`, no tools are shown."""

    none: bool = False
    required: bool = False
    allowed: frozenset[str] | None = None


class ToolReader:
    """Collects the tools of one request, then applies the choice among them.

    `ignored` lists the invalid schemas, against which arguments cannot be checked.
    """

    def __init__(self, max_name_chars: int = _MAX_NAME_CHARS) -> None:
        self.ignored: list[str] = []
        self._max_name_chars = max_name_chars
        self._tools: dict[str, Tool] = {}
        self._schema_bytes = 0

    def read_function(self, about: Fields, schema: str = "parameters", *, name: str | None = None) -> None:
        """Read a function, whose parameters are described in the field `schema`. Raises ApiError (400).

        If `name` is given, the model is shown the function under that name.
        """
        name, description = name or self.read_name(about, self._max_name_chars), about.string("description") or ""
        parameters, text = about.json_object(schema) or (None, b"")
        about.boolean("strict")  # without effect: calls that do not match are never passed on
        checkable = True
        if parameters is not None:
            self._schema_bytes += len(text)
            if self._schema_bytes > MAX_SCHEMA_BYTES:
                limit = f"The schemas of all tools together must not be larger than {MAX_SCHEMA_BYTES} bytes."
                raise about.invalid(schema, "invalid_value", limit)
            checkable = check_schema(parameters) is None
            if not checkable:
                self.ignored.append(f"{about.path(schema)} ({name})")
        self.add(Tool(name, description, parameters, checkable=checkable), about)

    def read_custom(self, about: Fields, *, name: str | None = None) -> None:
        """Read a tool that takes free text, which its `format` may describe by a grammar. Raises ApiError (400)."""
        name, description = name or self.read_name(about, self._max_name_chars), about.string("description") or ""
        grammar = ""
        form = about.mapping("format")
        if form is not None and form.string("type") == "grammar":
            rules = form.mapping("grammar") or form  # the Responses API has the same fields in `format` itself
            definition = rules.required_string("definition")
            grammar = "\n".join(filter(None, (rules.string("syntax"), definition)))
        self.add(Tool(name, description, kind="custom", grammar=grammar), about)

    def find(self, chosen: Fields, *, name: str | None = None) -> str:
        """Return the name of a chosen tool, or `name` if given. Raises ApiError (400) if there is no such tool."""
        name = name or chosen.required_string("name")
        if name not in self._tools:
            message = f"'{chosen.path('name')}' names '{name[:64]}', which is not one of the request's tools."
            raise chosen.invalid("name", "invalid_value", message)
        return name

    def choose(self, choice: Choice, *, parallel: bool) -> Tools | None:
        """Return all tools with the choice applied; None if none may be called."""
        if choice.none or not self._tools:
            return None
        allowed = frozenset(self._tools) if choice.allowed is None else choice.allowed
        return Tools(tuple(self._tools.values()), allowed, choice.required, parallel)

    def __bool__(self) -> bool:
        return bool(self._tools)

    @staticmethod
    def read_name(about: Fields, max_chars: int = _MAX_NAME_CHARS) -> str:
        """Read a tool's own name. Raises ApiError (400)."""
        name = about.required_string("name")
        if len(name) > max_chars or not _NAME.fullmatch(name):
            allowed = f"1 to {max_chars} characters of a-z, A-Z, 0-9, '_', '-' and '.'"
            message = f"'{about.path('name')}' must have {allowed}."
            raise about.invalid("name", "invalid_value", message)
        return name

    def add(self, tool: Tool, about: Fields) -> None:
        """Add a tool; `about` is the object that describes it. Raises ApiError (400) if the name is already taken."""
        if tool.name in self._tools:
            message = f"'{about.path('name')}' repeats the name of another tool: '{tool.name}'."
            raise about.invalid("name", "invalid_value", message)
        self._tools[tool.name] = tool


def read_tools(fields: Fields, name: str) -> list[Fields]:
    """Read an array of tools, which may be absent. Raises ApiError (400) if there are too many."""
    items = fields.mappings(name) or []
    if len(items) > MAX_TOOLS:
        raise fields.invalid(name, "invalid_value", f"'{fields.path(name)}' must not have more than {MAX_TOOLS} tools.")
    return items


def unknown_choice(fields: Fields, name: str, allowed: str) -> ApiError:
    """Make the 400 for a value that is not one of those `allowed`."""
    return fields.invalid(name, "invalid_value", f"'{fields.path(name)}' must be {allowed}.")
