"""Each fault as seen on the socket: the bytes, and how the connection ends."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from upstream.arena import FAULTS, Arena, Line, Message, Turn

if TYPE_CHECKING:
    from tests.upstream.arena.conftest import Caller

CREATE = "/nextjs-api/stream/create-evaluation"
ONE, TWO, THREE = b'a0:"1 "\n', b'a0:"2 "\n', b'a0:"3 "\n'
STOP = b'ad:{"finishReason":"stop"}\n'
WHOLE, CUT, RESET, SILENT = "whole", "cut off", "reset", "silent"
SILENCE_SECONDS = 0.2
PICTURE_FAULTS = {fault for fault, row in FAULTS.items() if row.on in ("action", "put", "get")}  # uploads and storage


@dataclass(frozen=True)
class Seen:
    """What was received; `status` is 0 if there was nothing."""

    status: int
    headers: dict[str, str]
    body: bytes
    ending: str
    chunks: list[bytes] = field(default_factory=list)


async def call(caller: Caller) -> Seen:
    """Make one call on a raw socket, and read until the connection ends or is silent."""
    body = json.dumps(caller.create("/count 3")).encode()
    headers = {"host": "arena", "connection": "close", "content-length": str(len(body)), **caller.headers()}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    host, _, port = caller.arena.origin.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**26)
    writer.write(f"POST {CREATE} HTTP/1.1\r\n{head}\r\n".encode() + body)
    data, ending = b"", CUT
    try:
        while piece := await asyncio.wait_for(reader.read(2**20), SILENCE_SECONDS):
            data += piece
    except ConnectionResetError:
        ending = RESET
    except TimeoutError:
        ending = SILENT
    writer.close()
    return parse(data, ending)


def parse(data: bytes, ending: str) -> Seen:
    if not data:
        return Seen(0, {}, b"", ending)
    head, _, rest = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if "content-length" in headers:
        return Seen(
            int(status.split()[1]), headers, rest, WHOLE if len(rest) == int(headers["content-length"]) else ending
        )
    chunks: list[bytes] = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            ending = WHOLE
            break
        chunks.append(rest[:length])
        rest = rest[length + 2 :]
    return Seen(int(status.split()[1]), headers, b"".join(chunks), ending, chunks)


@dataclass(frozen=True)
class Refused:
    """A fault that replaces the answer."""

    name: str
    status: int
    text: str
    headers: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)


REFUSED = [
    Refused("challenge", 403, "<title>Just a moment...</title>", {"cf-mitigated": "challenge"}),
    *(
        Refused("challenge", status, "<title>Just a moment", {"cf-mitigated": "challenge"}, {"status": status})
        for status in (429, 503)
    ),
    Refused("blocked", 403, "<title>Attention Required!"),
    Refused("recaptcha", 403, '{"error":"recaptcha validation failed"}'),
    Refused("expired", 401, '{"error":"Unauthorized"}'),
    Refused("wrong_account", 401, "does not have access to evaluation session"),
    Refused("rate_limited", 429, "Too many requests, please try again later.", {"retry-after": "7"}),
    Refused("rate_limited", 429, "Too many", {"retry-after": "0"}, {"retry_after": "0"}),
    Refused("rate_limited", 429, "Too many", {"ratelimit-policy": "1;w=86400"}, {"retry_after": None, "image": True}),
    Refused("prompt_failed", 429, '{"error":"prompt failed"}', {"retry-after": "1200"}),
    Refused("prompt_failed", 429, '{"error":"prompt failed"}', {}, {"retry_after": None}),
    Refused("login_gate", 401, "LOGIN_GATE"),
    Refused("terms", 403, "Terms of Use"),
    Refused("rejected", 400, '{"error":"no"}', {}, {"message": "no"}),
    Refused("rejected_zod", 400, '"name":"ZodError"'),
    Refused("moderated", 422, "moderation"),
    Refused("clock_offset", 400, "seems spoofed, offset too big"),
    Refused("evaluation_gone", 404, "not found"),
    *(Refused("not_found", status, "could not be found", {}, {"status": status}) for status in (200, 404)),
    Refused("not_allowed", 405, '{"error":"Method Not Allowed"}'),
    Refused("gone", 410, '{"error":"Gone"}'),
    Refused("unsupported_media", 415, '{"error":"Unsupported Media Type"}'),
    Refused("client_error", 418, '{"error":"Not understood"}'),
    Refused("client_error", 451, '{"error":"no"}', {}, {"status": 451, "message": "no"}),
    Refused("odd_status", 205, "", {}, {"status": 205}),
    *(Refused("server_error", status, "<html", {}, {"status": status}) for status in (500, 502, 503, 504)),
    Refused("html", 200, "<html", {"content-type": "text/html; charset=utf-8"}),
    Refused("redirect", 307, "", {"location": "https://arena.ai/x"}, {"location": "https://arena.ai/x"}),
    Refused("login_redirect", 302, "", {"location": "/login?next=%2Ftext%2Fdirect"}),
]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: f"{row.name} {row.parameters or ''}")
async def test_refusing_faults_replace_the_answer(arena: Arena, caller: Caller, row: Refused) -> None:
    arena.faults.arm(row.name, **row.parameters)
    seen = await call(caller)
    assert (seen.status, seen.ending) == (row.status, WHOLE)
    assert row.text in seen.body.decode()
    assert row.headers.items() <= seen.headers.items()
    assert ("retry-after" in seen.headers) == (
        row.name in ("rate_limited", "prompt_failed") and row.parameters.get("retry_after", "") is not None
    )
    assert (arena.calls[-1].fault, arena.calls[-1].refusal) == (row.name, f"fault {row.name}")
    assert not arena.evaluations
    assert (await call(caller)).body == ONE + TWO + THREE + STOP


@dataclass(frozen=True)
class Bent:
    """A fault that changes the stream of the answer."""

    name: str
    body: bytes
    ending: str = WHOLE
    parameters: dict[str, Any] = field(default_factory=dict)


FAILED = b'a3:"An error occurred"\n'
BEAT = b'a2:[{"type":"heartbeat"}]\n'
BENT = [
    Bent("reset_before_headers", b"", RESET),
    Bent("close_before_headers", b"", CUT),
    Bent("no_headers", b"", SILENT),
    Bent("silent_start", b"", SILENT),
    Bent("silent_middle", ONE + TWO, SILENT),
    Bent("silent_middle", ONE, SILENT, {"after": 1}),
    Bent("silent_middle", ONE + TWO + THREE, SILENT, {"after": 99}),
    Bent("reset_middle", ONE + TWO, RESET),
    Bent("eof_middle", ONE + TWO),
    Bent("cut_chunked", ONE + TWO + b'a0:"half', CUT),
    Bent("model_failed_first", FAILED),
    Bent("model_failed_middle", ONE + TWO + FAILED),
    Bent("model_failed_middle", ONE + b'a3:"no"\n', WHOLE, {"after": 1, "message": "no"}),
    Bent("model_failed_object", ONE + TWO + b'a3:{"message":"An error occurred"}\n'),
    Bent("model_failed_object", b'a3:{"message":"no"}\n', WHOLE, {"after": 0, "message": "no"}),
    Bent("model_failed_json", ONE + TWO + rb'a3:"{\"error\": \"An error occurred\"}"' + b"\n"),
    Bent("arena_error", ONE + TWO + b'a0:"hasArenaError"\n'),
    Bent("arena_error", b'a0:"hasArenaError"\n', WHOLE, {"after": 0}),
    Bent("heartbeats", BEAT * 3 + ONE + TWO + THREE + STOP),
    Bent("heartbeats", BEAT + ONE + TWO + THREE + STOP, WHOLE, {"count": 1, "every": 0.001}),
    Bent("heartbeats_only", BEAT, SILENT, {"every": 60.0}),
    Bent("explained_empty", b'ae:{"message":"The model is overloaded"}\n' + STOP),
    Bent("finish_error", ONE + TWO + THREE + b'ad:{"finishReason":"error"}\n'),
    Bent("finish_missing_reason", ONE + TWO + THREE + b"ad:{}\n"),
    Bent("finish_unknown", ONE + TWO + THREE + b'ad:{"finishReason":"unknown"}\n'),
    Bent("finish_length", ONE + TWO + THREE + b'ad:{"finishReason":"length"}\n'),
    Bent("content_filter", ONE + TWO + THREE + b'ad:{"finishReason":"content-filter"}\n'),
    Bent("empty_answer", STOP),
    Bent("double_finish", ONE + TWO + THREE + STOP + STOP),
    Bent("text_after_finish", ONE + TWO + THREE + STOP + b'a0:"too late"\n'),
    Bent("broken_json", ONE + TWO + b'a0:"unfinished\n' + THREE + STOP),
    Bent("no_tag_line", ONE + TWO + b"this line has no tag\n" + THREE + STOP),
    Bent("endless_line", b'a0:"' + b"x" * 100_000, WHOLE, {"bytes": 100_000}),
    Bent("split_emoji", ONE + TWO + b'a0:"\\ud83e"\na0:"\\udda6"\n' + THREE + STOP),
    Bent("crlf", (ONE + TWO + THREE + STOP).replace(b"\n", b"\r\n")),
    Bent("data_prefix", b"".join(b"data: " + line for line in (ONE, TWO, THREE, STOP))),
    Bent("no_final_newline", ONE + TWO + THREE + STOP[:-1]),
    Bent("one_byte_writes", ONE + TWO + THREE + STOP),
    Bent("slow", ONE + TWO + THREE + STOP, WHOLE, {"delta_seconds": 0.001}),
    Bent("wrong_content_type", ONE + TWO + THREE + STOP),
    Bent("huge_header", ONE + TWO + THREE + STOP),
    Bent("encoded", ONE + TWO + THREE + STOP, WHOLE, {"coding": "identity"}),
]


@pytest.mark.parametrize("row", BENT, ids=lambda row: f"{row.name} {row.parameters or ''}")
async def test_faults_change_the_bytes_or_the_end_of_the_stream(arena: Arena, caller: Caller, row: Bent) -> None:
    arena.faults.arm(row.name, **row.parameters)
    seen = await call(caller)
    assert (seen.body, seen.ending) == (row.body, row.ending)
    assert seen.status == (0 if row.name.endswith("_headers") else 200)
    assert (arena.calls[-1].fault, arena.calls[-1].refusal) == (row.name, None)
    async with asyncio.timeout(10):
        await arena.calls[-1].done.wait()
    assert arena.calls[-1].closed.is_set() == (row.ending == SILENT)
    assert (await call(caller)).body == ONE + TWO + THREE + STOP


async def test_unknown_tags_are_between_valid_lines(arena: Arena, caller: Caller) -> None:
    arena.faults.arm("unknown_tags")
    lines = (await call(caller)).body.split(b"\n")
    assert (b"\n".join(lines[:2]) + b"\n", b"\n".join(lines[-3:])) == (ONE + TWO, THREE + STOP)
    assert {line[:2] for line in lines[2:-3]} == {b"af", b"ae", b"", b"ah", b"ak", b"zz", b"b0"}


async def test_unknown_items_are_between_valid_lines(arena: Arena, caller: Caller) -> None:
    arena.faults.arm("unknown_items")
    lines = (await caller.ask("/count 3")).lines
    assert [tag for tag, _ in lines] == ["a0", "a0", "a2", "a0", "ad"]
    assert [item["type"] for item in lines[2][1]] == ["routed_model", "webdev", "never-heard-of"]
    [evaluation] = arena.evaluations.values()
    assert evaluation.messages[-1] == Message("assistant", "1 2 3 ")


async def test_heartbeats_continue_until_the_fault_is_released(arena: Arena, caller: Caller) -> None:
    release = asyncio.Event()
    arena.faults.arm("heartbeats_only", every=0.001, release=release)
    asyncio.get_running_loop().call_later(0.02, release.set)
    seen = await call(caller)
    assert (seen.body, seen.ending) == (BEAT * seen.body.count(b"\n"), WHOLE)
    arena.faults.arm("heartbeats", count=1, release=asyncio.Event())
    seen = await call(caller)
    assert (seen.body, seen.ending) == (BEAT, SILENT)


async def test_the_fault_battle_turn_makes_an_evaluation_refuse_all_further_turns(arena: Arena, caller: Caller) -> None:
    arena.faults.arm("battle_turn")
    await caller.ask()
    evaluation = arena.calls[-1].evaluation_id or ""
    expected = (
        b'{"error":"Bad next turn request in Battles in Direct mode. DIRECT was requested, but expected a BATTLE turn"}'
    )
    refusals = [
        await caller.ask_more(evaluation),
        await caller.ask_more(evaluation),
        await caller.ask_again(evaluation),
    ]
    assert [(answer.status, answer.body) for answer in refusals] == [(400, expected)] * 3
    assert arena.calls[-3].fault == "battle_turn"
    await caller.ask()
    assert (await caller.ask_more(arena.calls[-1].evaluation_id or "")).status == 200


@pytest.mark.parametrize("arena", [2026], indirect=True)
@pytest.mark.parametrize("on", ["page", "script", "catalog", "me", "evaluation"])
@pytest.mark.parametrize(("fault", "status"), [("not_allowed", 405), ("login_redirect", 302), ("slow", 200)])
async def test_faults_apply_to_reads(arena: Arena, caller: Caller, on: str, fault: str, status: int) -> None:
    await caller.ask()
    paths = {
        "page": arena.page_path,
        "script": next(iter(arena.deployment.scripts)),
        "catalog": "/nextjs-api/model-catalog",
        "me": "/api/me",
        "evaluation": f"/api/evaluation/{arena.calls[-1].evaluation_id}",
    }
    arena.faults.arm(fault, on=on)
    answers = [await caller.page(paths[on]) for _ in range(2)]
    assert ([answer.status for answer in answers], arena.calls[-2].kind) == ([status, 200], on)
    assert (arena.calls[-2].fault, arena.faults.armed()) == (fault, ())


async def test_faults_change_the_headers_of_a_stream(arena: Arena, caller: Caller) -> None:
    arena.faults.arm("wrong_content_type", content_type="application/json")
    assert (await call(caller)).headers["content-type"] == "application/json"
    arena.faults.arm("encoded", coding="identity")
    assert (await call(caller)).headers["content-encoding"] == "identity"
    arena.faults.arm("huge_header", bytes=20_000)
    assert len((await call(caller)).headers["x-huge"]) == 20_000


async def test_the_fault_one_byte_writes_sends_single_bytes(arena: Arena, caller: Caller) -> None:
    arena.faults.arm("one_byte_writes")
    assert {len(chunk) for chunk in (await call(caller)).chunks} == {1}


@pytest.mark.parametrize("pieces", [False, True])
async def test_the_fault_rotate_cookie_sets_a_new_cookie_and_invalidates_the_old_one(
    arena: Arena, caller: Caller, pieces: bool
) -> None:
    old = caller.session.cookie_value
    arena.faults.arm("rotate_cookie", pieces=pieces)
    answer = await caller.ask()
    fresh = caller.session.cookies(pieces=pieces)
    assert fresh != {"arena-auth-prod-v1": old}
    set_cookies = [header.partition(";")[0] for header in answer.headers.getall("set-cookie")]
    assert set_cookies[: len(fresh)] == [f"{name}={value}" for name, value in fresh.items()]
    assert (await caller.ask(cookie=f"arena-auth-prod-v1={old}")).status == 401


async def test_a_silent_fault_continues_the_answer_when_released(arena: Arena, caller: Caller) -> None:
    for name in ("no_headers", "silent_start", "silent_middle"):
        release = asyncio.Event()
        release.set()
        arena.faults.arm(name, release=release)
        assert (await call(caller)).body == ONE + TWO + THREE + STOP


def test_every_fault_is_tested_and_described() -> None:
    elsewhere = {"unknown_tags", "unknown_items", "rotate_cookie", "battle_turn"} | PICTURE_FAULTS
    assert {row.name for row in REFUSED} | {row.name for row in BENT} | elsewhere == set(FAULTS)
    assert all(fault.about for fault in FAULTS.values())


# Arming


async def test_faults_apply_to_their_number_and_kind_of_calls_and_their_account(arena: Arena, caller: Caller) -> None:
    other = arena.sign_in("grace@example.org")
    arena.faults.arm("rate_limited", 2)
    arena.faults.arm("html", on="follow-up")
    arena.faults.arm("moderated", times=None, account=other.user_id)
    arena.faults.arm("challenge", on="page")
    assert [(await caller.ask()).status for _ in range(3)] == [429, 429, 200]
    caller.session = other
    assert [(await caller.ask()).status for _ in range(3)] == [422, 422, 422]
    assert [(await caller.page()).status for _ in range(2)] == [403, 200]
    assert [(armed.name, armed.times) for armed in arena.faults.armed()] == [("html", 1), ("moderated", None)]
    arena.faults.clear()
    assert arena.faults.armed() == ()
    assert (await caller.ask()).status == 200


async def test_an_invalid_call_uses_up_no_fault(arena: Arena, caller: Caller) -> None:
    arena.faults.arm("rate_limited")
    assert (await caller.ask("")).status == 400
    assert len(arena.faults.armed()) == 1


async def test_a_fault_changes_a_page(arena: Arena, caller: Caller) -> None:
    arena.faults.arm("wrong_content_type", on="page")
    page = await caller.page()
    assert (page.headers["content-type"], b"initialModels" in page.body) == ("application/octet-stream", True)


async def test_a_fault_changes_a_scripted_answer(arena: Arena, caller: Caller) -> None:
    async def script(_: Turn) -> Any:
        yield Line("a0", "one ")
        yield Line("a0", "two")

    arena.script = script
    arena.faults.arm("model_failed_middle", after=1)
    assert (await caller.ask()).lines == [("a0", "one "), ("a3", "An error occurred")]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"name": "earthquake"}, "known are challenge, blocked"),
        ({"name": "html", "on": "moon"}, "known are action, catalog, create"),
        ({"name": "html", "times": 0}, "times must be an integer"),
        ({"name": "html", "after": 2}, "html has no parameter after; it has none"),
        ({"name": "slow", "seconds": 2}, "slow has no parameter seconds; it has delta_seconds"),
        ({"name": "server_error", "status": 200}, "500 to 599"),
        ({"name": "client_error", "status": 500}, "400 to 499"),
        ({"name": "odd_status", "status": 200}, "201 to 299"),
        ({"name": "challenge", "status": 404}, "403, 429 or 503"),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_arming_an_unknown_fault_is_an_error(arena: Arena, arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        arena.faults.arm(**arguments)
    assert arena.faults.armed() == ()
