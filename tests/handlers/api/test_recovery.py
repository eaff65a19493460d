"""An answer whose transport broke after text: the rest is read back once, or the caller is told that it broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from answered import Answered, ask
from caller import calling
from leaving import nobody_returns
from request_log import RequestLog
from running import RunningBridge, running_bridge

from upstream.arena import Arena, Entry, Eof, Line, Step, Turn, Until

PROMPT = "/say one two three four five"
TEXT = "one two three four five"
FIRST_DELTAS = "one two "
STOP = Line("ad", {"finishReason": "stop"})

BREAKS = ("reset_middle", "eof_middle", "cut_chunked")

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    """A site that goes on generating when a transport breaks."""
    async with Arena() as arena:
        arena.keeps_generating = True
        yield arena


def read_back(arena: Arena) -> int:
    """How often an evaluation was read back."""
    return sum(call.kind == "evaluation" for call in arena.calls)


def assert_broken_off(answer: Answered, *, stream: bool, text: str = FIRST_DELTAS) -> None:
    """Check that the caller has the text so far, and an error that says it is incomplete."""
    assert answer.said == (200 if stream else 502, "upstream_error", "truncated")
    assert answer.error is not None
    message = "LMArena's answer broke off before its end. The part of the answer that came is incomplete."
    assert answer.error["message"] == (f"{message} You can retry your request." if stream else message)
    assert answer.text == (text if stream else "")


def assert_unharmed(bridge: RunningBridge, *, remembered: int = 0) -> None:
    """No account is blamed, and nothing is held."""
    assert len(bridge.state.pool.usable("chat")) == len(bridge.state.pool)
    assert len(bridge.relay._conversations) == remembered
    assert bridge.calls_held == 0


# The rest is available


@streamed_and_not
@pytest.mark.parametrize("fault", BREAKS)
async def test_the_rest_of_a_broken_answer_is_read_back_and_can_be_continued(
    fault: str, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm(fault)
    first = await ask(bridge, PROMPT, stream=stream)
    assert (first.is_good, first.text) == (True, TEXT)
    assert (len(arena.chats), read_back(arena)) == (1, 1)
    assert_unharmed(bridge, remembered=1)
    second = await ask(bridge, PROMPT, first.text, "/say six", stream=stream)
    assert (second.is_good, second.text, second.place) == (True, "six", "follow-up; why=known")
    assert (len(arena.evaluations), read_back(arena)) == (1, 1)


@streamed_and_not
async def test_the_rest_of_a_broken_follow_up_is_read_back(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    texts = [PROMPT]
    for _ in range(3):
        arena.faults.arm("reset_middle")
        answer = await ask(bridge, *texts, stream=stream)
        assert (answer.is_good, answer.text) == (True, TEXT)
        texts += [answer.text, PROMPT]
    assert [call.kind for call in arena.chats] == ["create", "follow-up", "follow-up"]
    assert read_back(arena) == 3


@streamed_and_not
async def test_an_answer_that_lacks_only_its_end_is_completed_by_reading_back(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("eof_middle", after=5)
    answer = await ask(bridge, PROMPT, stream=stream)
    assert (answer.is_good, answer.text) == (True, TEXT)
    assert read_back(arena) == 1


@streamed_and_not
@pytest.mark.parametrize("after", [1, 2, 3], ids=["before it", "in its middle", "behind it"])
async def test_an_answer_that_broke_at_an_emoji_is_completed(
    after: int, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.script = lambda _: [Line("a0", "an "), Line("a0", "\ud83e"), Line("a0", "\udda6 swims"), STOP]
    arena.faults.arm("eof_middle", after=after)
    answer = await ask(bridge, "hello", stream=stream)
    assert (answer.is_good, answer.text) == (True, "an 🦦 swims")


@streamed_and_not
async def test_an_answer_that_broke_in_its_first_emoji_is_completed(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.script = lambda _: [Line("a0", "\ud83e"), Line("a0", "\udda6 swims"), STOP]
    arena.faults.arm("eof_middle", after=1)
    answer = await ask(bridge, "hello", stream=stream)
    assert (answer.is_good, answer.text) == (True, "🦦 swims")


@streamed_and_not
async def test_an_answer_that_began_with_reasoning_is_completed(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("reset_middle")
    answer = await ask(bridge, f"/think {PROMPT}", stream=stream)
    assert (answer.is_good, answer.text) == (True, TEXT)


# The rest is not available


#: What the site may return for the message instead of its whole text.
OTHERWISE: dict[str, dict[str, Any]] = {
    "another text": {"content": "Something else"},
    "less than was sent": {"content": "one"},
    "no text": {"content": None},
    "pending": {"status": "pending"},
    "failed": {"status": "failed", "failureReason": "An error occurred"},
    "flagged": {"status": "flagged"},
    "the other model's": {"participantPosition": "b"},
    "another message": {"id": "0199e8a2-8a3c-7d52-9f2b-2c52a1f0c001"},
    "the user's": {"role": "user"},
}


@streamed_and_not
@pytest.mark.parametrize("changes", OTHERWISE.values(), ids=OTHERWISE)
async def test_a_text_that_does_not_continue_the_broken_answer_is_not_used(
    changes: dict[str, Any], stream: bool, arena: Arena, bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Entry.shown
    monkeypatch.setattr(Entry, "shown", lambda entry: {**shown(entry), **changes})
    arena.faults.arm("reset_middle")
    answer = await ask(bridge, PROMPT, stream=stream)
    assert_broken_off(answer, stream=stream)
    assert (len(arena.chats), read_back(arena)) == (1, 1)
    assert_unharmed(bridge)


@streamed_and_not
async def test_an_answer_that_the_site_stopped_generating_is_reported_as_broken_off(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.keeps_generating = False
    arena.faults.arm("reset_middle")
    answer = await ask(bridge, PROMPT, stream=stream)
    assert_broken_off(answer, stream=stream)
    assert (len(arena.chats), read_back(arena)) == (1, 1)
    again = await ask(bridge, PROMPT, stream=stream)
    assert (again.is_good, again.place) == (True, "new; why=first")


REFUSALS: dict[str, dict[str, Any]] = {
    "evaluation_gone": {},
    "server_error": {},
    "expired": {},
    "html": {},
    "challenge": {},
    "rate_limited": {},
    "login_redirect": {},
    "reset_before_headers": {},
    "no_headers": {},
}


@streamed_and_not
@pytest.mark.parametrize("fault", REFUSALS)
async def test_an_answer_that_cannot_be_read_back_is_reported_as_broken_off(
    fault: str, stream: bool, arena: Arena, tmp_path: Path
) -> None:
    async with running_bridge(arena, tmp_path / "state", {"upstream": {"connect_timeout": 0.5}}) as bridge:
        await bridge.logins_checked()
        arena.faults.arm("eof_middle")
        arena.faults.arm(fault, None, on="evaluation", **REFUSALS[fault])
        answer = await ask(bridge, PROMPT, stream=stream)
        assert_broken_off(answer, stream=stream)
        assert (len(arena.chats), read_back(arena)) == (1, 1)
        assert_unharmed(bridge)
        assert (await ask(bridge, PROMPT, stream=stream)).is_good


@streamed_and_not
async def test_a_broken_answer_of_a_site_of_2025_is_reported_as_broken_off(stream: bool, tmp_path: Path) -> None:
    async with Arena(era=2025) as arena, running_bridge(arena, tmp_path / "state") as bridge:
        arena.keeps_generating = True
        arena.faults.arm("reset_middle")
        answer = await ask(bridge, PROMPT, stream=stream)
        assert_broken_off(answer, stream=stream)


@streamed_and_not
async def test_recovery_can_be_switched_off(stream: bool, arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", {"upstream": {"recover": False}}) as bridge:
        arena.faults.arm("reset_middle")
        answer = await ask(bridge, PROMPT, stream=stream)
        assert_broken_off(answer, stream=stream)
        assert read_back(arena) == 0


@streamed_and_not
async def test_an_answer_that_broke_within_its_reasoning_is_not_read_back(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.script = lambda _: [Line("ag", "Let me "), Line("ag", "see"), Eof(), Line("a0", "one"), STOP]
    answer = await ask(bridge, "hello", stream=stream)
    assert_broken_off(answer, stream=stream, text="")
    assert read_back(arena) == 0


@streamed_and_not
async def test_an_answer_with_a_picture_is_not_completed_by_reading_back(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    picture = Line("a2", [{"type": "image", "image": "https://pictures.example/1.png", "mimeType": "image/png"}])
    arena.script = lambda _: [picture, Line("a0", "A cat."), STOP]
    arena.faults.arm("eof_middle", after=1)
    answer = await ask(bridge, "hello", stream=stream)
    assert_broken_off(answer, stream=stream, text="![image](https://pictures.example/1.png)\nA cat.")
    assert_unharmed(bridge)


async def test_an_answer_that_broke_before_any_text_is_requested_again(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("eof_middle", after=0)
    answer = await ask(bridge, PROMPT)
    assert (answer.is_good, answer.text) == (True, TEXT)
    assert (len(arena.chats), read_back(arena)) == (2, 0)


# The login that is used to read it back


@pytest.mark.parametrize("seconds_left", [40, 200], ids=["at its end", "near its end"])
async def test_answers_that_break_near_the_tokens_expiry_renew_the_login_once(
    seconds_left: float, arena: Arena, tmp_path: Path
) -> None:
    session = arena.sign_in()
    async with running_bridge(arena, tmp_path / "state", sessions=(session,)) as bridge:
        await bridge.logins_checked()
        begun, go_on = asyncio.Semaphore(0), asyncio.Event()

        async def script(_: Turn) -> AsyncIterator[Step]:
            yield Line("a0", "one ")
            yield Line("a0", "two")
            begun.release()
            yield Until(go_on)
            yield STOP

        arena.script = script
        arena.faults.arm("eof_middle", None, after=3)
        asking = asyncio.gather(*(ask(bridge, f"hello {number}", stream=True) for number in range(6)))
        for _ in range(6):
            await asyncio.wait_for(begun.acquire(), 10)
        now = arena.clock()
        ahead = session.expires_at - seconds_left - now
        arena.clock = lambda: now + ahead
        go_on.set()
        for answer in await asking:
            assert (answer.is_good, answer.text) == (True, "one two")
        assert (session.refreshes, session.spent_twice, session.revoked) == (1, 0, False)
        assert read_back(arena) == 6
        arena.script = None
        arena.faults.clear()
        assert (await ask(bridge, PROMPT)).is_good
    assert session.cookie_value in (tmp_path / "state" / "accounts.json").read_text()


async def test_tokens_renewed_while_reading_back_survive_a_caller_that_leaves(
    arena: Arena, tmp_path: Path, request_log: RequestLog
) -> None:
    session = arena.sign_in()
    overrides = {"stream": {"keepalive_seconds": 0.1}}
    async with running_bridge(arena, tmp_path / "state", overrides, sessions=(session,)) as bridge:
        await bridge.logins_checked()
        arena.renew_within = 10_000
        answer_now = asyncio.Event()
        arena.faults.arm("reset_middle")
        arena.faults.arm("no_headers", on="evaluation", release=answer_now)
        async with calling(bridge.origin, bridge.key) as caller:
            await caller.ask(bridge.chat(PROMPT, stream=True))
            await caller.sees(b"two ")
            await caller.sees(b": keep-alive")
            caller.vanish()
            await nobody_returns(bridge)
        assert (await request_log.line())["status"] == 499
        assert bridge.calls_held == 0
        before = session.cookie_value
        answer_now.set()
        (call,) = (call for call in arena.calls if call.kind == "evaluation")
        await call.done.wait()
        assert session.cookie_value != before
        answer = await ask(bridge, PROMPT)
        assert (answer.is_good, session.spent_twice) == (True, 0)
        assert [account.session.value for account in bridge.state.pool] == [session.cookie_value]
