"""Models that call tools by text, each in a form of its own, as the site's models do; and one that answers in JSON.

They read of their prompt what any model would: the tools that it describes, one in a line of JSON, and the schema of
the answer at its end. What is to be called is said by directives in the user's text, one in a line:

| directive | answer |
|---|---|
| `/call NAME` | a call of that tool with arguments that fit its schema |
| `/call NAME JSON` | a call with these arguments |

Several make several calls. Without one, the first tool is called that the text names, or else the first of all. A
prompt that brings results and no directive is answered with what they say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from upstream.arena.evaluations import Turn
from upstream.arena.fitting import fitting
from upstream.arena.ids import fixed_uuid
from upstream.arena.models import Model
from upstream.arena.steps import Line, Pause, Step

_Call: TypeAlias = tuple[str, Any]

_TOOLS: Final = re.compile(r"<tools>\n(.*?)\n</tools>", re.DOTALL)
_CALL: Final = re.compile(r"^[ \t]*/call[ \t]+([\w.-]+)[ \t]*(\{.*\})?[ \t]*$", re.MULTILINE)
_RESULT: Final = re.compile(r"<tool_response\b[^>]*>\n(.*?)\n</tool_response>", re.DOTALL)
_SCHEMA: Final = re.compile(r"JSON Schema below.*?\n\n(\{.*?\}|true)(?=\n|\Z)", re.DOTALL)
_WORDS: Final = re.compile(r"\s*\S+\s?|\s+")

_NONSENSE: Final = "(whatever the user wants)"


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else _dumps(value)


def _asked_for(calls: Sequence[_Call]) -> str:
    return "\n".join(
        f"<tool_call>\n{_dumps({'name': name, 'arguments': given})}\n</tool_call>" for name, given in calls
    )


def _strings(calls: Sequence[_Call]) -> str:
    return _asked_for([(name, _dumps(given)) for name, given in calls])


def _other_names(calls: Sequence[_Call]) -> str:
    return f"<tool_call>{_dumps([{'tool': name, 'parameters': given} for name, given in calls])}</tool_call>"


def _xml(calls: Sequence[_Call]) -> str:
    lines = ["<function_calls>"]
    for name, given in calls:
        lines.append(f'<invoke name="{name}">')
        lines += [f'<parameter name="{key}">{_as_text(value)}</parameter>' for key, value in given.items()]
        lines.append("</invoke>")
    return "\n".join([*lines, "</function_calls>"])


def _xml_equals(calls: Sequence[_Call]) -> str:
    lines = []
    for name, given in calls:
        lines += ["<tool_call>", f"<function={name}>"]
        lines += [f"<parameter={key}>\n{_as_text(value)}\n</parameter>" for key, value in given.items()]
        lines += ["</function>", "</tool_call>"]
    return "\n".join(lines)


def _pairs(calls: Sequence[_Call]) -> str:
    lines = []
    for name, given in calls:
        lines.append(f"<tool_call>{name}")
        for key, value in given.items():
            lines += [f"<arg_key>{key}</arg_key>", f"<arg_value>{_as_text(value)}</arg_value>"]
        lines.append("</tool_call>")
    return "\n".join(lines)


def _brackets(calls: Sequence[_Call]) -> str:
    return "".join(f"[TOOL_CALLS]{name}[ARGS]{_dumps(given)}" for name, given in calls)


def _python(calls: Sequence[_Call]) -> str:
    return "<|python_tag|>" + "; ".join(_dumps({"name": name, "parameters": given}) for name, given in calls)


def _function_tags(calls: Sequence[_Call]) -> str:
    return "\n".join(f"<function={name}>{_dumps(given)}</function>" for name, given in calls)


def _sections(calls: Sequence[_Call]) -> str:
    inner = "".join(
        f"<|tool_call_begin|>functions.{name}:{place}<|tool_call_argument_begin|>{_dumps(given)}<|tool_call_end|>"
        for place, (name, given) in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{inner}<|tool_calls_section_end|>"


def _full_width(calls: Sequence[_Call]) -> str:
    inner = "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{_dumps(given)}\n```<｜tool▁call▁end｜>"
        for name, given in calls
    )
    return f"<｜tool▁calls▁begin｜>{inner}<｜tool▁calls▁end｜>"


def _channels(calls: Sequence[_Call]) -> str:
    return "".join(
        f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{_dumps(given)}<|call|>"
        for name, given in calls
    )


def _bare(calls: Sequence[_Call]) -> str:
    return _dumps([{"name": name, "arguments": given} for name, given in calls])


def _between_prose(calls: Sequence[_Call]) -> str:
    return f"Let me look at that for you.\n\n{_asked_for(calls)}\n\nI will tell you what comes back."


class _Habit(NamedTuple):
    """How a model calls tools: in which form, whether its first try is wrong, in what deltas."""

    write: Callable[[Sequence[_Call]], str]
    first: Callable[[Sequence[_Call]], str] | None = None
    by_char: bool = False


def _wrong(calls: Sequence[_Call]) -> str:
    return "\n".join(f"<tool_call>\n{name} {_NONSENSE}\n</tool_call>" for name, _ in calls)


def _unknown(calls: Sequence[_Call]) -> str:
    return _asked_for([(f"{name}_{_NONSENSE}", given) for name, given in calls])


def _never(_: Sequence[_Call]) -> str:
    return "I would rather answer in my own words."


_HABITS: Final = {
    "tools-asked-for": _Habit(_asked_for),
    "tools-prose": _Habit(_between_prose),
    "tools-cut": _Habit(_asked_for, by_char=True),
    "tools-strings": _Habit(_strings),
    "tools-other-names": _Habit(_other_names),
    "tools-xml": _Habit(_xml),
    "tools-xml-equals": _Habit(_xml_equals),
    "tools-pairs": _Habit(_pairs),
    "tools-brackets": _Habit(_brackets),
    "tools-python": _Habit(_python),
    "tools-function-tags": _Habit(_function_tags),
    "tools-sections": _Habit(_sections),
    "tools-full-width": _Habit(_full_width),
    "tools-channels": _Habit(_channels),
    "tools-bare": _Habit(_bare),
    "tools-wrong-first": _Habit(_asked_for, _wrong),
    "tools-unknown-first": _Habit(_asked_for, _unknown),
    "tools-unknown": _Habit(_unknown),
    "tools-never": _Habit(_never),
}

#: The model that answers any schema with a value that fits.
JSON_MODEL: Final = "json-schema"


def tool_models(*names: str) -> tuple[Model, ...]:
    """These models, or all of them."""
    return tuple(
        Model(fixed_uuid(f"model {name}", 7), name, {"text": True}, organization="arena", provider="arena")
        for name in names or (*_HABITS, JSON_MODEL)
    )


def calls_tools(model: Model) -> bool:
    """Whether a model is one of these."""
    return model.public_name in _HABITS or model.public_name == JSON_MODEL


def answer(turn: Turn, *, pace: float) -> Iterator[Step]:
    """The answer of one of these models, `pace` seconds before each delta."""
    habit = _HABITS.get(turn.model.public_name)
    text = _json_answer(turn) if habit is None else _tools_answer(turn, habit)
    deltas = list(text) if habit is not None and habit.by_char else _WORDS.findall(text)
    for delta in deltas:
        if pace:
            yield Pause(pace)
        yield Line("a0", delta)
    yield Line("ad", {"finishReason": "stop"})


def _tools_answer(turn: Turn, habit: _Habit) -> str:
    tools = _tools_of(turn)
    if not tools:
        return "There is no tool that I could call."
    corrects = len(turn.messages) > 2 and _NONSENSE in turn.messages[-2].content
    prompt = turn.messages[-3].content if corrects else turn.prompt
    results = _RESULT.findall(prompt)
    behind = prompt.rpartition("</tool_response>")[2].rpartition("</tools>")[2]
    directives = _CALL.findall(behind)
    if results and not directives:
        return f"The tool said: {' '.join(results)}"
    write = habit.write if corrects or habit.first is None else habit.first
    return write([_call(name, given, tools) for name, given in directives] or [_call(_named(behind, tools), "", tools)])


def _tools_of(turn: Turn) -> dict[str, dict[str, Any]]:
    """The tools that the model was told of last, by name."""
    found = [block for message in turn.messages for block in _TOOLS.findall(message.content)]
    tools = [json.loads(line) for line in found[-1].split("\n")] if found else []
    return {tool["name"]: tool for tool in tools}


def _named(text: str, tools: dict[str, dict[str, Any]]) -> str:
    return next((name for name in tools if name in text), next(iter(tools)))


def _call(name: str, given: str, tools: dict[str, dict[str, Any]]) -> _Call:
    if given:
        return name, json.loads(given)
    tool = tools.get(name, {})
    return name, {"input": "text"} if tool.get("type") == "custom" else fitting(
        tool.get("parameters", {"type": "object"})
    )


def _json_answer(turn: Turn) -> str:
    found = [schema for message in turn.messages for schema in _SCHEMA.findall(message.content)]
    return _dumps(fitting(json.loads(found[-1]))) if found else _dumps({"answer": turn.prompt[-40:]})
