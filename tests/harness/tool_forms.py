"""Tool calls in all the forms in which models write them, and tools to call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from bridge.answering.chat import Tool, Tools

#: A call: the tool's name and its arguments.
Called: TypeAlias = tuple[str, dict[str, Any]]

WEATHER = Tool(
    "get_weather",
    "Say how the weather is.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
NOW = Tool("now", "Tell the time.")
RUN = Tool("run", "Run a script.", kind="custom")


def offering(
    *tools: Tool, required: bool = False, parallel: bool = True, allowed: Sequence[str] | None = None
) -> Tools:
    """The tools of a request; by default those above."""
    given = tools or (WEATHER, NOW, RUN)
    names = [tool.name for tool in given] if allowed is None else allowed
    return Tools(given, frozenset(names), required, parallel)


def as_text(value: object) -> str:
    """A value in XML forms: a string unchanged, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _json(name: str, arguments: object, /, **names: str) -> str:
    call = {names.get("name", "name"): name, names.get("arguments", "arguments"): arguments}
    return json.dumps(call, ensure_ascii=False)


def block(calls: Sequence[Called]) -> str:
    return "\n".join(f"<tool_call>\n{_json(name, arguments)}\n</tool_call>" for name, arguments in calls)


def xml(calls: Sequence[Called], ns: str = "") -> str:
    invokes = "".join(
        f'<{ns}invoke name="{name}">\n'
        + "".join(f'<{ns}parameter name="{key}">{as_text(value)}</{ns}parameter>\n' for key, value in arguments.items())
        + f"</{ns}invoke>\n"
        for name, arguments in calls
    )
    return f"<{ns}function_calls>\n{invokes}</{ns}function_calls>"


def equals(calls: Sequence[Called]) -> str:
    return "\n".join(
        f"<tool_call>\n<function={name}>\n"
        + "".join(f"<parameter={key}>\n{as_text(value)}\n</parameter>\n" for key, value in arguments.items())
        + "</function>\n</tool_call>"
        for name, arguments in calls
    )


def pairs(calls: Sequence[Called]) -> str:
    return "\n".join(
        f"<tool_call>{name}\n"
        + "".join(
            f"<arg_key>{key}</arg_key>\n<arg_value>{as_text(value)}</arg_value>\n" for key, value in arguments.items()
        )
        + "</tool_call>"
        for name, arguments in calls
    )


def sections(calls: Sequence[Called]) -> str:
    inner = "".join(
        f"<|tool_call_begin|>functions.{name}:{place}<|tool_call_argument_begin|>"
        f"{json.dumps(arguments, ensure_ascii=False)}<|tool_call_end|>"
        for place, (name, arguments) in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{inner}<|tool_calls_section_end|>"


def full_width_sections(calls: Sequence[Called]) -> str:
    inner = "\n".join(
        f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{json.dumps(arguments, ensure_ascii=False)}<｜tool▁call▁end｜>"
        for name, arguments in calls
    )
    return f"<｜tool▁calls▁begin｜>{inner}<｜tool▁calls▁end｜>"


def fenced_sections(calls: Sequence[Called]) -> str:
    inner = "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n"
        f"```json\n{json.dumps(arguments, ensure_ascii=False)}\n```<｜tool▁call▁end｜>"
        for name, arguments in calls
    )
    return f"<｜tool▁calls▁begin｜>{inner}<｜tool▁calls▁end｜>"


def channels(calls: Sequence[Called]) -> str:
    return "".join(
        f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
        f"{json.dumps(arguments, ensure_ascii=False)}<|call|>"
        for name, arguments in calls
    )


def as_list(calls: Sequence[Called], /, **names: str) -> str:
    return "[" + ", ".join(_json(name, arguments, **names) for name, arguments in calls) + "]"


def _function(name: str, arguments: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


#: Functions that write calls in each form of the table in AGENTS.md, "Reading calls", and in its variants.
FORMS: dict[str, Callable[[Sequence[Called]], str]] = {
    "asked for": block,
    "closing tag missing at the end": lambda calls: block(calls).removesuffix("\n</tool_call>"),
    "several in one block": lambda calls: (
        "<tool_call>\n" + "\n".join(_json(*call) for call in calls) + "\n</tool_call>"
    ),
    "a list": lambda calls: f"<tool_call>{as_list(calls)}</tool_call>",
    "a tool_calls wrapper": lambda calls: f'<tool_call>{{"tool_calls": {as_list(calls)}}}</tool_call>',
    "a fence around": lambda calls: f"```xml\n{block(calls)}\n```\n",
    "a fence inside": lambda calls: "".join(
        f"<tool_call>\n```json\n{_json(*call)}\n```\n</tool_call>" for call in calls
    ),
    "parameters": lambda calls: f"<tool_call>{as_list(calls, arguments='parameters')}</tool_call>",
    "args and tool": lambda calls: f"<tool_call>{as_list(calls, arguments='args', name='tool')}</tool_call>",
    "input and function": lambda calls: f"<tool_call>{as_list(calls, arguments='input', name='function')}</tool_call>",
    "type and function": lambda calls: "".join(
        f"<tool_call>{json.dumps(_function(*call), ensure_ascii=False)}</tool_call>" for call in calls
    ),
    "arguments as a string": lambda calls: block([(name, json.dumps(arguments)) for name, arguments in calls]),  # type: ignore[misc]  # that is the point
    "nearly right JSON": lambda calls: block(calls).replace("}}\n", "},}\n"),
    "XML": xml,
    "XML with a namespace": lambda calls: xml(calls, "ab:"),
    "XML with a namespace for the wrapper alone": lambda calls: xml(calls).replace("function_calls>", "ab:tool_call>"),
    "XML with bars": lambda calls: xml(calls, "｜DSML｜").replace('">', '" string="false">'),
    "XML with two bars": lambda calls: xml(calls, "｜｜DSML｜｜ ").replace("function_calls>", "calls>"),
    "XML with =": equals,
    "name, then pairs": pairs,
    "bracket marker": lambda calls: f"[TOOL_CALLS]{as_list(calls)}",
    "bracket marker with names": lambda calls: "".join(
        f"[TOOL_CALLS]{name}[ARGS]{json.dumps(arguments, ensure_ascii=False)}" for name, arguments in calls
    ),
    "python tag": lambda calls: "<|python_tag|>" + "; ".join(_json(*call, arguments="parameters") for call in calls),
    "function tag": lambda calls: "".join(
        f"<function={name}>{json.dumps(arguments, ensure_ascii=False)}</function>" for name, arguments in calls
    ),
    "section markers": sections,
    "section markers, full-width": full_width_sections,
    "section markers, with a fence": fenced_sections,
    "channel markers": channels,
    "bare JSON": as_list,
    "bare JSON in a fence": lambda calls: f"```json\n{as_list(calls)}\n```",
}
