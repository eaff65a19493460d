"""The storage: the three steps of an upload, what the model sees, refusals, and faults."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from leaving import leave_when

from upstream.arena import FAULTS, Arena
from upstream.arena.storage import StoredObject

if TYPE_CHECKING:
    from tests.upstream.arena.conftest import Answer, Caller

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 200  # four pieces
PDF = b"%PDF-1.7\n" + bytes(99)
UPLOAD = ("generateUploadUrl", "cat.png", "image/png")


async def place(caller: Caller) -> str:
    """Get an upload URL for a PNG."""
    return str((await caller.result(*UPLOAD))["data"]["uploadUrl"])


async def put(caller: Caller, url: str, data: bytes = PNG) -> Answer:
    return await caller.fetch("PUT", url, data, content_type="image/png")


# The three steps


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
async def test_a_picture_is_uploaded_and_downloaded(arena: Arena, caller: Caller, kind: str) -> None:
    attachment = await caller.upload(PNG, f"image/{kind}", f"ein Otter, 水.{kind}")
    key = attachment["name"]
    assert re.fullmatch(rf"{caller.session.user_id}/\d{{13}}-ein Otter, 水\.{kind}", key)
    assert arena.storage.objects == {key: StoredObject(f"image/{kind}", PNG)}
    found = await caller.fetch("GET", attachment["url"])
    assert (found.status, found.headers["content-type"], found.body) == (200, f"image/{kind}", PNG)
    assert [(call.kind, call.key, call.status, call.bytes) for call in arena.storage.calls] == [
        ("put", key, 200, len(PNG)),
        ("get", key, 200, len(PNG)),
    ]
    assert [call.kind for call in arena.calls] == ["upload-url", "sign"]


async def test_a_put_is_answered_by_an_etag_only(caller: Caller) -> None:
    answer = await put(caller, await place(caller))
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
    assert re.fullmatch('"[0-9a-f]{32}"', answer.headers["etag"])


async def test_an_upload_url_contains_its_expiry(arena: Arena, caller: Caller) -> None:
    arena.storage.expires = 900
    query = parse_qs(urlsplit(await place(caller)).query)
    [date], [expires], [signed] = query["X-Amz-Date"], query["X-Amz-Expires"], query["X-Amz-SignedHeaders"]
    assert (re.fullmatch(r"\d{8}T\d{6}Z", date) is not None, expires, signed) == (True, "900", "host")


async def test_concurrent_uploads_have_different_keys(arena: Arena, caller: Caller) -> None:
    pictures = [PNG + bytes([number]) for number in range(20)]
    attachments = await asyncio.gather(*map(caller.upload, pictures))
    assert [arena.storage.objects[attachment["name"]].data for attachment in attachments] == pictures


async def test_the_answer_of_an_action_is_long_and_contains_decoys(caller: Caller) -> None:
    answer = await caller.act(*UPLOAD)
    body, numbers = answer.body, [number for number, _ in answer.rows]
    assert 110_000 < len(body) < 130_000
    assert numbers.count("1") == 1
    assert 0 < numbers.index("1") < len(numbers) - 1
    assert b"24:Tb50," in body
    assert len(re.findall(rb"^1:", body, re.MULTILINE)) > 1


# PDFs


@pytest.mark.parametrize("arena", [2026], indirect=True)
async def test_a_pdf_is_uploaded_and_shown_to_a_model_that_reads_files(caller: Caller) -> None:
    attachment = await caller.upload(PDF, "application/pdf", "paper.pdf")
    [message] = json.loads((await caller.show("/echo", attachment, model="archivist-2")).text)
    assert message["attachments"] == [{**attachment, "bytes": len(PDF), "sha256": sha256(PDF).hexdigest()}]
    refused = await caller.show("hello", attachment, model="gpt-6.1-high")
    assert (refused.status, json.loads(refused.body)) == (400, {"error": "Model does not support file input"})
    blind = await caller.show("hello", attachment, await caller.upload(PNG), model="archivist-2")
    assert (blind.status, json.loads(blind.body)) == (400, {"error": "Model does not support image input"})


@pytest.mark.parametrize("arena", [2025], indirect=True)
async def test_pdfs_are_refused_in_2025(arena: Arena, caller: Caller) -> None:
    refused = await caller.result("generateUploadUrl", "paper.pdf", "application/pdf")
    assert refused == {"success": False, "error": "Unsupported file type: application/pdf"}
    attachment = {**await caller.upload(PNG), "contentType": "application/pdf"}
    assert (await caller.show("hello", attachment, model="claude-opus-5-2")).status == 400
    assert not arena.evaluations


# What the actions refuse


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("generateUploadUrl", "cat.svg", "image/svg+xml"), "Unsupported file type: image/svg+xml"),
        (("generateUploadUrl", "cat.jpg", "image/jpg"), "Unsupported file type: image/jpg"),
        (("generateUploadUrl", "", "image/png"), "Invalid file name"),
        (("generateUploadUrl", "../cat.png", "image/png"), "Invalid file name"),
        (("getSignedUrl", "nobody/1-cat.png"), "File not found"),
    ],
)
async def test_actions_fail_for_invalid_arguments(
    arena: Arena, caller: Caller, arguments: tuple[str, ...], error: str
) -> None:
    assert await caller.result(*arguments) == {"success": False, "error": error}
    assert arena.calls[-1].refusal == error


@pytest.mark.parametrize(
    ("arguments", "headers", "status"),
    [
        (UPLOAD, {"accept": "*/*"}, 400),
        (UPLOAD, {"content_type": "application/json"}, 400),
        (UPLOAD, {"origin": "https://elsewhere.example"}, 403),
        (UPLOAD, {"cookie": ""}, 401),
        (("generateUploadUrl", "cat.png"), {}, 400),
        (("getSignedUrl", "one", "two"), {}, 400),
    ],
)
async def test_calls_of_actions_with_invalid_headers_or_arguments_are_refused(
    caller: Caller, arguments: tuple[str, ...], headers: dict[str, str], status: int
) -> None:
    assert (await caller.act(*arguments, **headers)).status == status


async def test_only_existing_files_of_the_account_are_signed(arena: Arena, caller: Caller) -> None:
    attachment, forgotten = await caller.upload(PNG), await caller.upload(PNG)
    arena.storage.forget(forgotten["name"])
    assert not (await caller.result("getSignedUrl", forgotten["name"]))["success"]
    assert (await caller.fetch("GET", forgotten["url"])).status == 404
    caller.session = arena.sign_in("grace@example.org")
    assert not (await caller.result("getSignedUrl", attachment["name"]))["success"]


# What the storage refuses


@dataclass(frozen=True)
class BadPut:
    """A valid PUT with a change."""

    name: str
    code: str
    status: int = 403
    url: Callable[[str], str] = str
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "PUT"


BAD_PUTS = [
    BadPut("another type", "SignatureDoesNotMatch", headers={"content_type": "image/jpeg"}),
    BadPut("another key", "SignatureDoesNotMatch", url=lambda url: url.replace("cat", "dog")),
    BadPut("a longer life", "SignatureDoesNotMatch", url=lambda url: url.replace("=3600", "=7200")),
    BadPut("no signature", "SignatureDoesNotMatch", url=lambda url: url.partition("?")[0]),
    BadPut("a GET", "SignatureDoesNotMatch", method="GET"),
    BadPut("a DELETE", "MethodNotAllowed", 405, method="DELETE"),
    BadPut("another host", "SignatureDoesNotMatch", headers={"host": "arena.ai"}),
    BadPut("a cookie", "InvalidRequest", 400, headers={"cookie": "arena-auth-prod-v1=x"}),
    BadPut("an authorization", "InvalidRequest", 400, headers={"authorization": "Bearer x"}),
]


@pytest.mark.parametrize("row", BAD_PUTS, ids=lambda row: row.name)
async def test_an_invalid_put_is_refused_and_stores_nothing(arena: Arena, caller: Caller, row: BadPut) -> None:
    url = row.url(await place(caller))
    answer = await caller.fetch(row.method, url, PNG, **{"content_type": "image/png", **row.headers})
    assert (answer.status, answer.headers["content-type"]) == (row.status, "application/xml")
    assert f"<Code>{row.code}</Code>" in answer.body.decode()
    assert arena.storage.objects == {}
    call = arena.storage.calls[-1]
    assert (call.status, (call.refusal or "").partition(":")[0]) == (row.status, row.code)


async def test_a_put_without_a_content_length_is_refused(arena: Arena, caller: Caller) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield PNG

    answer = await caller.fetch("PUT", await place(caller), pieces(), content_type="image/png")
    assert (answer.status, b"MissingContentLength" in answer.body) == (411, True)
    assert not arena.storage.objects


@pytest.mark.parametrize("by", ["clock", "life", "fault"])
async def test_a_put_to_an_expired_url_is_refused(arena: Arena, caller: Caller, by: str) -> None:
    if by == "life":
        arena.storage.expires = 0
    elif by == "fault":
        arena.faults.arm("expired_url")
    url = await place(caller)
    if by == "clock":
        arena.clock = lambda: time.time() + 3600
    answer = await put(caller, url)
    assert (answer.status, b"Request has expired" in answer.body) == (403, True)


async def test_a_put_that_is_cut_off_stores_nothing(arena: Arena, caller: Caller) -> None:
    url = urlsplit(await place(caller))
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: image/png\r\n"
    writer.write(f"{head}Content-Length: {len(PNG)}\r\n\r\n".encode() + PNG[:-1])
    await writer.drain()
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    async with asyncio.timeout(10):
        await arena.storage.calls[-1].done.wait()
    assert (arena.storage.calls[-1].status, arena.storage.objects) == (None, {})


# What a model sees


async def test_a_model_sees_exactly_the_bytes_of_its_attachments(arena: Arena, caller: Caller) -> None:
    attachments = [await caller.upload(PNG), await caller.upload(PNG + b"!", "image/webp", "dog.webp")]
    [message] = json.loads((await caller.show("/echo", *attachments)).text)
    digests = [
        {"bytes": len(PNG), "sha256": sha256(PNG).hexdigest()},
        {"bytes": len(PNG) + 1, "sha256": sha256(PNG + b"!").hexdigest()},
    ]
    seen = [{**sent, **digest} for sent, digest in zip(attachments, digests, strict=True)]
    assert message == {"role": "user", "content": "/echo", "attachments": seen}
    [evaluation] = arena.evaluations.values()
    assert list(evaluation.messages[0].attachments) == seen


async def test_a_picture_without_text_is_accepted(caller: Caller) -> None:
    assert (await caller.show("", await caller.upload(PNG))).status == 200


async def test_an_image_models_answer_depends_on_the_attached_picture(caller: Caller) -> None:
    answers = [
        await caller.show("hat", *attachments, model="gpt-image-3")
        for attachments in ([], [await caller.upload(PNG)], [await caller.upload(PNG + b"!")])
    ]
    urls = [
        value[0]["image"] for answer in answers for tag, value in answer.lines if tag == "a2" and "image" in value[0]
    ]
    assert len({(await caller.fetch("GET", url)).body for url in urls}) == 3


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "another"}, "not the key"),
        ({"contentType": "image/gif"}, "stored as image/png"),
        ({"url": "https://elsewhere.example/cat.png"}, "another storage"),
    ],
)
async def test_an_attachment_that_differs_from_its_upload_is_refused(
    caller: Caller, change: dict[str, str], complaint: str
) -> None:
    answer = await caller.show("hello", {**await caller.upload(PNG), **change})
    assert (answer.status, complaint in json.loads(answer.body)["error"]) == (400, True)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda arena, _: setattr(arena, "clock", lambda: time.time() + 3600), "Request has expired"),
        (lambda arena, attachment: arena.storage.forget(attachment["name"]), "does not exist"),
        (lambda _, attachment: attachment.update(url=attachment["url"].replace("=3600", "=9999")), "signature"),
        (lambda arena, a: a.update(url=arena.storage.presign("PUT", a["name"])), "signature"),
    ],
    ids=["expired", "gone", "forged", "an upload URL"],
)
async def test_an_attachment_that_cannot_be_read_any_more_is_refused(
    arena: Arena, caller: Caller, spoil: Callable[[Arena, dict[str, str]], Any], complaint: str
) -> None:
    caller.session = arena.sign_in(expires_in=86400.0)
    attachment = await caller.upload(PNG)
    spoil(arena, attachment)
    answer = await caller.show("hello", attachment)
    assert (answer.status, complaint in json.loads(answer.body)["error"]) == (400, True)


async def test_an_attachment_of_another_account_is_refused(arena: Arena, caller: Caller) -> None:
    attachment = await caller.upload(PNG)
    caller.session = arena.sign_in("grace@example.org")
    assert (await caller.show("hello", attachment)).status == 400
    assert not arena.evaluations


# Faults


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        ("stale_action", 404, b"could not be found"),
        ("action_failed", 200, b'1:{"success":false,"error":"Something went wrong"}'),
        ("server_error", 500, b"Internal Server Error"),
    ],
)
@pytest.mark.parametrize("on", ["action", "upload-url", "sign"])
async def test_faults_change_the_answers_of_actions(
    arena: Arena, caller: Caller, fault: str, status: int, text: bytes, on: str
) -> None:
    arena.faults.arm(fault, on=on)
    act = ("getSignedUrl", "nobody/1") if on == "sign" else UPLOAD
    answer = await caller.act(*act)
    assert (answer.status, text in answer.body, arena.calls[-1].fault) == (status, True, fault)
    assert ("x-nextjs-action-not-found" in answer.headers) == (fault == "stale_action")
    assert (await caller.act(*act)).status == 200


async def test_a_fault_stays_armed_until_its_action_is_called(arena: Arena, caller: Caller) -> None:
    arena.faults.arm("action_failed", on="sign")
    assert (await caller.result(*UPLOAD))["success"]
    assert len(arena.faults.armed()) == 1


@pytest.mark.parametrize("on", ["put", "get"])
@pytest.mark.parametrize(("fault", "status"), [("put_unavailable", 503), ("put_expired", 403), ("put_forged", 403)])
async def test_faults_of_the_storage_refuse_a_put_or_a_get(
    arena: Arena, caller: Caller, on: str, fault: str, status: int
) -> None:
    url = await place(caller) if on == "put" else (await caller.upload(PNG))["url"]
    arena.faults.arm(fault, 2, on=on)
    answers = [await (put(caller, url) if on == "put" else caller.fetch("GET", url)) for _ in range(3)]
    assert [answer.status for answer in answers] == [status, status, 200]
    assert arena.storage.calls[-2].fault == fault


@pytest.mark.parametrize("fault", ["reset_middle", "reset_before_headers", "close_before_headers"])
@pytest.mark.parametrize("data", [PNG, PNG[:99]], ids=["large", "small"])
@pytest.mark.parametrize("on", ["put", "get"])
async def test_faults_break_connections_to_the_storage(
    arena: Arena, caller: Caller, fault: str, data: bytes, on: str
) -> None:
    url = await place(caller) if on == "put" else (await caller.upload(data))["url"]
    stored = 0 if on == "put" else 1
    arena.faults.arm(fault, times=None, on=on)  # aiohttp itself repeats a PUT or GET once
    with pytest.raises(aiohttp.ClientError):
        await (put(caller, url, data) if on == "put" else caller.fetch("GET", url))
    call = arena.storage.calls[-1]
    await call.done.wait()
    if (on, fault, len(data)) == ("put", "reset_middle", 99):
        stored = 1  # the whole file was received; only the answer is lost
    assert (call.fault, len(arena.storage.objects)) == (fault, stored)
    assert (call.status is None) == (on == "put" or fault != "reset_middle")


async def test_a_put_that_hangs_stores_nothing_and_ends_with_its_caller(arena: Arena, caller: Caller) -> None:
    release = asyncio.Event()
    arena.faults.arm("silent_middle", on="put", release=release)
    url = await place(caller)
    await leave_when(lambda: len(arena.storage.calls) == 1, put(caller, url))
    await arena.storage.calls[-1].closed.wait()
    assert not arena.storage.objects
    release.set()
    assert (await put(caller, url)).status == 200


@pytest.mark.parametrize("on", ["put", "get"])
async def test_the_fault_slow_delays_uploads_and_downloads(arena: Arena, caller: Caller, on: str) -> None:
    arena.faults.arm("slow", on=on, delta_seconds=0.02)
    began = time.monotonic()
    attachment = await caller.upload(PNG)
    assert (await caller.fetch("GET", attachment["url"])).body == PNG
    assert time.monotonic() - began >= 4 * 0.02


async def test_faults_change_the_type_and_the_length_of_downloads(arena: Arena, caller: Caller) -> None:
    url = arena.storage.draw("otter")
    arena.faults.arm("wrong_content_type", on="get", content_type="text/html")
    arena.faults.arm("html", on="get")
    arena.faults.arm("huge_body", bytes=300_000)
    arena.faults.arm("endless_body", bytes=200_000)
    arena.faults.arm("cut_chunked", on="get")
    types = [(await caller.fetch("GET", url)).headers["content-type"] for _ in range(2)]
    assert types == ["text/html", "text/html; charset=utf-8"]
    huge, endless = [await caller.fetch("GET", url) for _ in range(2)]
    assert (len(huge.body), huge.headers["content-length"]) == (300_000, "300000")
    assert (len(endless.body), "content-length" in endless.headers) == (200_000, False)
    with pytest.raises(aiohttp.ClientPayloadError):
        await caller.fetch("GET", url)


async def test_an_endless_picture_ends_when_its_caller_disconnects(arena: Arena, caller: Caller) -> None:
    arena.faults.arm("endless_body")
    async with caller.http.get(arena.storage.draw("otter")) as answer:
        await answer.content.readexactly(1_000_000)
    async with asyncio.timeout(10):
        await arena.storage.calls[-1].closed.wait()


async def test_the_listeners_of_the_site_and_its_storage_start_and_stop_together() -> None:
    async with Arena() as arena:
        assert arena.origin != arena.storage_origin
        port = int(arena.storage_origin.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"):
            await Arena(storage_port=port).start()
    for origin in (arena.origin, arena.storage_origin):
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", int(origin.rpartition(":")[2]))


def test_each_kind_of_call_has_its_number_of_faults() -> None:
    made_for = {"action": 3, "put": 3, "get": 2, "follow-up": 1}
    on = [fault.on for fault in FAULTS.values() if fault.on != "stream"]
    assert {kind: on.count(kind) for kind in on} == made_for
