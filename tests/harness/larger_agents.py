"""The coding agents that tests/clients/more_agents.sh installs, each with the settings that it needs for the bridge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from clients import MODEL, Served, installed, node
from coding_agents import AFTER, BEFORE, TASK, CodingAgent, reads_and_edits
from scripted_models import Call


def _environ(served: Served) -> Mapping[str, str]:
    return {"OPENAI_BASE_URL": served.base_url, "OPENAI_API_KEY": served.key}


def _cline(served: Served) -> list[str]:
    login = f"auth openai --apikey {served.key} --modelid {MODEL} --baseurl {served.base_url}"
    program = installed("more-agents", "node_modules/@cline/cli-linux-x64/bin/cline")
    return ["sh", "-c", f'"$0" {login} && "$0" --timeout 60 "$1"', str(program), TASK]


def _cline_calls(file: str) -> Sequence[Call]:
    edit = {"path": file, "old_text": BEFORE.strip(), "new_text": AFTER.strip()}
    return (("read_files", {"files": [{"path": file}]}), ("editor", edit))


def _continue(provider: str, served: Served) -> Mapping[str, object]:
    model = {"name": MODEL, "provider": provider, "model": MODEL, "apiBase": served.base_url, "apiKey": served.key}
    return {"continue.yaml": {"name": "Bridge", "version": "1.0.0", "schema": "v1", "models": [model]}}


def _continue_calls(file: str) -> Sequence[Call]:
    edits = [{"old_string": BEFORE.strip(), "new_string": AFTER.strip()}]
    return (("Read", {"filepath": file}), ("MultiEdit", {"file_path": file, "edits": edits}))


def _mini_calls(file: str) -> Sequence[Call]:
    edit = f"sed -i 's/hello/hello, otter/' {file}"
    return [("bash", {"command": line}) for line in (f"cat {file}", edit, "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")]


def _gptme_calls(file: str) -> Sequence[Call]:
    patch = f"<<<<<<< ORIGINAL\n{BEFORE}=======\n{AFTER}>>>>>>> UPDATED"
    return (("shell", {"command": f"cat {file}"}), ("patch", {"path": file, "patch": patch}), ("complete", {}))


MORE_AGENTS: Final = {
    "cline": CodingAgent(_cline, _cline_calls),
    **{
        f"Continue, provider {provider}": CodingAgent(
            lambda served: [
                node("agents"),
                str(installed("more-agents", "node_modules/.bin/cn")),
                f"--config={served.folder / 'continue.yaml'}",
                "--auto",
                "--print",
                TASK,
            ],
            _continue_calls,
            partial(_continue, provider),
            lambda _: {"CONTINUE_TELEMETRY_ENABLED": "0"},
        )
        for provider in ("openai", "anthropic")
    },
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
            "MSWEA_COST_TRACKING": "ignore_errors",  # LiteLLM has no price for the model
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
        reads_and_edits("read_file", "edit", "file_path", "old_string", "new_string"),
        environ=_environ,
    ),
}
