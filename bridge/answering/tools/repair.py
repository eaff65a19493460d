"""The prompts of a repair turn, which tell a model what is wrong with its answer and what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bridge.answering.chat import Tools

#: The maximum number of mistakes that are listed.
_MAX_MISTAKES: Final = 5

_CALL: Final = """\
<tool_call>
{"name": "the tool's name", "arguments": {"parameter": "value"}}
</tool_call>"""
_CUSTOM_CALL: Final = """\
<tool_call>
{"name": "the tool's name", "input": "the text"}
</tool_call>"""


def calls_prompt(tools: Tools, mistakes: Sequence[str]) -> str:
    """Ask for all calls of an answer again; without mistakes, the answer lacks a call that is required."""
    allowed = [tool for tool in tools.tools if tool.name in tools.allowed]
    kinds = {tool.kind for tool in allowed}
    names = ", ".join([tool.name for tool in allowed])
    if mistakes:
        opening = "Your last answer could not be read as tool calls, and nothing was done."
        lines = [opening, *[f"- {mistake}" for mistake in mistakes[:_MAX_MISTAKES]]]
    else:
        lines = ["Your last answer calls no tool, but a call is required."]
    count = "Write all calls again, one block for each" if tools.parallel else "Write one call, in one block"
    lines += ["", f"{count}, in exactly this form, and write nothing else:", ""]
    if "function" in kinds:
        lines.append(_CALL)
    if "custom" in kinds:
        lines.append(_CUSTOM_CALL)
    return "\n".join([*lines, "", f"You may call these tools: {names}."])


def json_prompt(mistake: str, *, has_schema: bool) -> str:
    """Ask for the JSON of an answer again."""
    wanted = "one JSON value that fits the schema given above" if has_schema else "one JSON object"
    return (
        f"Your last answer cannot be used: {mistake}\n\n"
        f"Answer again with {wanted}, and write nothing else: no explanation, no code fence."
    )
