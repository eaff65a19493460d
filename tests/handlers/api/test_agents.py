"""An agent's fifty steps share one evaluation and send only what is new; a witness checks what models are shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

import pytest
from running import RunningBridge
from witness import JsonMessage, Witness, user

from upstream.arena import Arena, Line, Step

STEPS: Final = 50

_PARAMETERS: Final = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "lines": {"type": "integer"}, "more": {"type": "object"}},
    "required": ["text"],
}
TOOLS: Final = [
    {"type": "function", "function": {"name": name, "description": "Do something.", "parameters": _PARAMETERS}}
    for name in ("read", "write")
]

Json = dict[str, Any]


def _reordered(value: Any) -> Any:
    return {key: _reordered(value[key]) for key in reversed(value)} if isinstance(value, dict) else value


#: What clients do to the arguments of a call between two turns.
SPELLINGS: Final[dict[str, Callable[[str], str]]] = {
    "as they came": lambda text: text,
    "with white space": lambda text: json.dumps(json.loads(text), ensure_ascii=False, indent=2),
    "in another order": lambda text: json.dumps(_reordered(json.loads(text)), ensure_ascii=False),
    "with escapes": lambda text: text.replace("é", "\\u00e9").replace("/", "\\/"),
    "with another number": lambda text: text.replace("3.0", "3"),
}

#: What clients change in the rest of an assistant's message.
CHANGES: Final[list[Callable[[Json], Json]]] = [
    lambda message: message,
    lambda message: {**message, "content": (message["content"] or "").strip(), "refusal": None},
    lambda message: {**message, "content": [{"type": "text", "text": message["content"], "cache_control": {}}]},
    lambda message: {**message, "reasoning_content": "I must think.", "annotations": [], "status": "completed"},
    lambda message: {
        **message,
        "tool_calls": [
            {**call, "index": place, "id": call["id"][-9:]} for place, call in enumerate(message["tool_calls"])
        ],
    },
]


class CallingWitness(Witness):
    """A witness whose models write a text and call one or two tools, each time with unique texts."""

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self._turns = count()

    def _steps(self) -> Iterator[Step]:
        turn = next(self._turns)
        text = f"{self.text()} I look at it.\n\n"
        for name in ("read", "write")[: 1 + turn % 2]:
            given = {"lines": 3.0, "more": {"a/é": 1, "b": {"c": [True, None]}}, "text": f"{self.text()} é/ü"}
            text += f"<tool_call>\n{json.dumps({'name': name, 'arguments': given}, ensure_ascii=False)}\n</tool_call>\n"
        yield from (Line("a0", text[at : at + 40]) for at in range(0, len(text), 40))
        yield Line("ad", {"finishReason": "stop"})


class Agent:
    """A client that sends its whole history in each step, and re-encodes arguments of calls with `spelling`."""

    def __init__(self, bridge: RunningBridge, witness: Witness, spelling: Callable[[str], str]) -> None:
        self._bridge = bridge
        self._witness = witness
        self._spelling = spelling
        self._history: list[JsonMessage] = []  # as it is sent
        self._plain: list[JsonMessage] = []  # as the witness compares it

    async def work(self, steps: int, begin: int = 0) -> list[str]:
        """Take this many steps; return the `x-bridge-conversation` header of each answer."""
        if not self._history:
            task = user(self._witness.text("Work on it."))
            self._history, self._plain = [task], [task]
        return [await self._step(step) for step in range(begin, begin + steps)]

    async def _step(self, step: int) -> str:
        body = self._bridge.chat(messages=self._history, tools=TOOLS)
        with self._witness.expecting(self._plain):
            async with await self._bridge.post(body) as response:
                answer = await response.json()
                assert response.status == 200, answer
                place = response.headers["x-bridge-conversation"]
        message = answer["choices"][0]["message"]
        assert [call["function"]["name"] for call in message["tool_calls"]] in (["read"], ["read", "write"])
        self._add(message, step)
        return place

    def _add(self, message: Json, step: int) -> None:
        """Add an answer, changed as clients change it, and the results of its calls."""
        self._plain.append(message)
        calls = [
            {**call, "function": {**call["function"], "arguments": self._spelling(call["function"]["arguments"])}}
            for call in message["tool_calls"]
        ]
        changed = CHANGES[step % len(CHANGES)]({**message, "tool_calls": calls})
        self._history.append(changed)
        for call in changed["tool_calls"]:
            result = {"role": "tool", "tool_call_id": call["id"], "content": self._witness.text(" Done.\n")}
            self._history.append(result)
            self._plain.append(result)


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_fifty_steps_of_an_agent_share_one_evaluation(arena: Arena, bridge: RunningBridge, spelling: str) -> None:
    agent = Agent(bridge, CallingWitness(arena), SPELLINGS[spelling])
    places = await agent.work(STEPS)
    assert [call.kind for call in arena.chats] == ["create", *["follow-up"] * (STEPS - 1)]
    assert places == ["new; why=first", *["follow-up; why=known"] * (STEPS - 1)]
    (evaluation,) = arena.evaluations.values()
    prompts = [message.content for message in evaluation.messages if message.role == "user"]
    assert [prompt.count("<tools>") for prompt in prompts] == [1, *[0] * (STEPS - 1)]


async def test_a_battle_in_mid_conversation_loses_no_history(arena: Arena, bridge: RunningBridge) -> None:
    """The witness checks that the new evaluation is shown the whole history, once and in order."""
    agent = Agent(bridge, CallingWitness(arena), SPELLINGS["with white space"])
    await agent.work(25)
    arena.faults.arm("battle_turn", on="follow-up")
    places = await agent.work(25, begin=25)
    assert places == ["new; why=battle", *["follow-up; why=known"] * 24]
    expected = ["create", *["follow-up"] * 24, "follow-up", "create", *["follow-up"] * 24]
    assert [call.kind for call in arena.chats] == expected


@pytest.mark.parametrize("at_once", [8, pytest.param(20, marks=pytest.mark.slow)])
async def test_histories_of_concurrent_agents_never_mix(arena: Arena, bridge: RunningBridge, at_once: int) -> None:
    witness = CallingWitness(arena)
    spellings = list(SPELLINGS.values())
    agents = [Agent(bridge, witness, spellings[at % len(spellings)]) for at in range(at_once)]
    all_places = await asyncio.gather(*[agent.work(STEPS) for agent in agents])
    assert all_places == [["new; why=first", *["follow-up; why=known"] * (STEPS - 1)]] * at_once
    assert len(arena.evaluations) == at_once
    kinds = [call.kind for call in arena.chats]
    assert (kinds.count("create"), kinds.count("follow-up")) == (at_once, at_once * (STEPS - 1))
