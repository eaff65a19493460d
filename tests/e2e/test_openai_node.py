"""The `openai` package of Node.js against the bridge, especially its strict `.stream()` helper."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from npm import install
from programs import need_program
from running import RunningBridge

from upstream.arena import Arena, Line

SOURCE = Path(__file__).parent / "node"
#: The time limit for one run of the node script, in seconds.
ASK_SECONDS = 20

Ask: TypeAlias = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The node project with its package installed, outside the checkout."""
    return install(SOURCE, tmp_path_factory.mktemp("node") / "project")


@pytest.fixture
def ask(project: Path, bridge: RunningBridge) -> Ask:
    """A function that runs `ask.mjs`: `way` is one of its ways, the other arguments are the request."""
    node = need_program("node")

    async def run(way: str, *messages: str, prefix: str = "/v1", **body: object) -> dict[str, Any]:
        request = json.dumps(bridge.chat(*messages, **body))
        environ = {**os.environ, "OPENAI_BASE_URL": bridge.origin + prefix, "OPENAI_API_KEY": bridge.key}
        process = await asyncio.create_subprocess_exec(
            node, "ask.mjs", way, request, cwd=project, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), ASK_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, err.decode()
        answer: dict[str, Any] = json.loads(out)
        return answer

    return run


async def test_the_stream_helper_assembles_a_complete_completion(ask: Ask, bridge: RunningBridge) -> None:
    answer = await ask("helper", "/say wörld 👋 and all", stream_options={"include_usage": True})
    assert answer["deltas"] == ["wörld ", "👋 ", "and ", "all"]
    completion = answer["completion"]
    [choice] = completion["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == "wörld 👋 and all"
    assert choice["finish_reason"] == "stop"
    assert completion["object"] == "chat.completion"
    assert completion["model"] == bridge.model()
    usage = completion["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


async def test_the_stream_helper_accepts_reasoning_citations_and_the_finish_reason_length(
    ask: Ask, arena: Arena
) -> None:
    arena.faults.arm("finish_length")
    answer = await ask("helper", "/think /cite /say so it is")
    [choice] = answer["completion"]["choices"]
    assert choice["message"]["content"] == "so it is"
    assert choice["finish_reason"] == "length"


async def test_the_stream_helper_rejects_a_broken_stream_with_our_code(ask: Ask, arena: Arena) -> None:
    arena.faults.arm("model_failed_middle")
    answer = await ask("helper", "/count 9")
    assert answer["error"]["name"] == "APIError"
    assert answer["error"]["code"] == "upstream_error"


async def test_a_plain_stream_has_each_delta_as_the_site_sent_it(ask: Ask, arena: Arena) -> None:
    deltas = ["line\u2028separator ", "\u0085next ", "\ud83e", "\udda6", '"quoted\\"\r\n']
    arena.script = lambda _: [*(Line("a0", delta) for delta in deltas), Line("ad", {"finishReason": "stop"})]
    answer = await ask("stream", "speak", stream_options={"include_usage": True})
    first, *middle, last, usage = answer["chunks"]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["delta"]["content"] for chunk in middle] == [*deltas[:2], "", "🦦", deltas[4]]
    assert last["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 0
    assert len({(chunk["id"], chunk["created"]) for chunk in answer["chunks"]}) == 1


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_an_answer_that_is_not_streamed_works_under_both_base_urls(ask: Ask, prefix: str) -> None:
    answer = await ask("whole", "/think /say here I am", prefix=prefix)
    message = answer["completion"]["choices"][0]["message"]
    assert message["content"] == "here I am"
    assert message["reasoning_content"]


async def test_the_models_are_listed(ask: Ask, bridge: RunningBridge) -> None:
    assert bridge.model() in (await ask("models"))["models"]


async def test_an_error_before_the_stream_has_its_own_status(ask: Ask, arena: Arena) -> None:
    arena.faults.arm("rejected", message="Model is not available")
    answer = await ask("helper", "hello")
    assert answer["error"]["name"] == "BadRequestError"
    assert (answer["error"]["status"], answer["error"]["code"]) == (400, "upstream_rejected")
    assert "Model is not available" in answer["error"]["message"]


def test_the_lock_file_names_no_registry() -> None:
    lock = (SOURCE / "package-lock.json").read_text()
    assert "resolved" not in lock
    assert "://" not in lock
