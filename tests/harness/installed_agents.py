"""The unmodified opencode and pi, through each API, with the settings that they need for the bridge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from clients import MODEL, Served, installed, node
from coding_agents import AFTER, BEFORE, TASK, CodingAgent, reads_and_edits
from scripted_models import Call


def _opencode(package: str, served: Served) -> Mapping[str, object]:
    provider = {
        "npm": package,
        "name": "LMArena Bridge",
        "options": {"baseURL": served.base_url, "apiKey": served.key},
        "models": {MODEL: {"name": MODEL}},
    }
    settings = {"provider": {"bridge": provider}, "model": f"bridge/{MODEL}", "share": "disabled", "autoupdate": False}
    return {"work/opencode.json": settings}


def _pi(api: str, served: Served) -> Mapping[str, object]:
    settings = {"retry": {"baseDelayMs": 200}}  # instead of delays of two, four and eight seconds
    provider = {
        "baseUrl": served.origin if api == "anthropic-messages" else served.base_url,
        "api": api,
        "apiKey": served.key,
        "models": [{"id": MODEL}],
    }
    return {".pi/agent/models.json": {"providers": {"bridge": provider}}, ".pi/agent/settings.json": settings}


def _pi_calls(file: str) -> Sequence[Call]:
    edits = [{"oldText": BEFORE.strip(), "newText": AFTER.strip()}]
    return (("read", {"path": file}), ("edit", {"path": file, "edits": edits}))


#: Calls whose output exceeds a model's context together, each small enough that neither agent truncates it.
_FILLS: Final = [
    ("bash", {"command": f"head -c 29000 /dev/zero | tr '\\0' {at}", "description": "Print"}) for at in "abcd"
]

#: By API; each uses the package of the AI SDK for that API.
OPENCODE: Final = {
    api: CodingAgent(
        lambda _: [str(installed("agents", "node_modules/opencode-linux-x64/bin/opencode")), "run", TASK],
        reads_and_edits("read", "edit", "filePath", "oldString", "newString"),
        partial(_opencode, package),
        lambda _: {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_LSP_DOWNLOAD": "1"},
        fills=_FILLS,
    )
    for api, package in {
        "Chat Completions": "@ai-sdk/openai-compatible",
        "Responses": "@ai-sdk/openai",
        "Messages": "@ai-sdk/anthropic",
    }.items()
}

PI: Final = {
    api: CodingAgent(
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
        partial(_pi, word),
        limits=1,  # it retries three times within the second
        fills=_FILLS,
    )
    for api, word in {
        "Chat Completions": "openai-completions",
        "Responses": "openai-responses",
        "Messages": "anthropic-messages",
    }.items()
}
