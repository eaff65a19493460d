"""The site's demands on a turn (its mode, occasional battles, the time in its ids), and reading chats back."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from upstream.arena import Abort, Arena, Line

if TYPE_CHECKING:
    from tests.upstream.arena.conftest import Answer, Caller

CREATE = "/nextjs-api/stream/create-evaluation"
in_2026 = pytest.mark.parametrize("arena", [2026], indirect=True)


def failure(answer: Answer) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["error"]


async def begin(caller: Caller) -> str:
    """Create an evaluation; return its id."""
    assert (await caller.ask("hello")).status == 200
    return caller.arena.calls[-1].evaluation_id or ""


# Modes


async def test_the_allowed_modes_can_change_for_all_or_one_account(arena: Arena, caller: Caller) -> None:
    async def statuses() -> list[int]:
        return [
            (await caller.send("POST", CREATE, {**caller.create(), "mode": mode})).status
            for mode in ("direct", "direct-battle")
        ]

    assert await statuses() == ([200, 400] if arena.era == 2025 else [400, 200])
    arena.modes = frozenset({"direct", "direct-battle"})
    assert await statuses() == [200, 200]
    arena.account_modes[caller.session.user_id] = frozenset({"direct"})
    assert await statuses() == [200, 400]
    caller.session = arena.sign_in("grace@example.org")
    assert await statuses() == [200, 200]


async def test_a_call_refused_for_its_mode_uses_up_no_ids(arena: Arena, caller: Caller) -> None:
    arena.modes = frozenset({"direct"})
    body = {**caller.create(), "mode": "direct-battle"}
    refused = await caller.send("POST", CREATE, body)
    assert failure(refused) == (400, "'direct-battle' mode is not allowed when starting a new conversation")
    assert (await caller.send("POST", CREATE, {**body, "mode": "direct"})).status == 200


# Battles


@pytest.mark.parametrize(("every", "good"), [(1, 0), (3, 2)])
async def test_the_arena_demands_a_battle_periodically(arena: Arena, caller: Caller, every: int, good: int) -> None:
    arena.battle_every = every
    evaluation = await begin(caller)
    assert [(await caller.ask_more(evaluation)).status for _ in range(good)] == [200] * good
    wanted = (
        400,
        "Bad next turn request in Battles in Direct mode. DIRECT was requested, but expected a BATTLE turn",
    )
    assert failure(await caller.ask_more(evaluation)) == wanted
    arena.battle_every = 0
    assert failure(await caller.ask_more(evaluation)) == wanted
    assert failure(await caller.ask_again(evaluation)) == wanted
    assert len(arena.evaluations[evaluation].entries) == 2 * (1 + good)
    assert (await caller.ask_more(await begin(caller))).status == 200


async def test_only_follow_ups_that_began_count_towards_the_next_battle(arena: Arena, caller: Caller) -> None:
    arena.battle_every = 2
    evaluation = await begin(caller)
    arena.faults.arm("rate_limited", on="follow-up")
    assert [(await caller.ask_more(evaluation)).status for _ in range(3)] == [429, 200, 400]


# The time within ids


def moved(new_id: str, milliseconds: int) -> str:
    """A UUIDv7 with a different time."""
    return str(uuid.UUID(int=uuid.UUID(new_id).int + (milliseconds << 80)))


@in_2026
@pytest.mark.parametrize("seconds", [-301, 301])
async def test_ids_whose_time_is_far_from_the_sites_are_refused_in_2026(
    arena: Arena, caller: Caller, seconds: int
) -> None:
    names = ("id", "userMessageId", "modelAMessageId")
    body = caller.create()
    body |= {name: moved(body[name], seconds * 1000) for name in names}
    spoofed = (400, "Evaluation session ID seems spoofed, offset too big")
    assert failure(await caller.send("POST", CREATE, body)) == spoofed
    assert (await caller.send("POST", CREATE, caller.create())).status == 200
    evaluation = arena.calls[-1].evaluation_id or ""
    late = caller.follow_up(evaluation)
    late["modelAMessageId"] = moved(late["modelAMessageId"], 301_000)
    path = f"/nextjs-api/stream/post-to-evaluation/{evaluation}"
    assert failure(await caller.send("POST", path, late)) == spoofed
    arena.id_offset_seconds = 400.0
    assert (await caller.send("POST", path, late)).status == 200


@in_2026
async def test_an_old_evaluation_can_be_continued(arena: Arena, caller: Caller) -> None:
    caller.session = arena.sign_in(expires_in=86400.0)
    evaluation = await begin(caller)
    now = arena.clock()
    arena.clock = lambda: now + 7200
    assert (await caller.ask_more(evaluation)).status == 200


@pytest.mark.parametrize("arena", [2025], indirect=True)
async def test_the_time_within_ids_is_not_checked_in_2025(caller: Caller) -> None:
    body = caller.create()
    body |= {name: moved(body[name], -(10**9)) for name in ("id", "userMessageId", "modelAMessageId")}
    assert (await caller.send("POST", CREATE, body)).status == 200


# Modalities of 2026


@in_2026
@pytest.mark.parametrize(("model", "modality"), [("veo-4-edit", "video"), ("riverstone", "webdev")])
async def test_a_model_may_have_two_modalities(caller: Caller, model: str, modality: str) -> None:
    assert (await caller.send("POST", CREATE, {**caller.create(model=model), "modality": modality})).status == 200


# Chats read back


async def read(caller: Caller, evaluation: str) -> list[dict[str, Any]]:
    answer = await caller.page(f"/api/evaluation/{evaluation}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    found = json.loads(answer.body)
    assert (found["id"], caller.arena.calls[-1].kind) == (evaluation, "evaluation")
    return list(found["messages"])


@in_2026
async def test_a_chat_can_be_read_back(arena: Arena, caller: Caller) -> None:
    body = caller.create("/say one 🦦")
    await caller.send("POST", CREATE, body)
    await caller.ask_more(body["id"], "/fail")
    user, answer, _, failed = await read(caller, body["id"])
    assert user == {
        "id": body["userMessageId"],
        "role": "user",
        "content": "/say one 🦦",
        "modelId": None,
        "participantPosition": "a",
        "status": "success",
        "failureReason": None,
    }
    assert answer == {
        "id": body["modelAMessageId"],
        "role": "assistant",
        "content": "one 🦦",
        "modelId": body["modelAId"],
        "participantPosition": "a",
        "status": "success",
        "failureReason": None,
    }
    assert (failed["content"], failed["status"], failed["failureReason"]) == ("", "failed", "An error occurred")
    arena.evaluations[body["id"]].entries[-1].status = "flagged"
    assert (await read(caller, body["id"]))[-1]["status"] == "flagged"


@in_2026
@pytest.mark.parametrize("fault", ["reset_middle", "eof_middle", "cut_chunked"])
@pytest.mark.parametrize("after", [2, 99])
@pytest.mark.parametrize("keeps", [True, False])
async def test_the_answer_of_a_broken_stream_is_recorded_in_part_or_completed(
    arena: Arena, caller: Caller, fault: str, after: int, keeps: bool
) -> None:
    arena.keeps_generating = keeps
    arena.faults.arm(fault, after=after)
    try:
        await caller.ask("/count 4")
    except aiohttp.ClientError:
        assert fault != "eof_middle"
    await arena.calls[-1].done.wait()
    [evaluation] = arena.evaluations.values()
    [_, answer] = await read(caller, evaluation.id)
    if keeps:
        assert (answer["status"], answer["content"]) == ("success", "1 2 3 4 ")
        assert evaluation.messages[-1].content == "1 2 3 4 "
    else:
        assert (answer["status"], answer["content"]) == ("pending", "1 2 " if after == 2 else "1 2 3 4 ")
        assert [message.role for message in evaluation.messages] == ["user"]
    assert (await caller.ask_more(evaluation.id)).status == 200


@in_2026
async def test_an_answer_that_a_script_aborts_is_recorded_whole_if_generation_continues(
    arena: Arena, caller: Caller
) -> None:
    arena.keeps_generating = True
    arena.script = lambda _: [Line("a0", "here "), Abort(), Line("a0", "and there"), Line("ad", {})]
    with pytest.raises(aiohttp.ClientError):
        await caller.ask()
    [evaluation] = arena.evaluations.values()
    await arena.calls[-1].done.wait()
    assert (await read(caller, evaluation.id))[-1]["content"] == "here and there"


@in_2026
@pytest.mark.parametrize("fault", ["model_failed_middle", "arena_error", "finish_error", "model_failed_object"])
async def test_the_answer_of_a_failed_model_is_recorded_as_failed(arena: Arena, caller: Caller, fault: str) -> None:
    arena.keeps_generating = True
    arena.faults.arm(fault)
    await caller.ask("/count 4")
    [evaluation] = arena.evaluations.values()
    answer = (await read(caller, evaluation.id))[-1]
    assert (answer["status"], answer["content"][:4]) == ("failed", "1 2 ")
    assert answer["failureReason"] in ("An error occurred", "hasArenaError")


@in_2026
async def test_only_the_owner_may_read_a_chat(arena: Arena, caller: Caller) -> None:
    evaluation = await begin(caller)
    unknown = await caller.page(f"/api/evaluation/{caller.new_id()}")
    assert failure(unknown) == (404, "Evaluation session not found")
    assert (await caller.page(f"/api/evaluation/{evaluation}", cookie="")).status == 401
    caller.session = arena.sign_in("grace@example.org")
    status, text = failure(await caller.page(f"/api/evaluation/{evaluation}"))
    assert (status, f"does not have access to evaluation session {evaluation}" in text) == (401, True)
