"""Valid calls: the line stream, directives, the messages of evaluations, scripts, callers that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import aiohttp
import pytest
from polling import until

from upstream.arena import Arena, Call, Eof, Evaluation, Line, Message, Pause, Raw, Step, Turn, Until
from upstream.arena.behaviour import answer

if TYPE_CHECKING:
    from tests.upstream.arena.conftest import Answer, Caller

STOP = ("ad", {"finishReason": "stop"})
CREATE = "/nextjs-api/stream/create-evaluation"


def evaluation_id(arena: Arena) -> str:
    return arena.calls[-1].evaluation_id or ""


def tags(answer: Answer) -> str:
    """The sequence of tags, without repetitions."""
    line_tags = [tag for tag, _ in answer.lines]
    return " ".join([*line_tags[:1], *(tag for before, tag in pairwise(line_tags) if tag != before)])


async def test_a_valid_call_is_answered_by_a_stream_with_the_sites_headers_and_recorded(
    arena: Arena, caller: Caller
) -> None:
    answer = await caller.ask("hello")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.headers["ratelimit"] == "limit=3000, remaining=2999, reset=300"
    assert answer.headers["ratelimit-remaining"] == "2999"
    assert answer.headers["x-request-id"]
    assert answer.lines[-1] == STOP
    assert len(answer.text.split()) > 8
    assert max(len(value) for tag, value in answer.lines if tag == "a0") < 20
    call = arena.calls[-1]
    assert (call.kind, call.method, call.path, call.status) == ("create", "POST", CREATE, 200)
    assert (call.account, call.model_id) == (caller.session.user_id, arena.model("gpt-6.1-high").id)
    assert call.lines_sent == len(answer.lines)
    assert (call.done.is_set(), call.closed.is_set()) == (True, False)


@pytest.mark.parametrize(
    ("model", "prompt", "expected"),
    [
        ("gpt-6.1-high", "hello", "a0 ad"),
        ("gpt-6.1-high", "please /think about it", "ag a0 ad"),
        ("quiet-lantern-thinking", "hello", "ag a0 ad"),
        ("gpt-6.1-high", "/cite", "a0 ac a0 ac ad"),
        ("hazel-search", "hello", "a0 ac a0 ac ad"),
        ("gpt-6.1-high", "/draw", "a2 a0 ad"),
        ("gpt-image-3", "an otter", "a2 ad"),
        ("gpt-image-3", "/draw 0", "ad"),
        ("veo-4-fast-audio", "an otter", "a0 ad"),
        ("gpt-6.1-high", "/fail", "a3"),
        ("gpt-6.1-high", "/think /fail", "ag a3"),
        ("gpt-6.1-high", "no/fail /failing </fail>", "a0 ad"),
        ("gpt-6.1-high", "User:/fail", "a3"),
    ],
)
async def test_the_model_and_the_prompt_determine_the_kinds_of_lines(
    caller: Caller, model: str, prompt: str, expected: str
) -> None:
    answer = await caller.ask(prompt, model=model)
    if caller.arena.era == 2026 and model == "gpt-image-3":
        assert answer.lines[0] == ("a2", [{"type": "heartbeat"}])
        answer = replace(answer, body=answer.body.partition(b"\n")[2])
    assert tags(answer) == expected
    assert "heartbeat" not in answer.body.decode()


@pytest.mark.parametrize(
    "text", ["yes", "two  blanks\nand \u2028 lines ", " leading", "/fail is said, not done", "👋🏽 你好"]
)
async def test_the_directive_say_is_answered_by_its_text(caller: Caller, text: str) -> None:
    assert (await caller.ask(f"Please\n/say {text}")).text == text


async def test_the_directive_count_is_answered_by_one_line_per_number(caller: Caller) -> None:
    answer = await caller.ask("/count 3")
    assert answer.lines == [("a0", "1 "), ("a0", "2 "), ("a0", "3 "), STOP]


async def test_reasoning_begins_with_an_empty_line(caller: Caller) -> None:
    assert (await caller.ask("/think")).lines[0] == ("ag", "")


async def test_citations_are_sent_in_growing_parts_as_by_the_site(caller: Caller) -> None:
    answer = await caller.ask("hello", model="hazel-search")
    values = [value for tag, value in answer.lines if tag == "ac"]
    assert {value["toolCallId"] for value in values} == {"citation-source"}
    partial, fuller, second, everything = (json.loads(value["argsTextDelta"])["source"] for value in values)
    assert set(partial) == set(second) == {"url", "id", "charLocation"}
    assert set(fuller) == {"url", "id", "charLocation", "title", "favicon", "thumbnail"}
    assert fuller["charLocation"][0] == partial["charLocation"][0]
    assert [source["url"] for source in everything] == [fuller["url"], second["url"]]
    assert fuller["charLocation"][-1] == len(answer.text)


async def test_an_image_models_picture_can_be_fetched_from_the_storage(arena: Arena, caller: Caller) -> None:
    *_, (_, [picture]), _ = (await caller.ask("an otter", model="gpt-image-3")).lines
    assert picture["image"].startswith(f"{arena.storage_origin}/generated/")
    found = await caller.fetch("GET", picture["image"])
    assert (found.status, found.headers["content-type"]) == (200, picture["mimeType"])
    assert found.body.startswith(b"\x89PNG\r\n\x1a\n")
    assert found.body == arena.storage.objects[arena.storage.calls[-1].key].data


@pytest.mark.parametrize(("prompt", "number"), [("otters", 1), ("/draw", 1), ("/draw 3 otters", 3), ("/draw 0", 0)])
async def test_an_image_model_draws_the_requested_number_of_different_pictures(
    caller: Caller, prompt: str, number: int
) -> None:
    lines = (await caller.ask(prompt, model="gpt-image-3")).lines
    pictures = [picture["image"] for tag, value in lines if tag == "a2" for picture in value if "image" in picture]
    bodies = {(await caller.fetch("GET", url)).body for url in pictures}
    assert (len(pictures), len(bodies)) == (number, number)


# The messages of evaluations


async def test_a_model_sees_every_turn_of_its_evaluation(arena: Arena, caller: Caller) -> None:
    await caller.ask("/say one 🦦")
    evaluation = evaluation_id(arena)
    echo = await caller.ask_more(evaluation, "/echo")
    shown = [("user", "/say one 🦦"), ("assistant", "one 🦦"), ("user", "/echo")]
    assert [(message["role"], message["content"]) for message in json.loads(echo.text)] == shown
    remembered = arena.evaluations[evaluation].messages
    assert [(message.role, message.content) for message in remembered] == [*shown, ("assistant", echo.text)]
    assert arena.evaluations[evaluation].owner == caller.session.user_id


async def test_regenerate_shows_the_same_messages_and_replaces_the_answer(arena: Arena, caller: Caller) -> None:
    first = await caller.ask("/echo")
    evaluation = evaluation_id(arena)
    again = await caller.ask_again(evaluation)
    assert again.text == first.text
    assert [message.role for message in arena.evaluations[evaluation].messages] == ["user", "assistant"]
    assert arena.calls[-1].kind == "regenerate"


@pytest.mark.parametrize("fault", ["eof_middle", "reset_middle", "model_failed_middle", "finish_error", "broken_json"])
async def test_a_broken_answer_is_not_added_to_its_evaluation(arena: Arena, caller: Caller, fault: str) -> None:
    await caller.ask("/say first")
    evaluation = arena.evaluations[evaluation_id(arena)]
    arena.faults.arm(fault)
    with nullcontext() if fault != "reset_middle" else pytest.raises(aiohttp.ClientError):
        await caller.ask_more(evaluation.id, "/count 9")
    await arena.calls[-1].done.wait()
    assert [message.role for message in evaluation.messages] == ["user", "assistant", "user"]
    assert not evaluation.answering


async def test_a_busy_evaluation_refuses_calls_until_its_finish_line_is_sent(arena: Arena, caller: Caller) -> None:
    finish, end = asyncio.Event(), asyncio.Event()
    arena.script = lambda _: [Line("a0", "wait"), Until(finish), Line("ad", {"finishReason": "stop"}), Until(end)]
    body = caller.create()
    url = arena.origin + CREATE
    async with caller.http.post(url, data=json.dumps(body).encode(), headers=caller.headers()) as response:
        await response.content.readline()
        for refused in (await caller.ask_more(body["id"]), await caller.ask_again(body["id"])):
            assert (refused.status, b"still answering" in refused.body) == (400, True)
        finish.set()
        await response.content.readline()
        arena.script = None
        assert (await caller.ask_more(body["id"])).status == 200
        end.set()
        assert await response.content.read() == b""


# Scripts


async def test_a_script_gets_the_turn_and_determines_the_answer(arena: Arena, caller: Caller) -> None:
    turns = []

    def script(turn: Turn) -> Iterator[Step]:
        turns.append(turn)
        yield Line("a0", turn.prompt.upper())
        yield Line("ad", {"finishReason": "length"})
        yield Eof()
        yield Line("a0", "never")

    arena.script = script
    assert (await caller.ask("hi")).lines == [("a0", "HI"), ("ad", {"finishReason": "length"})]
    [turn] = turns
    assert (turn.model, turn.evaluation) == (arena.model("gpt-6.1-high"), arena.evaluations[evaluation_id(arena)])
    assert [(message.role, message.content) for message in turn.messages] == [("user", "hi")]


async def test_a_waiting_script_does_not_delay_earlier_lines(arena: Arena, caller: Caller) -> None:
    more = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "first")
        await more.wait()
        yield Raw(b'a0:"raw"\nad:{}\n')

    arena.script = script
    async with caller.http.post(
        arena.origin + CREATE, data=json.dumps(caller.create()).encode(), headers=caller.headers()
    ) as response:
        assert await response.content.readline() == b'a0:"first"\n'
        more.set()
        assert await response.content.read() == b'a0:"raw"\nad:{}\n'


async def test_raw_steps_are_separate_writes(arena: Arena, caller: Caller) -> None:
    pieces = [b'a0:"\xe4', b"\xbd\xa0", b'"\n', b"ad:{}\n"]
    arena.script = lambda _: [Raw(piece) for piece in pieces]
    body = json.dumps(caller.create()).encode()
    async with caller.http.post(arena.origin + CREATE, data=body, headers=caller.headers()) as response:
        assert [data async for data, _ in response.content.iter_chunks() if data] == pieces
    assert arena.evaluations[evaluation_id(arena)].messages[-1].content == "你"


def test_the_pace_sets_a_pause_before_each_line(arena: Arena) -> None:
    model = arena.model("gpt-6.1-high")
    turn = Turn(model, Evaluation("", "", model), (Message("user", "/count 1"),))
    steps = list(answer(turn, pace=0.5, picture=str))
    assert steps == [Pause(0.5), Line("a0", "1 "), Pause(0.5), Line(*STOP)]


# Callers that leave


@pytest.mark.parametrize("fault", ["no_headers", "silent_start", "silent_middle"])
async def test_a_callers_disconnection_is_noticed_within_a_second(arena: Arena, caller: Caller, fault: str) -> None:
    arena.faults.arm(fault)
    request = b"\r\n".join(
        [
            f"POST {CREATE} HTTP/1.1\r\nHost: arena".encode(),
            *(f"{name}: {value}".encode() for name, value in caller.headers().items()),
            b"Content-Length: %d\r\n" % len(body := json.dumps(caller.create("/count 9")).encode()),
            body,
        ]
    )
    host, _, port = arena.origin.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    call = await received(arena)
    assert not call.closed.is_set()
    writer.close()
    async with asyncio.timeout(10):
        await call.closed.wait()
        await call.done.wait()
    assert not any(evaluation.answering for evaluation in arena.evaluations.values())


async def received(arena: Arena) -> Call:
    await until(lambda: arena.calls)
    return arena.calls[-1]


async def test_stopping_the_arena_aborts_silent_answers_and_marks_no_caller_as_gone(
    arena: Arena, caller: Caller
) -> None:
    arena.faults.arm("silent_start")
    body = json.dumps(caller.create()).encode()
    async with caller.http.post(arena.origin + CREATE, data=body, headers=caller.headers()):
        async with asyncio.timeout(10):
            await arena.stop()
    assert (arena.calls[-1].done.is_set(), arena.calls[-1].closed.is_set()) == (True, False)


async def test_a_hundred_concurrent_streams_are_answered_whole(caller: Caller) -> None:
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*(caller.ask("/count 500") for _ in range(100)))
    assert {len(answer.lines) for answer in answers} == {501}


async def test_starting_the_arena_on_a_taken_port_fails(arena: Arena) -> None:
    port = int(arena.origin.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        await Arena(port=port).start()
