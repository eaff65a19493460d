"""Agents that work on files, as their makers ship them, each with the settings that it needs for the bridge.

The model is a script: it reads a file by the agent's own tool, edits it by another, and says that it is done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from clients import MODEL, Ended, Served, installed, node

from upstream.arena import Line, Turn

FILE: Final = "greet.py"
BEFORE: Final = 'print("hello")\n'
AFTER: Final = 'print("hello, otter")\n'
TASK: Final = f"Read {FILE}, then edit it so that it greets an otter."
DONE: Final = "It greets an otter now."

#: The name of a tool and what it is given.
Call: TypeAlias = tuple[str, Mapping[str, Any]]

_SWITCHES: Final = {"CI": "1", "NO_COLOR": "1"}


@dataclass(frozen=True)
class CodingAgent:
    """One of them: how it is started and configured, and which calls of its tools do the task.

    `files` are written at home before it starts, by path. `calls` is given the path of the file to edit.
    """

    command: Callable[[Served], Sequence[str]]
    calls: Callable[[str], Sequence[Call]]
    files: Callable[[Served], Mapping[str, object]] = lambda _: {}
    environ: Callable[[Served], Mapping[str, str]] = lambda _: {}

    async def works(self, served: Served) -> Ended:
        """Let it do the task, with the scripted model behind the bridge."""
        work = served.folder / "work"
        work.mkdir()
        (work / FILE).write_text(BEFORE)
        for name, content in self.files(served).items():
            path = served.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        model = ScriptedModel(self.calls(str(work / FILE)))
        served.arena.script = model.answers
        environ = {**_SWITCHES, **self.environ(served)}
        return await served.run(self.command(served), environ=environ, folder=work)


@dataclass
class ScriptedModel:
    """Makes one call after the other, each once the one before has been answered; without tools it only talks."""

    calls: Sequence[Call]
    #: What it was shown: the last message of each turn.
    prompts: list[str] = field(default_factory=list)

    def answers(self, turn: Turn) -> Iterator[Line]:
        self.prompts.append(turn.prompt)
        shown = "\n".join(message.content for message in turn.messages)
        done = len(re.findall(r"^<tool_response ", shown, re.MULTILINE))
        if "<tools>" not in shown:
            text = "An otter"
        elif done < len(self.calls):
            name, arguments = self.calls[done]
            call = json.dumps({"name": name, "arguments": arguments}, indent=1)
            text = f"I go on.\n\n<tool_call>\n{call}\n</tool_call>"
        else:
            text = DONE
        for word in text.split(" "):
            yield Line("a0", f"{word} ")
        yield Line("ad", {"finishReason": "stop"})


def _read_and_edit(read: str, edit: str, path: str, old: str, new: str) -> Callable[[str], Sequence[Call]]:
    return lambda file: ((read, {path: file}), (edit, {path: file, old: BEFORE.strip(), new: AFTER.strip()}))


def _opencode(served: Served) -> Mapping[str, object]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "bridge",
        "options": {"baseURL": served.base_url, "apiKey": served.key},
        "models": {MODEL: {"name": MODEL}},
    }
    settings = {"provider": {"bridge": provider}, "model": f"bridge/{MODEL}", "share": "disabled", "autoupdate": False}
    return {"work/opencode.json": settings}


def _pi(served: Served) -> Mapping[str, object]:
    provider = {
        "baseUrl": served.base_url,
        "api": "openai-completions",
        "apiKey": served.key,
        "models": [{"id": MODEL}],
    }
    return {".pi/agent/models.json": {"providers": {"bridge": provider}}}


def _pi_calls(file: str) -> Sequence[Call]:
    edits = [{"oldText": BEFORE.strip(), "newText": AFTER.strip()}]
    return (("read", {"path": file}), ("edit", {"path": file, "edits": edits}))


AGENTS: Final = {
    "opencode": CodingAgent(
        lambda _: [str(installed("agents", "node_modules/opencode-linux-x64/bin/opencode")), "run", TASK],
        _read_and_edit("read", "edit", "filePath", "oldString", "newString"),
        _opencode,
        lambda _: {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_LSP_DOWNLOAD": "1"},
    ),
    "pi": CodingAgent(
        lambda _: [
            node("agents"), str(installed("agents", "node_modules/.bin/pi")),
            "--offline", "--provider", "bridge", "--model", MODEL, "--print", TASK,
        ],
        _pi_calls,
        _pi,
    ),
}  # fmt: skip
