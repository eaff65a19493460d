"""Scripted models for coding agents: they make given tool calls, depending on what they have been shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from upstream.arena import Line, Raw, Step, Turn
from upstream.arena.faults import Faults

#: The name of a tool and its input: arguments, or the text for a custom tool.
Call: TypeAlias = tuple[str, Mapping[str, Any] | str]

#: A marker in every prompt that describes tools.
TOOLS: Final = "<tools>"
DONE: Final = "It greets an otter now."
#: The answer to prompts without tools: requests for a title, or for a summary of a long conversation.
SUMMARY: Final = "An otter is to be greeted."

_RESULT: Final = re.compile(r"^<tool_response ", re.MULTILINE)
_FINISH: Final = Line("ad", {"finishReason": "stop"})


@dataclass(frozen=True)
class ScriptedModel:
    """Makes the calls one by one, each after the result of the previous one."""

    calls: Sequence[Call]

    def answers(self, turn: Turn) -> Iterator[Line]:
        """Answer a turn."""
        done = results(turn)
        if not has_tools(turn):
            yield from _said(SUMMARY)
        elif done < len(self.calls):
            yield from _said(f"I go on.\n\n{_written(self.calls[done])}")
        else:
            yield from _said(DONE)


@dataclass
class FailingModel:
    """Makes the calls of `model` but fails: before the first answer, in the middle of the second, then by rate limits.

    The counts are of failures still to come. Outages are unreadable answers, for which the agent gets a 502, since the
    bridge would retry after other failures. A rate limit lasts one second, during which the bridge itself refuses.
    """

    model: ScriptedModel
    faults: Faults
    limits: int
    outages: int = 3
    breaks: int = 1

    def answers(self, turn: Turn) -> Iterator[Step]:
        """Answer a turn, or fail."""
        answer = self.model.answers(turn)
        if has_tools(turn) and self.outages:
            self.outages -= 1
            yield Raw(b'a0:"unfinished\n')
        elif has_tools(turn) and results(turn) and self.breaks:
            self.breaks -= 1
            yield next(answer)
            yield Line("a3", "The model is tired")
        else:
            if not self.breaks and self.limits:
                self.faults.arm("rate_limited", self.limits, on="stream", retry_after="1")
                self.limits = 0
            yield from answer


@dataclass
class FullModel:
    """Makes calls whose results exceed a model's context, and edits the file once it is shown its own summary.

    It makes the calls at once, or one by one. In the second case the site refuses the follow-up after the last call, so
    that the bridge has to send the whole conversation to a new evaluation.
    """

    calls: Sequence[Call]
    edit: Call
    faults: Faults
    at_once: bool
    edited: bool = False

    def answers(self, turn: Turn) -> Iterator[Line]:
        """Answer a turn."""
        shown = "\n".join(message.content for message in turn.messages)
        if not has_tools(turn):
            yield from _said(SUMMARY)
        elif SUMMARY not in shown:
            left = self.calls[results(turn) :]
            if len(left) == 1:
                self.faults.arm("battle_turn", on="follow-up")
            yield from _said("\n".join(map(_written, left if self.at_once else left[:1])))
        elif self.edited:
            yield from _said(DONE)
        else:
            self.edited = True
            yield from _said(_written(self.edit))


def has_tools(turn: Turn) -> bool:
    """Whether the prompt describes tools."""
    return any(TOOLS in message.content for message in turn.messages)


def results(turn: Turn) -> int:
    """The number of tool results that the model has been shown."""
    return sum(len(_RESULT.findall(message.content)) for message in turn.messages)


def _written(call: Call) -> str:
    name, given = call
    field = "input" if isinstance(given, str) else "arguments"
    return f"<tool_call>\n{json.dumps({'name': name, field: given}, indent=1)}\n</tool_call>"


def _said(text: str) -> Iterator[Line]:
    for word in re.findall(r"\s*\S+\s*", text):
        yield Line("a0", word)
    yield _FINISH
