"""Unmodified coding agents against a scripted model (scripted_models.py).

The model reads a file with one of the agent's tools, edits it with another, and says that it is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from clients import FinishedProgram, Served
from scripted_models import TOOLS, Call, FailingModel, FullModel, ScriptedModel

from upstream.arena.faults import STREAM_KINDS

FILE: Final = "greet.py"
BEFORE: Final = 'print("hello")\n'
AFTER: Final = 'print("hello, otter")\n'
TASK: Final = f"Read {FILE}, then edit it so that it greets an otter."


@dataclass(frozen=True)
class CodingAgent:
    """A coding agent: how it is started and configured, and the calls of its tools that do the task.

    `calls` receives the path of the file to edit; the last call edits it. `files` are written before the start, by
    their path relative to HOME. `limits` is the number of one-second rate limits after which the agent has been
    refused three times. `fills` are calls, made at once or one by one, whose results exceed the model's context;
    `resume` restarts the agent in a conversation that it has given up as too long.
    """

    command: Callable[[Served], Sequence[str]]
    calls: Callable[[str], Sequence[Call]]
    files: Callable[[Served], Mapping[str, object]] = lambda _: {}
    environ: Callable[[Served], Mapping[str, str]] = lambda _: {}
    limits: int = 3
    fills: Sequence[Call] = ()
    fills_at_once: bool = False
    resume: Callable[[Served], Sequence[str]] | None = None


async def edits_a_file(served: Served, agent: CodingAgent) -> None:
    """Let an agent do the task; its turns with tools belong to one evaluation, as follow-ups of the first."""
    model = ScriptedModel(_prepared(served, agent))
    served.arena.script = model.answers
    ended = await _run(served, agent, agent.command)
    assert _edited(served), ended.text
    (turns,) = _turns_with_tools(served)
    assert len(turns) >= len(model.calls), ended.text
    assert turns == ["create", *["follow-up"] * (len(turns) - 1)], ended.text


async def recovers(served: Served, agent: CodingAgent) -> None:
    """Let an agent do the task while the model fails in each way in turn."""
    model = FailingModel(ScriptedModel(_prepared(served, agent)), served.arena.faults, agent.limits)
    served.arena.script = model.answers
    ended = await _run(served, agent, agent.command)
    assert _edited(served), ended.text
    assert (model.outages, model.breaks, model.limits) == (0, 0, 0), ended.text
    assert not served.arena.faults.armed(), ended.text


async def compacts(served: Served, agent: CodingAgent) -> None:
    """Let an agent read more than fits into the model's context: it summarizes its history and continues from there."""
    model = FullModel(agent.fills, _prepared(served, agent)[-1], served.arena.faults, agent.fills_at_once)
    served.arena.script = model.answers
    ended = await _run(served, agent, agent.command)
    if agent.resume is not None:
        assert not _edited(served), ended.text
        ended = await _run(served, agent, agent.resume)
    assert _edited(served), ended.text


def _prepared(served: Served, agent: CodingAgent) -> Sequence[Call]:
    """Create the files that the task needs; return the calls that do it."""
    work = served.folder / "work"
    work.mkdir()
    (work / FILE).write_text(BEFORE)
    for name, content in agent.files(served).items():
        path = served.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return agent.calls(str(work / FILE))


async def _run(served: Served, agent: CodingAgent, command: Callable[[Served], Sequence[str]]) -> FinishedProgram:
    environ = {"CI": "1", "NO_COLOR": "1", **agent.environ(served)}
    return await served.run(command(served), environ=environ, folder=served.folder / "work")


def _edited(served: Served) -> bool:
    return (served.folder / "work" / FILE).read_text() == AFTER


def _turns_with_tools(served: Served) -> list[list[str]]:
    """The turns of each evaluation with tools, in order. Agents generate titles in other evaluations, without tools."""
    turns: dict[str, list[str]] = {}
    for call in served.arena.calls:
        if call.kind in STREAM_KINDS and call.evaluation_id is not None:
            turns.setdefault(call.evaluation_id, []).append(call.kind)
    return [kinds for at, kinds in turns.items() if TOOLS in served.arena.evaluations[at].messages[0].content]


def reads_and_edits(read: str, edit: str, path: str, old: str, new: str) -> Callable[[str], Sequence[Call]]:
    """The calls of an agent with one tool for reading and one for editing, by the names of tools and parameters."""
    return lambda file: ((read, {path: file}), (edit, {path: file, old: BEFORE.strip(), new: AFTER.strip()}))
