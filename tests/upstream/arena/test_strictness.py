"""The arena refuses calls in the same way as the site, and records the reason in the call."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from upstream.arena import Arena, Model

if TYPE_CHECKING:
    from tests.upstream.arena.conftest import Caller

CREATE = "/nextjs-api/stream/create-evaluation"
PICTURE = {"name": "key", "contentType": "image/png", "url": "https://storage.example/key"}

Body = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A valid call with a change, and the expected result."""

    name: str
    change: Callable[[Body], object]
    complaint: str  # a part of the answer's body
    path: tuple[str | int, ...] | None = None  # of the schema's issue; None: {"error": …}
    model: str = "gpt-6.1-high"


@dataclass(frozen=True)
class HeaderRow:
    """A valid call with other headers."""

    name: str
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


def put(*path: str, to: object) -> Callable[[Body], object]:
    """Set one nested field of the body."""

    def change(body: Body) -> None:
        for key in path[:-1]:
            body = body[key]
        body[path[-1]] = to

    return change


def drop(name: str) -> Callable[[Body], object]:
    return lambda body: body.pop(name)


def swap(one: str, other: str) -> Callable[[Body], object]:
    return lambda body: body.update({one: body[other], other: body[one]})


def attach(*attachments: object) -> Callable[[Body], object]:
    return put("userMessage", "experimental_attachments", to=list(attachments))


V4 = "9b2d7a54-0f0b-4c39-9d0c-6b0f3d1f5a11"
REFUSED = [
    Row("mode is missing", drop("mode"), "Required", ("mode",)),
    Row("an unknown mode", put("mode", to="battle"), "expected 'direct' | 'direct-battle'", ("mode",)),
    Row("a second answer is asked for", put("modelBMessageId", to=V4), "'modelBMessageId'", ()),
    Row("a field is missing", drop("modelAMessageId"), "Required", ("modelAMessageId",)),
    Row("a field is unknown", put("temperature", to=1), "'temperature'", ()),
    Row("a deep field is unknown", put("userMessage", "role", to="user"), "'role'", ("userMessage",)),
    Row("an id is a UUIDv4", put("userMessageId", to=V4), "Invalid uuid", ("userMessageId",)),
    Row("an id is in upper case", lambda body: body.update(id=body["id"].upper()[:-1] + "A"), "Invalid uuid", ("id",)),
    Row("an id is a number", put("id", to=7), "received number", ("id",)),
    Row("the message ids are swapped", swap("userMessageId", "modelAMessageId"), "later", ("modelAMessageId",)),
    Row("the evaluation is later than its message", swap("id", "userMessageId"), "later", ("userMessageId",)),
    Row("two ids are the same", lambda b: b.update(userMessageId=b["id"]), "later than id", ("userMessageId",)),
    Row("the content is no text", put("userMessage", "content", to=None), "null", ("userMessage", "content")),
    Row("the message is a text", put("userMessage", to="hello"), "Expected object", ("userMessage",)),
    Row("the attachments are no list", put("userMessage", "experimental_attachments", to={}), "Expected array",
        ("userMessage", "experimental_attachments")),
    Row("an attachment lacks its url", attach({"name": "key", "contentType": "image/png"}), "Required",
        ("userMessage", "experimental_attachments", 0, "url")),
    Row("an attachment is not a picture", attach({**PICTURE, "contentType": "text/html"}), "Unsupported",
        ("userMessage", "experimental_attachments", 0, "contentType")),
    Row("the prompt is too long", put("userMessage", "content", to="é" * 113_001), "at most 113000",
        ("userMessage", "content")),
    Row("the prompt is empty", put("userMessage", "content", to=""), "at least 1", ("userMessage", "content")),
    Row("the modality is unknown", put("modality", to="text"), "expected 'chat'", ("modality",)),
    Row("a blind model is shown a picture", attach(PICTURE), "image input", model="deepseek-v4"),
    Row("a picture of another storage", attach(PICTURE), "another storage"),
    Row("two pictures for a model of one", attach(PICTURE, PICTURE), "multiple images", model="grok-5-fast"),
]  # fmt: skip
REFUSED_2025 = [
    Row("the model is unknown", put("modelAId", to=V4), "Model not found"),
    Row("a chat model is asked to search", put("modality", to="search"), "modality search"),
    Row("a search model is asked to chat", put("modality", to="chat"), "modality chat", model="gpt-6.1-search"),
    Row("an image model is asked to chat", put("modality", to="chat"), "modality chat", model="gpt-image-3"),
    Row("a modality of 2026", put("modality", to="video"), "expected 'chat'", ("modality",)),
    Row("the mode of 2026", put("mode", to="direct-battle"), "'direct-battle' mode is not allowed"),
]
UNAVAILABLE = "Chosen Model(s) are no longer available"
REFUSED_2026 = [
    Row("a chat model is asked to search", put("modality", to="search"), UNAVAILABLE),
    Row("a search model is asked to chat", put("modality", to="chat"), UNAVAILABLE, model="gpt-6.1-search"),
    Row("an image model is asked to chat", put("modality", to="chat"), UNAVAILABLE, model="gpt-image-3"),
    Row("a chat model is asked for a video", put("modality", to="video"), UNAVAILABLE),
    Row("a model that cannot be chosen", lambda _: None, UNAVAILABLE, model="gpt-6.0"),
    Row("the mode of 2025", put("mode", to="direct"), "'direct' mode is not allowed when starting a new conversation"),
]
ACCEPTED = [
    Row("the longest prompt", put("userMessage", "content", to="é" * 113_000), ""),
    Row("a browser's token", put("recaptchaV3Token", to="03AFc…"), ""),
    Row("half an emoji", put("userMessage", "content", to="/echo \ud83e"), ""),
    Row("a video model chats", put("modality", to="chat"), "", model="veo-4-fast-audio"),
    Row("metadata", put("userMessage", "metadata", to={}), ""),
]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
async def test_an_invalid_body_is_refused(arena: Arena, caller: Caller, row: Row) -> None:
    await refuses(arena, caller, row)


@pytest.mark.parametrize("arena", [2025], indirect=True)
@pytest.mark.parametrize("row", REFUSED_2025, ids=lambda row: row.name)
async def test_a_body_that_is_invalid_in_2025_is_refused(arena: Arena, caller: Caller, row: Row) -> None:
    await refuses(arena, caller, row)


@pytest.mark.parametrize("arena", [2026], indirect=True)
@pytest.mark.parametrize("row", REFUSED_2026, ids=lambda row: row.name)
async def test_a_body_that_is_invalid_in_2026_is_refused(arena: Arena, caller: Caller, row: Row) -> None:
    await refuses(arena, caller, row)


async def refuses(arena: Arena, caller: Caller, row: Row) -> None:
    """Check that a changed call is refused with 400 and the right message."""
    body = caller.create(model=row.model)
    row.change(body)
    answer = await caller.send("POST", CREATE, body)

    assert answer.status == 400
    refusal = json.loads(answer.body)
    if row.path is None:
        assert row.complaint in refusal["error"]
    else:
        assert (refusal["success"], refusal["error"]["name"]) == (False, "ZodError")
        assert [(tuple(i["path"]), row.complaint in i["message"]) for i in refusal["error"]["issues"]] == [
            (row.path, True)
        ]
    assert arena.calls[-1].status == 400
    assert row.complaint in (arena.calls[-1].refusal or "")
    assert not arena.evaluations


@pytest.mark.parametrize("row", ACCEPTED, ids=lambda row: row.name)
async def test_an_unusual_but_valid_body_is_accepted(arena: Arena, caller: Caller, row: Row) -> None:
    body = caller.create(model=row.model)
    row.change(body)
    answer = await caller.send("POST", CREATE, body)
    assert answer.status == 200
    assert arena.calls[-1].refusal is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b'{"id": NaN}', b"[" * 100_000],
    ids=["empty", "cut", "no UTF-8", "NaN", "deep"],
)
async def test_a_body_of_invalid_json_is_refused(caller: Caller, body: bytes) -> None:
    answer = await caller.send("POST", CREATE, body)
    assert (answer.status, json.loads(answer.body)) == (400, {"error": "Invalid JSON in the request body"})


@pytest.mark.parametrize(
    "row",
    [
        HeaderRow("as always"),
        HeaderRow("the content type with blanks and in lower case", {"content_type": "text/plain; charset=utf-8"}),
        HeaderRow("JSON's own content type", {"content_type": "application/json"}, 400),
        HeaderRow("no charset", {"content_type": "text/plain"}, 400),
        HeaderRow("another origin", {"origin": "https://lmarena.ai"}, 403),
        HeaderRow("another page", {"referer": "https://lmarena.ai/"}, 403),
        HeaderRow("no cookie", {"cookie": ""}, 401),
        HeaderRow("an unknown cookie", {"cookie": "arena-auth-prod-v1=base64-e30"}, 401),
    ],
    ids=lambda row: row.name,
)
async def test_the_headers_of_a_call_determine_whether_it_is_accepted(caller: Caller, row: HeaderRow) -> None:
    assert (await caller.ask(**row.headers)).status == row.status


async def test_the_referer_may_be_the_page_of_the_conversation(arena: Arena, caller: Caller) -> None:
    body = caller.create()
    headers = caller.headers(origin=arena.origin, referer=f"{arena.origin}/c/{body['id']}")
    assert (await caller.send("POST", CREATE, body, headers=headers)).status == 200


async def test_an_evaluation_id_can_be_used_only_once(caller: Caller) -> None:
    first, second = caller.create(), caller.create()
    await caller.send("POST", CREATE, first)
    again = await caller.send("POST", CREATE, {**second, "id": first["id"]})
    assert (again.status, b"already exists" in again.body) == (400, True)


async def test_a_call_refused_by_a_fault_uses_up_its_ids(arena: Arena, caller: Caller) -> None:
    arena.faults.arm("rate_limited")
    body = caller.create()
    assert [(await caller.send("POST", CREATE, body)).status for _ in range(2)] == [429, 400]


async def test_an_invalid_follow_up_is_refused(arena: Arena, caller: Caller) -> None:
    async def follow_up(evaluation: str, **changes: object) -> tuple[int, bytes]:
        body = {**caller.follow_up(evaluation), **changes}
        answer = await caller.send("POST", f"/nextjs-api/stream/post-to-evaluation/{evaluation}", body)
        return answer.status, answer.body

    early = [caller.new_id(), caller.new_id()]
    await caller.ask()
    evaluation = arena.calls[-1].evaluation_id or ""
    assert await follow_up(caller.new_id()) == (404, b'{"error":"Evaluation session not found"}')
    assert (await follow_up(evaluation, id=caller.new_id()))[0] == 400
    assert (await follow_up(evaluation, mode="direct"))[0] == 400
    assert (await follow_up(evaluation, modelAId=arena.model("deepseek-v4").id))[0] == 400
    too_early = await follow_up(evaluation, userMessageId=early[0], modelAMessageId=early[1])
    assert too_early[0] == 400  # the ids are earlier than those in the evaluation
    assert (await follow_up(evaluation))[0] == 200


async def test_an_evaluation_of_another_account(arena: Arena, caller: Caller) -> None:
    await caller.ask()
    evaluation = arena.calls[-1].evaluation_id or ""
    caller.session = arena.sign_in("grace@example.org")
    for answer in (await caller.ask_more(evaluation), await caller.ask_again(evaluation)):
        assert answer.status == 401
        assert f"does not have access to evaluation session {evaluation}" in json.loads(answer.body)["error"]


async def test_regenerate_needs_the_last_answer_and_an_empty_object(arena: Arena, caller: Caller) -> None:
    await caller.ask()
    evaluation = arena.calls[-1].evaluation_id or ""
    answer_id = arena.evaluations[evaluation].answer_id
    path = f"/nextjs-api/stream/retry-evaluation-session-message/{evaluation}/messages"
    assert (await caller.send("PUT", f"{path}/{answer_id}", {"id": evaluation})).status == 400
    assert (await caller.send("PUT", f"{path}/{caller.new_id()}", {})).status == 400
    assert (await caller.send("PUT", f"{path}/{answer_id}", {})).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", CREATE),
        ("POST", "/nextjs-api/stream/nothing"),
        ("GET", "/"),
        ("GET", "/c/anything"),
        ("PUT", CREATE),
        ("GET", "/text/direct"),
        ("GET", "/api/me"),
        ("GET", "/api/models"),
        ("GET", "/nextjs-api/model-catalog"),
    ],
)
@pytest.mark.parametrize("arena", [2025], indirect=True)
async def test_unknown_paths_are_not_found(arena: Arena, caller: Caller, method: str, path: str) -> None:
    answer = await caller.send(method, path)
    assert (answer.status, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert arena.calls[-1].refusal is not None


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/c/anything", 200, b"<h1>This page could not be found.</h1>"),
        ("POST", "/nextjs-api/stream/nothing", 200, b"<h1>This page could not be found.</h1>"),
        ("GET", "/_next/static/chunks/old.js", 404, b"could not be found"),
        ("GET", "/api/models", 403, b'{"error":"Forbidden"}'),
        ("PUT", CREATE, 405, b'{"error":"Method Not Allowed"}'),
        ("POST", "/api/me", 405, b'{"error":"Method Not Allowed"}'),
    ],
)
@pytest.mark.parametrize("arena", [2026], indirect=True)
async def test_unknown_paths_are_refused_as_by_the_site_in_2026(
    arena: Arena, caller: Caller, method: str, path: str, status: int, text: bytes
) -> None:
    answer = await caller.send(method, path)
    assert (answer.status, text in answer.body) == (status, True)
    assert arena.calls[-1].refusal is not None


def test_the_arena_accepts_custom_models() -> None:
    only = Model("9b2d7a54-0f0b-4c39-9d0c-6b0f3d1f5a11", "only-one", {"text": True})
    assert Arena(models=[only]).model("only-one") is only
