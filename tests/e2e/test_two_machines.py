"""The conversation scenarios and the tables of faults, run unchanged against two machines with four processes.

Scenarios that inspect the bridge's process, or that start their own, are excluded.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import AsyncIterator
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio
from frames import frames
from machines import Machines, machines
from site_faults import BEFORE_THE_ANSWER, IN_THE_MIDDLE, PROMPT, Break, Row
from witness import Witness

from upstream.arena import Arena

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

_SPEC = spec_from_file_location("conversations", Path(__file__).parents[1] / "handlers/api/test_conversations.py")
assert _SPEC is not None
assert _SPEC.loader is not None
conversations = module_from_spec(_SPEC)
sys.modules[_SPEC.name] = conversations  # dataclasses look up their module there
_SPEC.loader.exec_module(conversations)

chat, shared, stream = conversations.chat, conversations.shared, conversations.stream
#: Requests that refill each process's retry budget: failures consume it, and each request adds to it.
CALM_REQUESTS = 12

SCENARIOS = [
    name
    for name in vars(conversations)
    if name.startswith("test_")
    and name
    not in (
        # They inspect the bridge's process or change its memory.
        "test_another_key_has_conversations_of_its_own",
        "test_a_conversation_moves_to_another_account_if_its_own_is_lost_between_turns",
        "test_a_conversation_moves_to_another_account_if_its_own_is_refused_during_a_turn",
        "test_a_passing_401_leaves_the_turn_in_its_evaluation",
        "test_an_evaluation_is_continued_once_its_account_is_usable_again",
        "test_a_conversation_continues_after_the_cooldown_of_its_only_account",
        "test_an_evaluation_that_the_site_ascribes_to_another_account_is_replaced",
        "test_an_answer_whose_caller_left_is_not_continued",
        # The first depends on one process's rotation of accounts, the second on a text that Redis does not know yet.
        "test_a_conversation_stays_with_its_account",
        "test_a_header_links_to_the_page_of_the_evaluation",
        # An evaluation that two turns ask for at the same moment may be busy, or not known yet.
        "test_a_conversation_continues_in_a_new_evaluation_while_its_first_turn_is_regenerated",
        # They start their own processes, or need a connection without TLS.
        "test_conversations_survive_a_restart",
        "test_conversations_are_not_continued_after_a_crash",
        "test_the_next_turn_follows_up_as_soon_as_the_stream_has_ended",
    )
]
globals().update({name: getattr(conversations, name) for name in SCENARIOS})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def arena() -> AsyncIterator[Arena]:
    async with Arena() as arena:
        yield arena


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Machines]:
    sessions = arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org")
    async with machines(arena, tmp_path_factory.mktemp("machines"), *sessions) as both:
        yield both


@pytest_asyncio.fixture(loop_scope="module")
async def bridge(both: Machines, arena: Arena) -> AsyncIterator[Machines]:
    """The machines with full retry budgets, and a site without data of the previous test."""
    for _ in range(CALM_REQUESTS):
        async with await both.post(both.chat("hello")) as response:
            assert response.status == 200, await response.text()
            await response.read()
    arena.evaluations.clear()
    arena.calls.clear()
    yield both
    arena.faults.clear()


@pytest.fixture
def two_accounts(bridge: Machines) -> Machines:
    return bridge


@pytest.fixture
def witness(arena: Arena) -> Witness:
    """A witness whose texts are unique among all tests, since Redis still has the conversations of earlier ones."""
    witness = Witness(arena)
    witness._numbers = count(random.randrange(10**9))
    return witness


# The tables of faults: callers get the same errors from every process.


def leaves_no_trace(row: Row) -> bool:
    """Whether the fault leaves the accounts unchanged and needs no timeouts other than those of the machines."""
    rests = row.fault == "rate_limited" and row.parameters["retry_after"] != "0"
    return row.code != "no_account" and not rests and row.patience == Row("", 0, "", "", "").patience


@pytest.mark.parametrize("row", {name: row for name, row in BEFORE_THE_ANSWER.items() if leaves_no_trace(row)}.values())
@pytest.mark.parametrize("streams", [True, False])
async def test_a_fault_before_the_answer_is_reported_as_in_the_table_of_faults(
    row: Row, streams: bool, bridge: Machines, arena: Arena
) -> None:
    for on in row.on:
        arena.faults.arm(row.fault, None, on=on, **row.parameters)
    async with await bridge.post(bridge.chat(PROMPT, stream=streams)) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["type"], error["code"]) == (row.status, row.type, row.code)
    assert answer.headers["x-bridge-reason"] == row.reason
    assert answer.headers.get("Retry-After") == row.retry_after
    assert answer.headers.get("x-should-retry") == row.should_retry
    assert row.says in error["message"]
    assert len(arena.chats) == row.calls


@pytest.mark.parametrize("row", [row for name, row in IN_THE_MIDDLE.items() if name != "silence"])
async def test_a_fault_in_the_middle_ends_the_stream_as_in_the_table_of_faults(
    row: Break, bridge: Machines, arena: Arena
) -> None:
    arena.faults.arm(row.fault, None, **row.parameters)
    async with await bridge.post(bridge.chat(PROMPT, stream=True)) as answer:
        *_, last = [json.loads(data) for data in frames(await answer.read())]
    assert (answer.status, last["error"]["code"], last["error"]["reason"]) == (200, row.code, row.reason)
    assert row.says in last["error"]["message"]
    assert len(arena.chats) == 1
