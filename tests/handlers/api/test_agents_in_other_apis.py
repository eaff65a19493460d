"""Agents through the Responses and Messages APIs: one evaluation, whatever the client changes between two turns.

The test of agents through chat completions is in test_agents.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, Final

import pytest
from running import RunningBridge

from upstream.arena import Arena, Line, Step, Turn

STEPS: Final = 12

_PARAMETERS: Final = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "lines": {"type": "number"}},
    "required": ["text"],
}
_GIVEN: Final = {"text": "é/ü", "lines": 3.0}

Json = dict[str, Any]


def acting() -> Callable[[Turn], Iterator[Step]]:
    """A script whose answers each say something and call one or two tools."""
    turns = count()

    def script(_: Turn) -> Iterator[Step]:
        turn = next(turns)
        text = f"I look at {turn}.\n\n"
        for name in ("read", "write")[: 1 + turn % 2]:
            call = {"name": name, "arguments": {**_GIVEN, "text": f"{turn} é/ü"}}
            text += f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>\n"
        yield from (Line("a0", text[at : at + 30]) for at in range(0, len(text), 30))
        yield Line("ad", {"finishReason": "stop"})

    return script


# Responses

#: What clients do to an answer's items before they send them again.
ITEM_CHANGES: Final[list[Callable[[Json], Json]]] = [
    lambda item: item,
    lambda item: {name: value for name, value in item.items() if name not in ("id", "status")},
    lambda item: {**item, "phase": "commentary", "internal": None} if item["type"] == "message" else item,
    lambda item: (
        {**item, "arguments": json.dumps(json.loads(item["arguments"]), indent=1)} if "arguments" in item else item
    ),
    lambda item: (
        {"role": "assistant", "content": item["content"][0]["text"] + "\n"} if item["type"] == "message" else item
    ),
]


async def step_of_responses(bridge: RunningBridge, history: list[Json], step: int) -> str:
    tools = [{"type": "function", "name": name, "parameters": _PARAMETERS} for name in ("read", "write")]
    body = {"model": bridge.model(), "input": history, "tools": tools, "store": False, "instructions": "Be quick."}
    async with bridge.http.post(f"{bridge.base_url}/responses", json=body, headers=bridge.headers) as answer:
        said = await answer.json()
        assert answer.status == 200, said
    calls = [item for item in said["output"] if item["type"] == "function_call"]
    assert [call["name"] for call in calls] in (["read"], ["read", "write"])
    reasoning = [{"type": "reasoning", "id": f"rs_{step}", "summary": []}] if step % 3 == 0 else []
    history += [*reasoning, *map(ITEM_CHANGES[step % len(ITEM_CHANGES)], said["output"])]
    for call in calls:
        output: object = f"result {step}"
        output = output if step % 2 else [{"type": "input_text", "text": output}]
        history.append({"type": "function_call_output", "call_id": call["call_id"], "output": output})
    return answer.headers["x-bridge-conversation"]


# Messages


def _uncached(block: Json) -> Json:
    return {name: value for name, value in block.items() if name != "cache_control"}


#: What clients do to an answer's blocks before they send them again.
BLOCK_CHANGES: Final[list[Callable[[Sequence[Json]], list[Json]]]] = [
    list,
    lambda blocks: [{**block, "cache_control": {"type": "ephemeral"}} for block in blocks],
    lambda blocks: [{"type": "thinking", "thinking": "So.", "signature": "s"}, *blocks],
    lambda blocks: [
        {**block, "input": dict(reversed(block["input"].items()))} if block["type"] == "tool_use" else block
        for block in blocks
    ],
    lambda blocks: [{**block, "text": block["text"] + " "} if block["type"] == "text" else block for block in blocks],
]


async def step_of_messages(bridge: RunningBridge, history: list[Json], step: int) -> str:
    tools = [{"name": name, "input_schema": _PARAMETERS} for name in ("read", "write")]
    system = [{"type": "text", "text": "Be quick.", "cache_control": {"type": "ephemeral"}}]
    body = {"model": bridge.model(), "max_tokens": 9000, "system": system, "messages": history, "tools": tools}
    async with bridge.http.post(f"{bridge.base_url}/messages", json=body, headers=bridge.headers) as answer:
        said = await answer.json()
        assert answer.status == 200, said
    calls = [block for block in said["content"] if block["type"] == "tool_use"]
    assert [call["name"] for call in calls] in (["read"], ["read", "write"])
    for message in history:  # clients move the `cache_control` mark with each turn
        if isinstance(message["content"], list):
            message["content"] = [_uncached(block) for block in message["content"]]
    history.append({"role": "assistant", "content": BLOCK_CHANGES[step % len(BLOCK_CHANGES)](said["content"])})
    results: list[Json] = []
    for call in calls:
        content: object = f"result {step}"
        content = content if step % 2 else [{"type": "text", "text": content}]
        results.append({"type": "tool_result", "tool_use_id": call["id"], "content": content})
    results[-1]["cache_control"] = {"type": "ephemeral"}
    history.append({"role": "user", "content": results})
    return answer.headers["x-bridge-conversation"]


@pytest.mark.parametrize("take_step", [step_of_responses, step_of_messages], ids=["responses", "messages"])
async def test_steps_of_an_agent_share_one_evaluation(take_step: Any, arena: Arena, bridge: RunningBridge) -> None:
    arena.script = acting()
    history: list[Json] = [{"role": "user", "content": "Work on it."}]
    places = [await take_step(bridge, history, step) for step in range(STEPS)]
    assert places == ["new; why=first", *["follow-up; why=known"] * (STEPS - 1)]
    assert [call.kind for call in arena.chats] == ["create", *["follow-up"] * (STEPS - 1)]
    (evaluation,) = arena.evaluations.values()
    prompts = [message.content for message in evaluation.messages if message.role == "user"]
    for step, prompt in enumerate(prompts[1:]):  # each contains only the results of the previous step
        assert prompt.count(f"result {step}\n") == 1 + step % 2
        assert prompt.count("result ") == 1 + step % 2
        assert "Work on it." not in prompt
        assert "<tools>" not in prompt
