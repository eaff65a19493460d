"""The forms in which models write tool calls: how a block begins, and the function that reads it.

Models are asked for the first form, but may fall back to those that they were trained on (docs/agents.md). Bare JSON
has no marker, so `bridge.answering.tools.reading` reads it at the end of an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from typing import Final, NamedTuple, TypeAlias

from bridge.answering.tools.json_values import read_nearly, skip_spaces
from bridge.answering.tools.offered import MAX_NAME_CHARS, RawCall
from bridge.answering.tools.parts import (
    Block,
    ParameterSyntax,
    closed_by,
    read_arguments,
    read_calls_as_json,
    read_parameters,
)


class Run(NamedTuple):
    """A variable part of an opening: 1 to `most` characters of the regular expression class `chars`."""

    chars: str
    most: int


Opening: TypeAlias = tuple[str | Run, ...]

#: Reads the block whose opening is between two indexes of a text; None if it is only text.
Read: TypeAlias = Callable[[str, int, int], Block | None]


class Form(NamedTuple):
    """One form: the openings with which a block may begin, and the function that reads it."""

    name: str
    openings: tuple[Opening, ...]
    read: Read


#: What models put before the names of XML tags, if anything: a namespace, or a word between bars.
NAMESPACE: Final = r"(?:[A-Za-z][\w.-]{0,31}:|[|｜]{1,2}DSML[|｜]{1,2} ?)?"
#: The names of the tags around several calls.
WRAPPERS: Final = "(?:function_calls|tool_calls?|calls)"
_PREFIX: Final = Run(r"[\w.-]", 32)
_BAR: Final = "[|｜]"
_DSML: Final = ("<", Run(_BAR, 2), "DSML", Run(_BAR, 2))

_TOOL: Final = rf"[\w.:-]{{1,{MAX_NAME_CHARS}}}"

_BLOCK_END: Final = re.compile(r"</tool_calls?>")
_INNER: Final = re.compile(
    rf"<{NAMESPACE}(?:invoke name=|function_calls>)|<function=|<tool_call>|\[TOOL_CALLS\]|<[|｜]tool"
)
_NAME: Final = re.compile(rf"\s*(?P<name>{_TOOL})\s*")
_PAIR: Final = re.compile(r"\s*<arg_key>(?P<name>.*?)</arg_key>\s*<arg_value>", re.DOTALL)
_PAIR_END: Final = re.compile(r"</arg_value>(?=\s*(?:<arg_key>|</tool_call>|\Z))")
_ANY_PAIR_END: Final = re.compile(r"</arg_value>")


def at_line_start(text: str, at: int) -> bool:
    """Whether there is only white space before an index on its line."""
    return not text[text.rfind("\n", 0, at) + 1 : at].strip()


def _read_block(text: str, start: int, at: int) -> Block | None:
    """Read `<tool_call>` with JSON, with another form inside, or with a name and pairs of keys and values."""
    inner = skip_spaces(text, at)
    if _INNER.match(text, inner):
        return Block((), inner, wrapper=True)
    if text[inner : inner + 1] in ("{", "[", "`", "~"):
        return _extended_to_end_tag(text, read_calls_as_json(text, at, _BLOCK_END))
    name = _NAME.match(text, at)
    if name and (_PAIR.match(text, name.end()) or _BLOCK_END.match(text, name.end())):
        pairs, end, whole = read_parameters(text, name.end(), ParameterSyntax(_PAIR, _PAIR_END, _ANY_PAIR_END))
        end, closed = closed_by(text, end, _BLOCK_END)
        if whole and (closed or not text[end:].strip()):
            return Block((RawCall(name["name"], texts=tuple(pairs)),), end, closed=closed)
        return _extended_to_end_tag(text, Block((), end, "Its pairs of <arg_key> and <arg_value> cannot be read."))
    if name and text[name.end() : name.end() + 1] == "{":
        return _extended_to_end_tag(text, read_arguments(text, name["name"], name.end(), _BLOCK_END))
    if not text[inner:]:
        return Block((), inner, "It is empty.") if at_line_start(text, start) else None
    closing = _BLOCK_END.search(text, at)
    if closing is None or not at_line_start(text, start):
        return None  # prose about the tag
    return Block((), closing.end(), "It is not valid JSON with a name and arguments.", closed=True)


def _extended_to_end_tag(text: str, block: Block) -> Block:
    """Extend a block that cannot be read to its closing tag."""
    if not block.problem:
        return block
    end = _BLOCK_END.search(text, block.end)
    return block._replace(end=end.end() if end else len(text), calls=(), closed=end is not None)


def _read_wrapper(text: str, start: int, at: int) -> Block | None:
    """Read the opening tag around several blocks."""
    inner = skip_spaces(text, at)
    if text[inner : inner + 1] in ("{", "["):
        return read_calls_as_json(text, at, _WRAPPER_END)
    if _INNER.match(text, inner):
        return Block((), inner, wrapper=True)
    end = _WRAPPER_END.search(text, at)
    if end is None or not at_line_start(text, start):
        return None
    return Block((), end.end(), "It contains no call.", closed=True)


_WRAPPER_END: Final = re.compile(rf"</{NAMESPACE}{WRAPPERS}>|<[|｜]tool[_▁]calls[_▁](?:section[_▁])?end[|｜]>")

_INVOKE: Final = re.compile(rf"<{NAMESPACE}invoke\s+name\s*=\s*(?:\"(?P<name>[^\"\n]*)\"|'(?P<named>[^'\n]*)')[^>\n]*>")
_INVOKE_END: Final = re.compile(rf"</{NAMESPACE}invoke>")
_NAMED_PARAMETERS: Final = ParameterSyntax(
    re.compile(rf"\s*<{NAMESPACE}parameter\s+name\s*=\s*[\"'](?P<name>[^\"'\n]*)[\"'][^>\n]*>"),
    re.compile(
        rf"</{NAMESPACE}parameter>"
        rf"(?=\s*(?:<{NAMESPACE}parameter\s+name|</{NAMESPACE}(?:invoke|function_calls)>|\Z))"
    ),
    re.compile(rf"</{NAMESPACE}parameter>"),
)


def _read_invoke(text: str, start: int, _: int) -> Block | None:
    """Read `<invoke name="x"><parameter name="city">Paris</parameter></invoke>`."""
    opening = _INVOKE.match(text, start)
    if opening is None:
        return None
    name = opening["name"] or opening["named"] or ""
    return _block_or_text(text, start, _read_tag(text, name, opening.end(), _NAMED_PARAMETERS, _INVOKE_END))


def _block_or_text(text: str, start: int, block: Block) -> Block | None:
    """Treat a tag as text if it is inside a line, cannot be read and is not closed, since code may have such tags."""
    return None if block.problem and not block.closed and not at_line_start(text, start) else block


def _read_tag(text: str, name: str, at: int, syntax: ParameterSyntax, closer: re.Pattern[str]) -> Block:
    """Read the content of a tag that names a tool: parameters, or JSON, or free text."""
    if not syntax.opening.match(text, at):
        return read_arguments(text, name, at, closer)
    values, end, whole = read_parameters(text, at, syntax)
    end, closed = closed_by(text, end, closer)
    if whole and (closed or not text[end:].strip()):
        return Block((RawCall(name, texts=tuple(values)),), end, closed=closed)
    found = closer.search(text, end)
    return Block((), found.end() if found else len(text), "Its parameters cannot be read.", closed=found is not None)


_FUNCTION: Final = re.compile(rf"<function=\s*[\"']?(?P<name>{_TOOL})[\"']?\s*>")
_FUNCTION_END: Final = re.compile(r"</function>")
_EQUALS_PARAMETERS: Final = ParameterSyntax(
    re.compile(r"\s*+<parameter=\s*+(?P<name>[^>\s]++(?:[^\S\n]++[^>\s]++)*+)\s*+>"),
    re.compile(r"</parameter>(?=\s*(?:<parameter=|</function>|</tool_call>|\Z))"),
    re.compile(r"</parameter>"),
    trims=True,
)


def _read_function(text: str, start: int, _: int) -> Block | None:
    """Read `<function=x><parameter=city>Paris</parameter></function>`, or the same with JSON inside."""
    opening = _FUNCTION.match(text, start)
    if opening is None:
        return None
    return _block_or_text(
        text, start, _read_tag(text, opening["name"], opening.end(), _EQUALS_PARAMETERS, _FUNCTION_END)
    )


_ARGS: Final = re.compile(
    rf"\s*+(?P<name>[\w.-]{{1,{MAX_NAME_CHARS}}})\s*+(?:\[CALL_ID\]\s*+[\w-]++\s*+)?(?P<args>\[ARGS\])?\s*+(?=[{{\[])"
)


def _read_bracket(text: str, start: int, at: int) -> Block | None:
    """Read `[TOOL_CALLS][{…}]`, or `[TOOL_CALLS]x[ARGS]{…}`."""
    inner = skip_spaces(text, at)
    if text[inner : inner + 1] in ("{", "["):
        return read_calls_as_json(text, inner, None)
    named = _ARGS.match(text, at)
    if named is None:
        return Block((), len(text), "It contains no call.") if at_line_start(text, start) and not text[inner:] else None
    value = read_nearly(text, named.end())
    if value is None:
        return Block((), len(text), "Its arguments are not valid JSON.")
    return Block((RawCall(named["name"], value.value),), value.end, closed=True, mended=value.mended)


_TURN_END: Final = re.compile(r"<\|(?:eom_id|eot_id|im_end|end)\|>")


def _read_python_tag(text: str, _: int, at: int) -> Block | None:
    """Read `<|python_tag|>{…}; {…}`."""
    block = read_calls_as_json(text, at, None)
    if block.problem:
        return block._replace(end=len(text))
    return block._replace(end=closed_by(text, block.end, _TURN_END)[0])


_SECTION_CALL: Final = re.compile(
    rf"\s*+(?:function\s*+<{_BAR}tool[_▁]sep{_BAR}>)?\s*+(?P<name>[^\s<{{]{{1,{MAX_NAME_CHARS}}})\s*+"
    rf"(?:<{_BAR}tool[_▁](?:sep|call[_▁]argument[_▁]begin){_BAR}>|(?=[`{{])|\Z)"
)
_SECTION_CALL_END: Final = re.compile(rf"<{_BAR}tool[_▁]call[_▁]end{_BAR}>")
_NUMBER: Final = re.compile(r":\d+\Z")


def _read_section_call(text: str, start: int, at: int) -> Block | None:
    """Read `<|tool_call_begin|>functions.x:0<|tool_call_argument_begin|>{…}<|tool_call_end|>`, and variants of it."""
    named = _SECTION_CALL.match(text, at)
    if named is None:
        end = _SECTION_CALL_END.search(text, at)
        if end is None and not at_line_start(text, start):
            return None
        return Block((), end.end() if end else len(text), "It names no tool.", closed=end is not None)
    return read_arguments(text, _NUMBER.sub("", named["name"]), named.end(), _SECTION_CALL_END)


_CHANNEL: Final = re.compile(
    rf"(?:<\|start\|>assistant)?(?:\s*+to=(?P<first>{_TOOL}))?\s*+<\|channel\|>\s*+\w++"
    rf"(?:\s++to=(?P<second>{_TOOL}))?\s*+(?:<\|constrain\|>)?\s*+\w*+\s*+<\|message\|>"
)
_CHANNEL_END: Final = re.compile(r"<\|(?:call|end|return)\|>")


def _read_channel(text: str, start: int, at: int) -> Block | None:
    """Read `<|channel|>commentary to=functions.x <|constrain|>json<|message|>{…}<|call|>`."""
    opening = _CHANNEL.match(text, start)
    name = (opening["second"] or opening["first"]) if opening else None
    if opening is None or name is None:
        return (
            Block((), len(text), "It names no tool, or has no message.")
            if at_line_start(text, start) and len(text) > at
            else None
        )
    return read_arguments(text, name, opening.end(), _CHANNEL_END)


def _section_openings(*words: str) -> tuple[Opening, ...]:
    return tuple(
        (f"<{bar}{word.replace('_', joint)}{bar}>",) for word, bar, joint in product(words, ("|", "｜"), ("_", "▁"))
    )


FORMS: Final = (
    Form("block", (("<tool_call>",), ("<tool_calls>",)), _read_block),
    Form(
        "wrapper",
        (
            ("<function_calls>",),
            *product(("<",), (_PREFIX,), (":function_calls>", ":tool_call>", ":tool_calls>")),
            *[(*_DSML, space + word) for space in ("", " ") for word in ("function_calls>", "tool_calls>", "calls>")],
        ),
        _read_wrapper,
    ),
    Form(
        "XML",
        (("<invoke name=",), ("<", _PREFIX, ":invoke name="), (*_DSML, "invoke name="), (*_DSML, " invoke name=")),
        _read_invoke,
    ),
    Form("function tag", (("<function=",),), _read_function),
    Form("bracket marker", (("[TOOL_CALLS]",),), _read_bracket),
    Form("python tag", (("<|python_tag|>",),), _read_python_tag),
    Form("sections", _section_openings("tool_calls_section_begin", "tool_calls_begin"), _read_wrapper),
    Form("section call", _section_openings("tool_call_begin"), _read_section_call),
    Form(
        "channel",
        (
            ("<|channel|>", Run(r"\w", 20), " to="),
            ("<|start|>assistant<|channel|>", Run(r"\w", 20), " to="),
            ("<|start|>assistant to=",),
        ),
        _read_channel,
    ),
)

#: The beginning of a result, which the model made up: nothing after it is read.
RESPONSE: Final = "<tool_response"
