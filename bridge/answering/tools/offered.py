"""The tools that a request offers, and the check whether a call names one of them with matching arguments."""

from __future__ import annotations

import secrets
from typing import Final, NamedTuple

from bridge.answering.chat import Tool, Tools
from bridge.answering.messages import ToolCall
from bridge.answering.schemas import Checker, is_too_deep
from bridge.answering.tools.json_values import compact, read_nearly, skip_spaces
from bridge.answering.tools.typed_values import value_of

#: The maximum length of a name that a model writes: a tool's own and what is put before it.
MAX_NAME_CHARS: Final = 200

#: What models put before a tool's name.
_PREFIXES: Final = ("functions.", "default_api.", "function.", "tools.")


class RawCall(NamedTuple):
    """A call as a model wrote it.

    Its arguments are either one JSON value, or pairs of a name and a text in `texts`, or a single `text`.
    """

    name: str
    arguments: object = None
    texts: tuple[tuple[str, str], ...] | None = None
    text: str | None = None


class InvalidCall(NamedTuple):
    """The reason why a call is invalid, as a sentence for the model."""

    reason: str


class OfferedTools:
    """The tools of one request."""

    def __init__(self, tools: Tools) -> None:
        self._by_name = {tool.name: tool for tool in tools.tools if tool.name in tools.allowed}
        self._by_folded_name = {name.casefold(): tool for name, tool in self._by_name.items()}
        self._checkers: dict[str, Checker] = {}

    def find(self, name: str) -> Tool | None:
        """Find an allowed tool by the name that a model wrote, ignoring case and the usual prefixes."""
        name = name.strip()
        tool = self._by_name.get(name) or self._by_folded_name.get(name.casefold())
        if tool is None:
            for prefix in _PREFIXES:
                if name.casefold().startswith(prefix):
                    return self.find(name[len(prefix) :])
        return tool

    def call(self, raw: RawCall) -> ToolCall | InvalidCall:
        """Turn what was read into a call, or return why it is invalid."""
        tool = self.find(raw.name)
        if tool is None:
            return InvalidCall(f'The tool "{raw.name[:100]}" does not exist or may not be called.')
        if tool.kind == "custom":
            text = _input_of(raw)
            return (
                InvalidCall(f'The tool "{tool.name}" takes one string, "input".')
                if text is None
                else _call_of(tool, text)
            )
        arguments = _arguments_of(raw, tool)
        if not isinstance(arguments, dict):
            return InvalidCall(f'The arguments of "{tool.name}" are not a JSON object.')
        misfit = None
        if tool.parameters is not None and tool.checkable:
            if tool.name not in self._checkers:
                self._checkers[tool.name] = Checker(tool.parameters)
            misfit = self._checkers[tool.name].first_misfit(arguments)
        elif is_too_deep(arguments):
            return InvalidCall(f'The arguments of "{tool.name}" are nested too deeply.')
        if misfit is not None:
            place = f" (at {misfit.path})" if misfit.path else ""
            return InvalidCall(f'The arguments of "{tool.name}" do not match its parameters{place}: {misfit.message}')
        return _call_of(tool, compact(arguments))


def _call_of(tool: Tool, arguments: str) -> ToolCall:
    """Make a call with an id like OpenAI's: `call_` and 24 hex digits."""
    return ToolCall(f"call_{secrets.token_hex(12)}", tool.name, arguments, tool.kind)


def _arguments_of(raw: RawCall, tool: Tool) -> object:
    """Return a call's arguments as one JSON value; a text that is not JSON is returned as it is."""
    if raw.texts is not None:
        return {name: value_of(text, name, tool.parameters) for name, text in raw.texts}
    arguments: object = raw.arguments if raw.text is None else raw.text
    if isinstance(arguments, str) and arguments.strip():
        nearly = read_nearly(arguments)
        if nearly is not None and skip_spaces(arguments, nearly.end) == len(arguments):
            return nearly.value
    return {} if arguments in (None, "", []) else arguments


def _input_of(raw: RawCall) -> str | None:
    """Return the input of a call of a custom tool; None if there is not exactly one string."""
    if raw.text is not None:
        return raw.text
    if raw.texts is not None:
        return raw.texts[0][1] if len(raw.texts) == 1 else None
    arguments = raw.arguments
    if isinstance(arguments, dict):
        arguments = arguments.get("input") if len(arguments) == 1 else None
    return arguments if isinstance(arguments, str) else None
