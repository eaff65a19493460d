"""If the site demands a battle as the next turn, the chat continues in a new evaluation, unnoticed by its client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from running import RunningBridge, running_bridge
from witness import JsonMessage, Reply, Witness, ask, user

from bridge.accounts.follow_ups import REFUSALS_IN_A_ROW
from upstream.arena import Arena
from upstream.retry import BUDGET_FLOOR

FIRST, FOLLOW_UP, BATTLE = ("new", "first"), ("follow-up", "known"), ("new", "battle")


class Chat:
    """A client that sends its whole history each time."""

    def __init__(self, bridge: RunningBridge, witness: Witness, *, stream: bool) -> None:
        self.bridge = bridge
        self.witness = witness
        self.stream = stream
        self.messages: list[JsonMessage] = []

    async def say(self) -> Reply:
        self.messages.append(user(self.witness.text()))
        reply = await ask(self.bridge, self.witness, self.messages, stream=self.stream)
        assert (reply.status, reply.code) == (200, None)
        self.messages.append(reply.message)
        return reply


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def chat(bridge: RunningBridge, arena: Arena, stream: bool) -> Chat:
    return Chat(bridge, Witness(arena), stream=stream)


def kinds(arena: Arena) -> list[str]:
    return [call.kind for call in arena.chats]


async def test_a_turn_refused_for_a_battle_starts_a_new_evaluation_with_the_whole_history(
    chat: Chat, arena: Arena
) -> None:
    first = await chat.say()
    arena.faults.arm("battle_turn", on="follow-up")
    second = await chat.say()
    third = await chat.say()
    assert [first.place, second.place, third.place] == [FIRST, BATTLE, FOLLOW_UP]
    assert first.evaluation != second.evaluation == third.evaluation
    assert kinds(arena) == ["create", "follow-up", "create", "follow-up"]
    assert arena.evaluations[first.evaluation].stuck
    (account,) = chat.bridge.state.pool
    assert not account.expired
    assert not account.cooldowns


async def test_an_evaluation_stuck_in_a_battle_gets_no_further_turns(chat: Chat, arena: Arena) -> None:
    """Neither a different second turn nor a new first turn is sent to it."""
    await chat.say()
    arena.faults.arm("battle_turn", on="follow-up")
    await chat.say()
    for kept in (2, 0):
        branch = Chat(chat.bridge, chat.witness, stream=chat.stream)
        branch.messages = chat.messages[:kept]
        reply = await branch.say()
        assert reply.place[0] == "new"
    stuck = [call for call in arena.chats if call.evaluation_id == next(iter(arena.evaluations))]
    assert [call.kind for call in stuck] == ["create", "follow-up"]


@pytest.mark.parametrize("settings", [{}, {"max_attempts": 1}], ids=["by default", "with a single attempt"])
async def test_thirty_turns_are_answered_with_a_battle_at_every_third(
    settings: dict[str, object], arena: Arena, tmp_path: Path, stream: bool
) -> None:
    """An agent's chat gets thirty correct answers; each battle costs one more call and no retry."""
    arena.battle_every = 3
    async with running_bridge(arena, tmp_path / "state", {"upstream": settings}) as bridge:
        chat = Chat(bridge, Witness(arena), stream=stream)
        places = [(await chat.say()).place for _ in range(30)]
        assert bridge.relay.retries.budget.balance >= BUDGET_FLOOR, "corrections cost no retry"
    lives = [FIRST, FOLLOW_UP, FOLLOW_UP] + [BATTLE, FOLLOW_UP, FOLLOW_UP] * 9
    assert places == lives
    assert len(arena.chats) == 39, "thirty turns, nine of them refused once"
    assert sum(call.refusal is not None for call in arena.chats) == 9
    shown = [turn.messages[-1].content for turn in chat.witness.turns]
    assert len(shown) == len(set(shown)) == 30, "no turn was shown twice"


async def test_an_account_whose_follow_ups_are_refused_in_a_row_gets_none_for_an_hour(
    bridge: RunningBridge, arena: Arena, stream: bool
) -> None:
    arena.battle_every = 1
    chat = Chat(bridge, Witness(arena), stream=stream)
    places = [(await chat.say()).place for _ in range(2 + REFUSALS_IN_A_ROW)]
    assert places == [FIRST, *[BATTLE] * REFUSALS_IN_A_ROW, ("new", "follow_ups")]
    before = len(arena.chats)
    assert (await chat.say()).place == ("new", "follow_ups")
    assert kinds(arena)[before:] == ["create"], "no follow-up is tried"


@pytest.fixture
async def never(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    async with running_bridge(arena, tmp_path / "state", {"upstream": {"follow_ups": "never"}}) as bridge:
        yield bridge


async def test_every_turn_starts_a_new_evaluation_where_follow_ups_are_off(
    never: RunningBridge, arena: Arena, stream: bool
) -> None:
    chat = Chat(never, Witness(arena), stream=stream)
    assert [(await chat.say()).place for _ in range(3)] == [FIRST, ("new", "follow_ups"), ("new", "follow_ups")]
    assert kinds(arena) == ["create"] * 3


async def test_a_repeated_request_is_regenerated_where_follow_ups_are_off(
    never: RunningBridge, arena: Arena, stream: bool
) -> None:
    chat = Chat(never, Witness(arena), stream=stream)
    await chat.say()
    chat.messages.pop()
    reply = await ask(never, chat.witness, chat.messages, stream=stream)
    assert reply.place == ("regenerate", "repeated")
