"""The coding agents that `make test-clients` installs, each with the settings that it needs for the bridge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from clients import MODEL, Served, installed, node
from coding_agents import AFTER, BEFORE, TASK, CodingAgent, reads_and_edits
from scripted_models import Call


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


#: Those that `make test-clients` installs.
AGENTS: Final = {
    "opencode": CodingAgent(
        lambda _: [str(installed("agents", "node_modules/opencode-linux-x64/bin/opencode")), "run", TASK],
        reads_and_edits("read", "edit", "filePath", "oldString", "newString"),
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
