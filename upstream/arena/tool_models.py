"""Models that write tool calls as text, each in its own form, as the site's models do; and one that answers in JSON.

They read from the prompt what any model would: the tools that it describes, one per line of JSON, and the schema of the
answer at its end. Directives in the user's text, one per line, determine the calls:

| directive | answer |
|---|---|
| `/call NAME` | a call of that tool with arguments that satisfy its schema |
| `/call NAME JSON` | a call with these arguments |

Several directives make several calls. Without any, a prompt with tool results is answered with their text; for any
other prompt, the first tool whose name is in the text is called, or else the first of all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from upstream.arena.evaluations import Turn
from upstream.arena.ids import fixed_uuid
from upstream.arena.models import Model
from upstream.arena.schema_values import value_for
from upstream.arena.steps import Line, Pause, Step, words

_Call: TypeAlias = tuple[str, Any]

_TOOLS: Final = re.compile(r"<tools>\n(.*?)\n</tools>", re.DOTALL)
_CALL: Final = re.compile(r"^[ \t]*/call[ \t]+([\w.-]+)[ \t]*(\{.*\})?[ \t]*$", re.MULTILINE)
_RESULT: Final = re.compile(r"<tool_response\b[^>]*>\n(.*?)\n</tool_response>", re.DOTALL)
_SCHEMA: Final = re.compile(r"JSON Schema below.*?\n\n(\{.*?\}|true)(?=\n|\Z)", re.DOTALL)

_NONSENSE: Final = "(whatever the user wants)"


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else _dumps(value)


def _as_instructed(calls: Sequence[_Call]) -> str:
    return "\n".join(
        f"<tool_call>\n{_dumps({'name': name, 'arguments': arguments})}\n</tool_call>" for name, arguments in calls
    )


def _strings(calls: Sequence[_Call]) -> str:
    return _as_instructed([(name, _dumps(arguments)) for name, arguments in calls])


def _other_names(calls: Sequence[_Call]) -> str:
    return f"<tool_call>{_dumps([{'tool': name, 'parameters': arguments} for name, arguments in calls])}</tool_call>"


def _xml(calls: Sequence[_Call]) -> str:
    lines = ["<function_calls>"]
    for name, arguments in calls:
        lines.append(f'<invoke name="{name}">')
        lines += [f'<parameter name="{key}">{_as_text(value)}</parameter>' for key, value in arguments.items()]
        lines.append("</invoke>")
    return "\n".join([*lines, "</function_calls>"])


def _xml_equals(calls: Sequence[_Call]) -> str:
    lines = []
    for name, arguments in calls:
        lines += ["<tool_call>", f"<function={name}>"]
        lines += [f"<parameter={key}>\n{_as_text(value)}\n</parameter>" for key, value in arguments.items()]
        lines += ["</function>", "</tool_call>"]
    return "\n".join(lines)


def _pairs(calls: Sequence[_Call]) -> str:
    lines = []
    for name, arguments in calls:
        lines.append(f"<tool_call>{name}")
        for key, value in arguments.items():
            lines += [f"<arg_key>{key}</arg_key>", f"<arg_value>{_as_text(value)}</arg_value>"]
        lines.append("</tool_call>")
    return "\n".join(lines)


def _brackets(calls: Sequence[_Call]) -> str:
    return "".join(f"[TOOL_CALLS]{name}[ARGS]{_dumps(arguments)}" for name, arguments in calls)


def _python(calls: Sequence[_Call]) -> str:
    return "<|python_tag|>" + "; ".join(_dumps({"name": name, "parameters": arguments}) for name, arguments in calls)


def _function_tags(calls: Sequence[_Call]) -> str:
    return "\n".join(f"<function={name}>{_dumps(arguments)}</function>" for name, arguments in calls)


def _sections(calls: Sequence[_Call]) -> str:
    inner = "".join(
        f"<|tool_call_begin|>functions.{name}:{place}<|tool_call_argument_begin|>{_dumps(arguments)}<|tool_call_end|>"
        for place, (name, arguments) in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{inner}<|tool_calls_section_end|>"


def _full_width(calls: Sequence[_Call]) -> str:
    inner = "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{_dumps(arguments)}\n```<｜tool▁call▁end｜>"
        for name, arguments in calls
    )
    return f"<｜tool▁calls▁begin｜>{inner}<｜tool▁calls▁end｜>"


def _channels(calls: Sequence[_Call]) -> str:
    return "".join(
        f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{_dumps(arguments)}<|call|>"
        for name, arguments in calls
    )


def _bare(calls: Sequence[_Call]) -> str:
    return _dumps([{"name": name, "arguments": arguments} for name, arguments in calls])


def _between_prose(calls: Sequence[_Call]) -> str:
    return f"Let me look at that for you.\n\n{_as_instructed(calls)}\n\nI will tell you what comes back."


class _Style(NamedTuple):
    """How a model calls tools: its form, another one for its first attempt, and whether each delta is a character."""

    write: Callable[[Sequence[_Call]], str]
    first: Callable[[Sequence[_Call]], str] | None = None
    by_char: bool = False


def _wrong(calls: Sequence[_Call]) -> str:
    return "\n".join(f"<tool_call>\n{name} {_NONSENSE}\n</tool_call>" for name, _ in calls)


def _unknown(calls: Sequence[_Call]) -> str:
    return _as_instructed([(f"{name}_{_NONSENSE}", arguments) for name, arguments in calls])


def _never(_: Sequence[_Call]) -> str:
    return "I would rather answer in my own words."


_STYLES: Final = {
    "tools-asked-for": _Style(_as_instructed),
    "tools-prose": _Style(_between_prose),
    "tools-cut": _Style(_as_instructed, by_char=True),
    "tools-strings": _Style(_strings),
    "tools-other-names": _Style(_other_names),
    "tools-xml": _Style(_xml),
    "tools-xml-equals": _Style(_xml_equals),
    "tools-pairs": _Style(_pairs),
    "tools-brackets": _Style(_brackets),
    "tools-python": _Style(_python),
    "tools-function-tags": _Style(_function_tags),
    "tools-sections": _Style(_sections),
    "tools-full-width": _Style(_full_width),
    "tools-channels": _Style(_channels),
    "tools-bare": _Style(_bare),
    "tools-wrong-first": _Style(_as_instructed, _wrong),
    "tools-unknown-first": _Style(_as_instructed, _unknown),
    "tools-unknown": _Style(_unknown),
    "tools-never": _Style(_never),
}

#: The model that answers any schema with a value that satisfies it.
JSON_MODEL: Final = "json-schema"


def tool_models(*names: str) -> tuple[Model, ...]:
    """The models with these names; all of them without any."""
    return tuple(
        Model(fixed_uuid(f"model {name}", 7), name, {"text": True}, organization="arena", provider="arena")
        for name in names or (*_STYLES, JSON_MODEL)
    )


def is_tool_model(model: Model) -> bool:
    """Whether a model is one of `tool_models`, for which `answer` makes the answer."""
    return model.public_name in _STYLES or model.public_name == JSON_MODEL


def answer(turn: Turn, *, pace: float) -> Iterator[Step]:
    """The answer of one of `tool_models`, with a pause of `pace` seconds before each delta."""
    style = _STYLES.get(turn.model.public_name)
    text = _json_answer(turn) if style is None else _tools_answer(turn, style)
    deltas = list(text) if style is not None and style.by_char else words(text)
    for delta in deltas:
        if pace:
            yield Pause(pace)
        yield Line("a0", delta)
    yield Line("ad", {"finishReason": "stop"})


def _tools_answer(turn: Turn, style: _Style) -> str:
    tools = _tools_of(turn)
    if not tools:
        return "There is no tool that I could call."
    is_correction = len(turn.messages) > 2 and _NONSENSE in turn.messages[-2].content
    prompt = turn.messages[-3].content if is_correction else turn.prompt
    results = _RESULT.findall(prompt)
    text = prompt.rpartition("</tool_response>")[2].rpartition("</tools>")[2]
    directives = _CALL.findall(text) or ([] if results else [(_named_tool(text, tools), "")])
    if not directives:
        return f"The tool said: {' '.join(results)}"
    write = style.write if is_correction or style.first is None else style.first
    return write([_call(name, arguments, tools) for name, arguments in directives])


def _tools_of(turn: Turn) -> dict[str, dict[str, Any]]:
    """The tools in the last prompt that describes any, by name."""
    found = [block for message in turn.messages for block in _TOOLS.findall(message.content)]
    tools = [json.loads(line) for line in found[-1].split("\n")] if found else []
    return {tool["name"]: tool for tool in tools}


def _named_tool(text: str, tools: dict[str, dict[str, Any]]) -> str:
    return next((name for name in tools if name in text), next(iter(tools)))


def _call(name: str, arguments: str, tools: dict[str, dict[str, Any]]) -> _Call:
    if arguments:
        return name, json.loads(arguments)
    tool = tools.get(name, {})
    if tool.get("type") == "custom":
        return name, {"input": "text"}
    return name, value_for(tool.get("parameters", {"type": "object"}))


def _json_answer(turn: Turn) -> str:
    found = [schema for message in turn.messages for schema in _SCHEMA.findall(message.content)]
    return _dumps(value_for(json.loads(found[-1]))) if found else _dumps({"answer": turn.prompt[-40:]})
