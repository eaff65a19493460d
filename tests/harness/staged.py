"""Passes an answer in pieces through stages, and collects the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from bridge.answering.deltas import text_delta
from bridge.answering.events import AnswerEvent, ToolCalls
from bridge.answering.messages import ToolCall
from bridge.answering.stages import StageMaker, Stages
from upstream.protocol.events import ReasoningDeltas, TextDeltas


@dataclass
class StagedAnswer:
    """The output for the caller: `deltas` are texts output during the stream, `late` those output after its end."""

    stages: Stages
    deltas: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    prompts: list[str] = field(default_factory=list)
    finish: str | None = None

    @property
    def text(self) -> str:
        return "".join((*self.deltas, *self.late))

    @property
    def called(self) -> list[tuple[str, str]]:
        return [(call.name, call.arguments) for call in self.calls]

    def take(self, batch: Sequence[AnswerEvent], deltas: list[str]) -> None:
        for event in batch:
            match event:
                case TextDeltas(text=text):
                    deltas.append(text)
                case ReasoningDeltas(text=text):
                    self.reasoning += text
                case ToolCalls(calls=calls):
                    assert not self.calls
                    self.calls = calls


def run_stages(
    makers: Sequence[StageMaker], pieces: Sequence[str], *, finish: str = "stop", repairs: Sequence[str | None] = ()
) -> StagedAnswer:
    """Pass an answer through stages, each piece as one delta; `repairs` are the answers to their prompts."""
    stages = Stages(makers, repairs=len(repairs))
    told = StagedAnswer(stages)
    for piece in pieces:
        told.take(stages.feed([text_delta(piece)]), told.deltas)
        if stages.done:
            break
    told.take(stages.end(finish, complete=not stages.done), told.late)
    answers = iter(repairs)
    while (prompt := stages.prompt) is not None:
        told.prompts.append(prompt)
        told.take(stages.repaired(next(answers)), told.late)
    told.finish = stages.finish_reason(finish)
    return told


def cut_at(text: str, places: Sequence[int]) -> list[str]:
    """Split a text at these positions."""
    borders = [0, *sorted({place for place in places if 0 < place < len(text)}), len(text)]
    return [text[start:end] for start, end in pairwise(borders)]
