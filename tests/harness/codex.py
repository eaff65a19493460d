"""The unmodified Codex with the bridge as a custom provider, through the Responses API.

The tools that it offers, and their form, depend on the model's name, so there are three variants: a name that it does
not know, one that it knows, and one of its newest family.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from clients import ALIASES, MODEL, Served, installed
from coding_agents import AFTER, BEFORE, FILE, TASK, CodingAgent
from scripted_models import Call

_KNOWN, _NEWEST = ALIASES

_PATCH: Final = f"*** Begin Patch\n*** Update File: {FILE}\n@@\n-{BEFORE}+{AFTER}*** End Patch\n"
_READ: Final = f"cat {FILE}"
#: Calls whose output exceeds a model's context together, each small enough that Codex does not truncate it.
_FILLS: Final = tuple(("exec_command", {"cmd": f"head -c 9000 /dev/zero | tr '\\0' {at}"}) for at in "abcdefghijkl")
_FILLS_IN_CODE: Final = tuple(
    ("exec", f'// @exec: {{"max_output_tokens": 12000}}\ntext("{at}".repeat(40000))') for at in "ab"
)


def _codex(model: str, calls: Sequence[Call], fills: Sequence[Call], window: int | None = None) -> CodingAgent:
    """Codex with this model; `window` is the context size in its configuration, if it is to be configured."""

    def config(served: Served) -> Mapping[str, object]:
        lines = [
            f'model = "{model}"',
            'model_provider = "bridge"',
            *([] if window is None else [f"model_context_window = {window}"]),
            "[model_providers.bridge]",
            'name = "LMArena Bridge"',
            f'base_url = "{served.base_url}"',
            'env_key = "LMARENA_BRIDGE_KEY"',
            'wire_api = "responses"',
            "[analytics]",
            "enabled = false",  # or it waits five seconds for OpenAI's server
        ]
        return {".codex/config.toml": "\n".join(lines)}

    return CodingAgent(
        lambda _: _command(TASK),
        lambda _: calls,
        config,
        lambda served: {"LMARENA_BRIDGE_KEY": served.key},
        fills=fills,
        fills_at_once=fills is _FILLS,
        resume=None if window else lambda _: _command("resume", "--last", "Go on."),
    )


def _command(*words: str) -> Sequence[str]:
    program = "node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"
    switches = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
    return [str(installed("agents", program)), "exec", *switches, *words]


#: A tool within a namespace; its result says that there is no such agent.
_IN_A_NAMESPACE: Final = ("close_agent", {"target": "00000000-0000-0000-0000-000000000000"})

CODEX: Final = {
    "a model that it does not know": _codex(
        MODEL,
        (
            ("exec_command", {"cmd": _READ}),
            _IN_A_NAMESPACE,
            ("exec_command", {"cmd": f"apply_patch <<'EOF'\n{_PATCH}EOF"}),
        ),
        _FILLS,
    ),
    "a model that it knows": _codex(
        _KNOWN, (("exec_command", {"cmd": _READ}), ("apply_patch", _PATCH)), _FILLS, window=28_000
    ),
    "its newest family": _codex(
        _NEWEST,
        (
            ("exec", f"text((await tools.exec_command({{cmd: {json.dumps(_READ)}}})).output)"),
            ("exec", f"text(await tools.apply_patch({json.dumps(_PATCH)}))"),
        ),
        _FILLS_IN_CODE,
    ),
}
