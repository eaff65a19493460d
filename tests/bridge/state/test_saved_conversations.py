"""`conversations.json`: conversations survive a clean stop, but no other end."""

from __future__ import annotations

import gc

import pytest

from bridge.answering.conversations import Evaluation
from bridge.state.conversations import conversations_document, kept_conversations
from bridge.state.documents import StateFolder

EVALUATIONS = tuple(
    Evaluation(f"id-{number}", "user", "message", f"asked {number}", ("answered",)) for number in range(3)
)


async def test_conversations_survive_a_clean_stop(folder: StateFolder) -> None:
    async with kept_conversations(folder) as conversations:
        for evaluation in EVALUATIONS:
            conversations.put(evaluation)
    async with kept_conversations(folder) as conversations:
        assert tuple(conversations) == EVALUATIONS
    async with kept_conversations(folder) as conversations:
        assert tuple(conversations) == EVALUATIONS


async def test_no_conversations_are_on_disk_while_the_daemon_runs(folder: StateFolder) -> None:
    async with kept_conversations(folder) as conversations:
        conversations.put(EVALUATIONS[0])
    async with kept_conversations(folder):
        saved = await conversations_document(folder).load()
        assert (saved.clean, saved.evaluations) == (False, ())


async def test_conversations_are_dropped_after_an_unclean_end_of_the_daemon(folder: StateFolder) -> None:
    async with kept_conversations(folder) as conversations:
        conversations.put(EVALUATIONS[0])
    with pytest.raises(RuntimeError):
        async with kept_conversations(folder):
            raise RuntimeError
    async with kept_conversations(folder) as conversations:
        assert len(conversations) == 0


async def test_the_saved_state_of_a_continued_conversation_is_freed(folder: StateFolder) -> None:
    async with kept_conversations(folder) as conversations:
        conversations.put(EVALUATIONS[0])
    async with kept_conversations(folder) as conversations:
        conversations.put(EVALUATIONS[0]._replace(message_id="a later one"))
        gc.collect()
        found = [each for each in gc.get_objects() if type(each) is Evaluation and each is not EVALUATIONS[0]]
        assert [each.message_id for each in found if each.id == EVALUATIONS[0].id] == ["a later one"]
