"""Agents that work on files, as their makers ship them, each with the settings that it needs for the bridge.

The model is a script: it reads a file by the agent's own tool, edits it by another, and says that it is done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from clients import MODEL, Served, installed, node

from upstream.arena import Line, Turn
from upstream.arena.faults import STREAM_KINDS

FILE: Final = "greet.py"
BEFORE: Final = 'print("hello")\n'
AFTER: Final = 'print("hello, otter")\n'
TASK: Final = f"Read {FILE}, then edit it so that it greets an otter."
DONE: Final = "It greets an otter now."

#: The name of a tool and what it is given.
Call: TypeAlias = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class CodingAgent:
    """One of them: how it is started and configured, and which calls of its tools do the task.

    `calls` is given the path of the file to edit. `files` are written before the start, by their path from home.
    """

    command: Callable[[Served], Sequence[str]]
    calls: Callable[[str], Sequence[Call]]
    files: Callable[[Served], Mapping[str, object]] = lambda _: {}
    environ: Callable[[Served], Mapping[str, str]] = lambda _: {}


async def edits_a_file(served: Served, agent: CodingAgent) -> None:
    """Let an agent do the task; each of its turns but the first is a follow-up of the one evaluation with tools."""
    work = served.folder / "work"
    work.mkdir()
    (work / FILE).write_text(BEFORE)
    for name, content in agent.files(served).items():
        path = served.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    served.arena.script = ScriptedModel(agent.calls(str(work / FILE))).answers
    environ = {"CI": "1", "NO_COLOR": "1", **agent.environ(served)}
    ended = await served.run(agent.command(served), environ=environ, folder=work)
    assert (work / FILE).read_text() == AFTER, ended.text
    assert _turns_with_tools(served) == [["create", "follow-up", "follow-up"]], ended.text


def _turns_with_tools(served: Served) -> list[list[str]]:
    """The turns of each evaluation that has shown a model tools, in order. Agents make titles in others."""
    turns: dict[str, list[str]] = {}
    for call in served.arena.calls:
        if call.kind in STREAM_KINDS and call.evaluation_id is not None:
            turns.setdefault(call.evaluation_id, []).append(call.kind)
    return [kinds for at, kinds in turns.items() if "<tools>" in served.arena.evaluations[at].messages[0].content]


@dataclass(frozen=True)
class ScriptedModel:
    """Makes one call after the other, each once the one before has been answered; without tools it only talks."""

    calls: Sequence[Call]

    def answers(self, turn: Turn) -> Iterator[Line]:
        """Answer a turn."""
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


def _environ(served: Served) -> Mapping[str, str]:
    return {"OPENAI_BASE_URL": served.base_url, "OPENAI_API_KEY": served.key}


def _opencode(served: Served) -> Mapping[str, object]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "LMArena Bridge",
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


def _cline(served: Served) -> list[str]:
    login = f"auth openai --apikey {served.key} --modelid {MODEL} --baseurl {served.base_url}"
    program = installed("more-agents", "node_modules/@cline/cli-linux-x64/bin/cline")
    return ["sh", "-c", f'"$0" {login} && "$0" --timeout 60 "$1"', str(program), TASK]


def _cline_calls(file: str) -> Sequence[Call]:
    edit = {"path": file, "old_text": BEFORE.strip(), "new_text": AFTER.strip()}
    return (("read_files", {"files": [{"path": file}]}), ("editor", edit))


def _mini_calls(file: str) -> Sequence[Call]:
    edit = f"sed -i 's/hello/hello, otter/' {file}"
    return [("bash", {"command": line}) for line in (f"cat {file}", edit, "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")]


def _gptme_calls(file: str) -> Sequence[Call]:
    patch = f"<<<<<<< ORIGINAL\n{BEFORE}=======\n{AFTER}>>>>>>> UPDATED"
    return (("shell", {"command": f"cat {file}"}), ("patch", {"path": file, "patch": patch}), ("complete", {}))


#: Those that `make test-clients` installs.
AGENTS: Final = {
    "opencode": CodingAgent(
        lambda _: [str(installed("agents", "node_modules/opencode-linux-x64/bin/opencode")), "run", TASK],
        _read_and_edit("read", "edit", "filePath", "oldString", "newString"),
        _opencode,
        lambda _: {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_LSP_DOWNLOAD": "1"},
    ),
    "pi": CodingAgent(
        lambda _: [
            node("agents"),
            str(installed("agents", "node_modules/.bin/pi")),
            "--offline",
            "--provider",
            "bridge",
            "--model",
            MODEL,
            "--print",
            TASK,
        ],
        _pi_calls,
        _pi,
    ),
}

#: Those that tests/clients/more_agents.sh installs.
MORE_AGENTS: Final = {
    "cline": CodingAgent(_cline, _cline_calls),
    "gptme": CodingAgent(
        lambda _: [
            str(installed("more-agents/gptme", "bin/gptme")),
            "--non-interactive",
            "--tool-format=tool",
            f"--model=local/{MODEL}",
            TASK,
        ],
        _gptme_calls,
        environ=_environ,
    ),
    "mini-swe-agent": CodingAgent(
        lambda _: [
            str(installed("more-agents/mini-swe-agent", "bin/mini")),
            "--yolo",
            "--exit-immediately",
            f"--model=openai/{MODEL}",
            f"--task={TASK}",
        ],
        _mini_calls,
        environ=lambda served: {
            "OPENAI_API_BASE": served.base_url,
            "OPENAI_API_KEY": served.key,
            "MSWEA_CONFIGURED": "true",
            "MSWEA_COST_TRACKING": "ignore_errors",  # LiteLLM knows no price of the model
        },
    ),
    "qwen-code": CodingAgent(
        lambda _: [
            node("agents"),
            str(installed("more-agents", "node_modules/.bin/qwen")),
            "--yolo",
            "--auth-type=openai",
            f"--model={MODEL}",
            f"--prompt={TASK}",
        ],
        _read_and_edit("read_file", "edit", "file_path", "old_string", "new_string"),
        environ=_environ,
    ),
}
