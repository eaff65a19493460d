"""The entries of requests that have ended: the request, each attempt and the outcome; they survive a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from kept_requests import kept
from running import RunningBridge, running_bridge
from tenacity import wait_none

from bridge.activity.search import Query, Searches
from upstream.arena import Arena


async def test_the_entry_of_an_answer_has_its_tokens_and_its_conversation(bridge: RunningBridge) -> None:
    chat = bridge.chat("/say hello", stream=True, seed=7)
    async with await bridge.post(chat, headers={"User-Agent": "OpenAI/JS 6.49.0"}) as answer:
        await answer.read()
        headers = answer.headers
    (entry,) = await kept(bridge)
    assert (entry.id, entry.status, entry.word) == (headers["x-request-id"], 200, "ok")
    assert (entry.api, entry.key, entry.client) == ("chat", "test", "OpenAI/JS 6.49.0")
    assert (entry.asked, entry.model) == (bridge.model(), headers["x-bridge-model"])
    assert (entry.conversation, entry.evaluation) == (
        headers["x-bridge-conversation"],
        headers["x-bridge-evaluation"],
    )
    assert entry.ignored == headers["x-bridge-ignored"]
    assert (entry.streamed, entry.messages, entry.tools) == (True, 1, 0)
    assert entry.read > 0
    assert entry.written > 0
    assert entry.first is not None
    assert 0 < entry.first <= entry.seconds
    (attempt,) = entry.attempts
    assert (attempt.account, attempt.status, attempt.word) == (entry.account, 200, "ok")
    assert attempt.began + attempt.seconds <= entry.seconds + 0.1
    assert entry.prompt is None


async def test_the_entry_has_each_attempt_with_its_account_and_upstream_status(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upstream.retry._back_off", wait_none())
    sessions = arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org")
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        arena.faults.arm("rate_limited", retry_after="30")
        arena.faults.arm("server_error", status=503)
        await bridge.post(bridge.chat("/say hello"))
        (entry,) = await kept(bridge)
        assert [(attempt.status, attempt.word) for attempt in entry.attempts] == [
            (429, "rate_limited"),
            (503, "upstream_error"),
            (200, "ok"),
        ]
        assert entry.attempts[0].account != entry.attempts[1].account == entry.account
        assert [attempt.began for attempt in entry.attempts] == sorted(attempt.began for attempt in entry.attempts)


async def test_entries_distinguish_refusals_by_the_bridge_from_upstream_failures(
    arena: Arena, bridge: RunningBridge
) -> None:
    await bridge.post(bridge.chat("hi", model="nobody"))
    await bridge.post(bridge.chat("hi"), headers={"Authorization": "Bearer nonsense"})
    arena.faults.arm("moderated")
    await bridge.post(bridge.chat("hi"))
    arena.faults.arm("model_failed_middle", after=2)
    async with await bridge.post(bridge.chat("hi", stream=True)) as answer:
        await answer.read()
    assert [
        (entry.status, entry.ending, entry.code, len(entry.attempts)) for entry in reversed(await kept(bridge))
    ] == [
        (404, "rejected@here", "model_not_found", 0),
        (401, "rejected@here", "invalid_api_key", 0),
        (400, "moderated", "content_filter", 1),
        (200, "upstream_error", "upstream_error", 1),
    ]


async def test_prompts_are_stored_with_log_debug_only(arena: Arena, tmp_path: Path) -> None:
    for debug in (False, True):
        async with running_bridge(arena, tmp_path / f"{debug}", {"log": {"debug": debug}}) as bridge:
            await bridge.post(bridge.chat("a secret of mine"))
            (entry,) = await kept(bridge)
            assert (entry.prompt is not None) == debug
            (file,) = (bridge.folder.path / "activity").iterdir()
            assert (b"a secret of mine" in file.read_bytes()) == debug


async def test_entries_of_ended_requests_survive_a_restart(arena: Arena, tmp_path: Path) -> None:
    for runs in (1, 2, 3):
        async with running_bridge(arena, tmp_path / "state") as bridge:
            await bridge.post(bridge.chat("hi"))
        assert Searches(bridge.folder).find(Query()).total == runs
