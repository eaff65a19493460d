"""Models that are scripts for coding agents: what they call is given, and what they see decides when they call it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from upstream.arena import Line, Raw, Step, Turn
from upstream.arena.faults import Faults

#: The name of a tool and what it is given: arguments, or a custom tool's text.
Call: TypeAlias = tuple[str, Mapping[str, Any] | str]

#: What stands in a prompt that shows a model tools.
TOOLS: Final = "<tools>"
DONE: Final = "It greets an otter now."
#: Said without tools: for titles, and for summaries of what has become too long.
SUMMARY: Final = "An otter is to be greeted."

_RESULT: Final = re.compile(r"^<tool_response ", re.MULTILINE)
_FINISH: Final = Line("ad", {"finishReason": "stop"})


@dataclass(frozen=True)
class ScriptedModel:
    """Makes one call after the other, each once the one before has been answered."""

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
    """Fails while it does the same: before its first answer, then in the middle of its second; then the site limits it.

    The counts are of what is still to come. The outages are 502 to the agent: answers that cannot be read, since the
    bridge would repeat others. A limit lasts a second, in which the bridge answers for the site.
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
    """Makes calls that bring more than a model takes. Once it reads its own summary, it edits.

    It makes all of them at once, or one after the other. Behind the last of these the site demands a battle: the bridge
    then has to show another evaluation all that has come.
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
    """Whether the model has been shown tools."""
    return any(TOOLS in message.content for message in turn.messages)


def results(turn: Turn) -> int:
    """How many results of calls the model has seen."""
    return sum(len(_RESULT.findall(message.content)) for message in turn.messages)


def _written(call: Call) -> str:
    name, given = call
    field = "input" if isinstance(given, str) else "arguments"
    return f"<tool_call>\n{json.dumps({'name': name, field: given}, indent=1)}\n</tool_call>"


def _said(text: str) -> Iterator[Line]:
    for word in re.findall(r"\s*\S+\s*", text):
        yield Line("a0", word)
    yield _FINISH
