"""OpenAI's Images API with the real SDK: pictures drawn and edited, and every way in which that fails."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import openai
import pytest
from frames import DONE, frames
from leaving import leave_when
from pictures import MAX_BYTES, SMALL, png
from running import RunningBridge, api_key, running_bridge
from tenacity import wait_none

from bridge.access import keys
from bridge.access.keys import KeyRing
from handlers.api.images import MAX_TEXT_BYTES
from handlers.request.appkeys import BODY_BUDGET
from handlers.request.budget import TOTAL_BYTES
from upstream.arena import Arena, Call, Line, Turn

DRAWS = "gpt-image-3"
DRAWS_FROM_ONE = "seedream-5-4k"
DRAWS_FROM_NONE = "flux-3-pro"
TALKS = "gemini-4-pro"
FILMS = "veo-4-fast-audio"

A, B = png(0xA), png(0xB)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upstream.retry._back_off", wait_none())


def calls(arena: Arena) -> list[Call]:
    """The calls about evaluations."""
    return arena.chats


def drawn(arena: Arena) -> set[bytes]:
    """The pictures that the arena's models have drawn."""
    return {found.data for key, found in arena.storage.objects.items() if key.startswith("generated/")}


def stored(arena: Arena, url: str | None) -> bytes:
    """The picture at a signed URL."""
    return arena.storage.find(str(url))[1].data


def attached(arena: Arena) -> list[bytes]:
    """The pictures that the last model was shown, in order."""
    evaluation = arena.evaluations[str(calls(arena)[-1].evaluation_id)]
    return [stored(arena, each["url"]) for each in evaluation.messages[0].attachments]


async def post(bridge: RunningBridge, path: str, **options: Any) -> aiohttp.ClientResponse:
    headers = {**bridge.headers, **options.pop("headers", {})}
    return await bridge.http.post(f"{bridge.base_url}/images/{path}", headers=headers, **options)


async def refused(answer: aiohttp.ClientResponse, status: int, code: str, param: str | None = None) -> str:
    """Check an error's status, code and parameter; return its message."""
    error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["param"]) == (status, code, param)
    return str(error["message"])


# Generations


async def test_a_drawn_picture_is_returned_as_a_url(arena: Arena, bridge: RunningBridge) -> None:
    for prefix in ("/v1", "/api/v1"):
        answer = await bridge.sdk(base_url=bridge.origin + prefix).images.generate(model=DRAWS, prompt="a cat")
        assert answer.data is not None
        (picture,) = answer.data
        assert picture.b64_json is None
        assert stored(arena, picture.url) in drawn(arena)
        assert answer.created > 1_700_000_000


async def test_a_drawn_picture_is_returned_as_base64(arena: Arena, bridge: RunningBridge) -> None:
    answer = await bridge.sdk().images.generate(model=DRAWS, prompt="a cat", response_format="b64_json")
    assert answer.data is not None
    (picture,) = answer.data
    assert picture.url is None
    assert {base64.b64decode(str(picture.b64_json))} == drawn(arena)


@pytest.mark.parametrize("form", ["url", "b64_json"])
async def test_each_of_several_pictures_is_drawn_in_an_evaluation_of_its_own(
    form: Any, arena: Arena, bridge: RunningBridge
) -> None:
    arena.script = lambda turn: [
        Line("a2", [{"type": "image", "image": arena.storage.draw(turn.evaluation.id), "mimeType": "image/png"}]),
        Line("ad", {"finishReason": "stop"}),
    ]
    answer = await bridge.sdk().images.generate(model=DRAWS, prompt="a cat", n=6, response_format=form)
    assert answer.data is not None
    assert len(answer.data) == 6
    assert len(drawn(arena)) == len(arena.evaluations) == 6
    if form == "url":
        assert {stored(arena, picture.url) for picture in answer.data} == drawn(arena)
    else:
        assert {base64.b64decode(str(picture.b64_json)) for picture in answer.data} == drawn(arena)


async def test_surplus_pictures_of_a_model_are_left_out(bridge: RunningBridge) -> None:
    answer = await bridge.sdk().images.generate(model=DRAWS, prompt="/draw 3", n=2)
    assert answer.data is not None
    assert len(answer.data) == 2


async def test_a_drawing_always_starts_a_new_evaluation(arena: Arena, bridge: RunningBridge) -> None:
    """A drawing neither continues an evaluation nor leaves one that a chat would continue."""
    for _ in range(2):
        await bridge.sdk().images.generate(model=DRAWS, prompt="a cat")
    answer = await bridge.post(bridge.chat("a cat", model=DRAWS))
    assert answer.headers["x-bridge-conversation"].startswith("new")
    assert [call.kind for call in calls(arena)] == ["create"] * 3
    assert {json.loads(call.body)["modality"] for call in calls(arena)} == {"image"}


async def test_parameters_without_effect_are_named_in_a_header(bridge: RunningBridge) -> None:
    raw = await bridge.sdk().images.with_raw_response.generate(
        model=DRAWS, prompt="a cat", size="1024x1024", quality="high", style="vivid", user="ada"
    )
    assert raw.headers["x-bridge-ignored"] == "size, quality, style, user"
    assert raw.headers["x-bridge-reason"] == "ok"
    raw = await bridge.sdk().images.with_raw_response.generate(model=DRAWS, prompt="a cat")
    assert "x-bridge-ignored" not in raw.headers


@pytest.mark.parametrize("model", [TALKS, FILMS, "gpt-6.1-search"])
async def test_a_model_that_cannot_draw_is_refused(model: str, arena: Arena, bridge: RunningBridge) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await bridge.sdk().images.generate(model=model, prompt="a cat")
    assert (raised.value.code, raised.value.param) == ("unsupported_model", "model")
    assert model in raised.value.message
    assert not calls(arena)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_video_model_is_refused_in_a_chat(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    answer = await bridge.post(bridge.chat("a cat", model=FILMS, stream=stream))
    assert "video" in await refused(answer, 400, "unsupported_model", "model")
    assert not calls(arena)


async def test_a_drawing_answered_with_text_alone_is_an_error_that_quotes_it(
    arena: Arena, bridge: RunningBridge
) -> None:
    arena.script = lambda _: [Line("a0", "I cannot draw that."), Line("ad", {"finishReason": "stop"})]
    answer = await post(bridge, "generations", json={"model": DRAWS, "prompt": "a cat", "n": 2})
    assert "I cannot draw that." in await refused(answer, 502, "upstream_error")
    assert answer.headers["x-should-retry"] == "false"
    assert not bridge.calls_held


async def test_one_failed_drawing_of_several_ends_the_others(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("moderated")
    answer = await post(bridge, "generations", json={"model": DRAWS, "prompt": "a cat", "n": 3})
    await refused(answer, 400, "content_filter")
    assert not bridge.calls_held


BAD_BODIES: dict[str, tuple[Mapping[str, Any], str, str | None]] = {
    "no JSON": ({"data": b"{"}, "invalid_json", None),
    "a form": ({"data": {"model": DRAWS}}, "invalid_json", None),
    "no prompt": ({"json": {"model": DRAWS}}, "missing_required_parameter", "prompt"),
    "no model": ({"json": {"prompt": "a cat"}}, "missing_required_parameter", "model"),
    "eleven": ({"json": {"model": DRAWS, "prompt": "a cat", "n": 11}}, "invalid_value", "n"),
    "blank prompt": ({"json": {"model": DRAWS, "prompt": " \n"}}, "missing_required_parameter", "prompt"),
}


@pytest.mark.parametrize(("options", "code", "param"), BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_bad_generation_request_is_refused_before_any_upstream_call(
    options: Mapping[str, Any], code: str, param: str | None, arena: Arena, bridge: RunningBridge
) -> None:
    await refused(await post(bridge, "generations", **options), 400, code, param)
    assert not calls(arena)


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "with a length"])
@pytest.mark.parametrize("path", ["/v1/images/generations", "/api/v1/images/generations"])
async def test_a_generation_request_with_a_large_body_is_refused(
    path: str, chunked: bool, arena: Arena, bridge: RunningBridge
) -> None:
    """Its size limit is far below that of requests that contain pictures."""
    body = json.dumps({"model": DRAWS, "prompt": "a cat", "user": "u" * 2 * MAX_TEXT_BYTES}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 65536):
            yield body[at : at + 65536]

    answer = await bridge.http.post(
        bridge.origin + path, data=pieces() if chunked else io.BytesIO(body), headers=bridge.headers
    )
    assert f"{MAX_TEXT_BYTES} bytes" in await refused(answer, 413, "request_too_large")
    assert not calls(arena)
    assert (await post(bridge, "generations", json={"model": DRAWS, "prompt": "a cat"})).status == 200


async def test_the_memory_of_a_small_body_is_free_while_the_picture_is_drawn(
    arena: Arena, bridge: RunningBridge
) -> None:
    """The memory that was reserved for a chunked body of unknown size is released once it has been read."""
    arena.faults.arm("no_headers", times=None)

    async def pieces() -> AsyncIterator[bytes]:
        yield json.dumps({"model": DRAWS, "prompt": "a cat"}).encode()

    alone = {"x-bridge-join": "false", "Content-Type": "application/json"}
    drawing = post(bridge, "generations", data=pieces(), headers=alone)
    free: list[int] = []

    def draws() -> bool:
        if calls(arena):
            free.append(bridge.app[BODY_BUDGET].free)
        return bool(free)

    await leave_when(draws, drawing)
    assert free == [TOTAL_BYTES]


# The bridge downloads


DOWNLOADS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "huge": ("huge_body", {"bytes": 64 * 1024 * 1024}),
    "endless": ("endless_body", {}),
    "reset": ("reset_middle", {"on": "get", "after": 0}),
    "cut": ("cut_chunked", {"on": "get", "after": 0}),
    "a page": ("html", {"on": "get"}),
    "404": ("evaluation_gone", {"on": "get"}),
    "500": ("server_error", {"on": "get"}),
    "429": ("rate_limited", {"on": "get"}),
    "a redirect": ("redirect", {"on": "get"}),
}


@pytest.mark.parametrize(("fault", "options"), DOWNLOADS.values(), ids=DOWNLOADS)
async def test_a_failed_download_of_a_picture_is_an_error_that_blames_no_account(
    fault: str, options: Mapping[str, Any], arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm(fault, times=None, **options)
    body = {"model": DRAWS, "prompt": "a cat", "response_format": "b64_json"}
    answer = await post(bridge, "generations", json=body)
    message = await refused(answer, 502, "upstream_error")
    assert answer.headers["x-should-retry"] == "false"
    assert "picture" in message
    assert "X-Amz" not in message
    assert not bridge.calls_held
    arena.faults.clear()
    assert (await post(bridge, "generations", json=body)).status == 200  # the account is not blamed


async def test_a_download_is_repeated_after_a_connection_reset(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("reset_middle", on="get", after=0)
    answer = await bridge.sdk().images.generate(model=DRAWS, prompt="a cat", response_format="b64_json")
    assert answer.data is not None
    assert {base64.b64decode(str(picture.b64_json)) for picture in answer.data} == drawn(arena)


async def test_a_wrong_content_type_of_the_storage_is_ignored(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("wrong_content_type", on="get")
    answer = await bridge.sdk().images.generate(model=DRAWS, prompt="a cat", response_format="b64_json")
    assert answer.data is not None


async def test_a_caller_that_leaves_closes_all_drawing_calls(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("no_headers", times=None)
    alone = {"x-bridge-join": "false"}  # otherwise it would go on for ten seconds, for a retry
    drawing = post(bridge, "generations", json={"model": DRAWS, "prompt": "a cat", "n": 3}, headers=alone)
    await leave_when(lambda: len(calls(arena)) == 3, drawing)
    async with asyncio.timeout(10):
        for call in calls(arena):
            await call.closed.wait()


# Edits


@pytest.mark.parametrize(("kind", "data"), SMALL.items(), ids=SMALL)
async def test_an_edit_uploads_the_picture_with_its_true_type(
    kind: str, data: bytes, arena: Arena, bridge: RunningBridge
) -> None:
    raw = await bridge.sdk().images.with_raw_response.edit(
        model=DRAWS, prompt="with a hat", image=("cat.png", data, "image/png")
    )
    pictures = raw.parse().data
    assert pictures is not None
    assert stored(arena, pictures[0].url) in drawn(arena)
    assert attached(arena) == [data]
    assert json.loads(calls(arena)[-1].body)["userMessage"]["experimental_attachments"][0]["contentType"] == kind
    assert "x-bridge-ignored" not in raw.headers


async def test_an_edit_uploads_several_pictures_and_ignores_the_mask(arena: Arena, bridge: RunningBridge) -> None:
    raw = await bridge.sdk().images.with_raw_response.edit(
        model=DRAWS,
        prompt="together",
        image=[("a.png", A), ("b.webp", SMALL["image/webp"])],
        mask=("mask.png", B),
        n=2,
        size="1024x1024",
        response_format="b64_json",
    )
    pictures = raw.parse().data
    assert pictures is not None
    assert {base64.b64decode(str(picture.b64_json)) for picture in pictures} == drawn(arena)
    assert len(pictures) == len(arena.evaluations) == 2
    assert attached(arena) == [A, SMALL["image/webp"]]
    assert raw.headers["x-bridge-ignored"] == "size, mask"
    assert sum(call.kind == "put" for call in arena.storage.calls) == 2


def form(*fields: tuple[str, str | bytes], **texts: str) -> aiohttp.FormData:
    """A multipart form, in which bytes become files."""
    made = aiohttp.FormData(default_to_multipart=True)
    for name, value in (*{"model": DRAWS, "prompt": "with a hat"}.items(), *texts.items(), *fields):
        if isinstance(value, bytes):
            made.add_field(name, io.BytesIO(value), filename=f"{name}.png")
        else:
            made.add_field(name, value)
    return made


def raw(body: bytes, content_type: str = "multipart/form-data; boundary=x") -> dict[str, Any]:
    return {"data": body, "headers": {"Content-Type": content_type}}


BAD_FORMS: dict[str, tuple[Any, str, str | None]] = {
    "JSON without a picture": (
        lambda: {"json": {"model": DRAWS, "prompt": "a"}},
        "missing_required_parameter",
        "image",
    ),
    "url-encoded": (lambda: {"data": {"model": DRAWS, "prompt": "a"}}, "invalid_type", None),
    "no body": (dict, "invalid_type", None),
    "no boundary": (lambda: raw(b"--x--", "multipart/form-data"), "invalid_body", None),
    "another boundary": (lambda: raw(b"--y\r\n\r\n--y--"), "invalid_body", None),
    "an empty form": (lambda: raw(b"--x--\r\n"), "missing_required_parameter", "model"),
    "not ended": (
        lambda: raw(b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nab'),
        "invalid_body",
        None,
    ),
    "no name": (lambda: raw(b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n"), "invalid_body", None),
    "no header": (lambda: raw(b"--x\r\n\r\na\r\n--x--\r\n"), "invalid_body", None),
    "a header that is none": (lambda: raw(b"--x\r\nwhat is this\r\n\r\na\r\n--x--\r\n"), "invalid_body", None),
    "a header that is long": (
        lambda: raw(b"--x\r\nA: " + b"a" * 100_000 + b"\r\n\r\na\r\n--x--\r\n"),
        "invalid_body",
        None,
    ),
    "nested": (
        lambda: raw(b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n"),
        "invalid_body",
        None,
    ),
    "no UTF-8": (
        lambda: raw(b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\r\n--x--\r\n'),
        "invalid_body",
        None,
    ),
    "fields without end": (lambda: {"data": form(*((f"f{n}", "x") for n in range(60)))}, "invalid_body", None),
    "newlines": (lambda: raw(b"\n" * 1_000_000), "invalid_body", None),
    "a _charset_ of 100 letters": (
        lambda: raw(b'--x\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n' + b"u" * 100 + b"\r\n--x--"),
        *("missing_required_parameter", "model"),
    ),
    "a _charset_ and nothing else": (
        lambda: raw(b'--x\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n'),
        *("invalid_body", None),
    ),
    "an encoding that is none": (
        lambda: raw(
            b'--x\r\nContent-Transfer-Encoding: what\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--'
        ),
        *("missing_required_parameter", "model"),
    ),
    "a length that is none": (
        lambda: raw(b'--x\r\nContent-Length: -1\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--'),
        *("missing_required_parameter", "model"),
    ),
    "a boundary of 80 letters": (
        lambda: raw(b"--" + b"x" * 80 + b"--", "multipart/form-data; boundary=" + "x" * 80),
        *("invalid_body", None),
    ),
    "no picture": (lambda: {"data": form()}, "missing_required_parameter", "image"),
    "a text as picture": (
        lambda: {"data": form(("image", "https://example.org"))},
        *("missing_required_parameter", "image"),
    ),
    "no picture in it": (lambda: {"data": form(("image", b"<svg/>"))}, "invalid_image", "image[0]"),
    "the second is none": (lambda: {"data": form(("image", A), ("image", b"x"))}, "invalid_image", "image[1]"),
    "eleven": (lambda: {"data": form(*[("image[]", A)] * 11)}, "invalid_image", "image[10]"),
    "one byte too many": (
        lambda: {"data": form(("image", png(size=MAX_BYTES + 1)))},
        "image_too_large",
        "image[0]",
    ),
    "another file": (lambda: {"data": form(("image", A), ("video", b"x"))}, "unsupported_parameter", "video"),
    "no prompt": (lambda: {"data": form(("image", A), prompt="")}, "missing_required_parameter", "prompt"),
    "a text model": (lambda: {"data": form(("image", A), model=TALKS)}, "unsupported_model", "model"),
    "a model without eyes": (lambda: {"data": form(("image", A), model=DRAWS_FROM_NONE)}, "unsupported_model", "model"),
    "two for a model that takes one": (
        lambda: {"data": form(("image", A), ("image", B), model=DRAWS_FROM_ONE)},
        "invalid_image",
        "prompt",
    ),
}


@pytest.mark.parametrize(("make", "code", "param"), BAD_FORMS.values(), ids=BAD_FORMS)
async def test_a_bad_edit_form_is_refused_before_any_upstream_call(
    make: Any, code: str, param: str | None, arena: Arena, bridge: RunningBridge
) -> None:
    answer = await post(bridge, "edits", **make())
    await refused(answer, 400, code, param)
    assert not calls(arena)
    assert not arena.storage.calls
    assert not bridge.calls_held


async def test_an_edit_accepts_a_picture_of_ten_mebibytes(arena: Arena, bridge: RunningBridge) -> None:
    large = png(size=MAX_BYTES)
    assert (await post(bridge, "edits", data=form(("image", large)))).status == 200
    assert attached(arena) == [large]


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "with a length"])
async def test_a_form_larger_than_the_limit_is_refused(chunked: bool, arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path, {"server": {"max_body_bytes": 100_000}}) as bridge:
        data = form(*[("image[]", png(size=40_000))] * 3)
        answer = await post(bridge, "edits", data=data, chunked=chunked or None)
        assert "max_body_bytes" in await refused(answer, 413, "request_too_large")
        assert (await post(bridge, "edits", data=form(("image", png(size=40_000))))).status == 200


async def test_a_failed_upload_of_an_edited_picture_is_a_502(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("put_unavailable", times=None)
    await refused(await post(bridge, "edits", data=form(("image", A))), 502, "image_upload_failed")
    assert not calls(arena)


# Keys and limits


@pytest.mark.parametrize("path", ["generations", "edits"])
async def test_images_requests_need_a_key(path: str, bridge: RunningBridge) -> None:
    answer = await bridge.http.post(f"{bridge.base_url}/images/{path}", json={"model": DRAWS, "prompt": "a cat"})
    await refused(answer, 401, "invalid_api_key")


async def test_drawings_and_edits_count_toward_the_keys_rate_limit(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path, key_options={"rpm": 2}) as bridge:
        body = {"model": DRAWS, "prompt": "a cat"}
        first = await post(bridge, "generations", json=body)
        assert (first.status, first.headers["x-ratelimit-limit-requests"]) == (200, "2")
        assert (await post(bridge, "edits", data=form(("image", A)))).status == 200
        for answer in (await post(bridge, "generations", json=body), await post(bridge, "edits", data=form())):
            await refused(answer, 429, "rate_limit_exceeded")
            assert int(answer.headers["Retry-After"]) > 0


async def test_a_drawing_with_a_model_that_the_key_may_not_use_is_refused(bridge: RunningBridge) -> None:
    secret, key = api_key(models=(TALKS,), rpm=1000)
    bridge.state.keys = KeyRing(keys.add(bridge.state.keys, key))
    bridge.key = secret
    await refused(
        await post(bridge, "generations", json={"model": DRAWS, "prompt": "a cat"}), 403, "model_not_allowed", "model"
    )


# Pictures drawn in a chat


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_chat_shows_all_pictures(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    async with await bridge.post(bridge.chat("/draw 3", model=DRAWS, stream=stream)) as answer:
        body = await answer.read()
    if stream:
        *chunks, done = frames(body)
        assert done == DONE
        text = "".join(json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks)
    else:
        text = json.loads(body)["choices"][0]["message"]["content"]
    urls = [line.removeprefix("![image](").removesuffix(")") for line in text.splitlines()]
    assert {stored(arena, url) for url in urls} == drawn(arena)
    assert len(urls) == len(drawn(arena)) == 3
    assert {urlsplit(url).netloc for url in urls} == {urlsplit(arena.storage_origin).netloc}


async def test_a_chat_continues_after_a_drawn_picture(arena: Arena, bridge: RunningBridge) -> None:
    turns: list[Turn] = []

    def script(turn: Turn) -> list[Line]:
        turns.append(turn)
        link = arena.storage.draw(f"{len(turns)}")
        picture = Line("a2", [{"type": "image", "image": link, "mimeType": "image/png"}])
        return [Line("a0", "Here: "), picture, Line("ad", {"finishReason": "stop"})]

    arena.script = script
    messages: list[dict[str, Any]] = [{"role": "user", "content": "a cat"}]
    first = await (await bridge.post(bridge.chat(messages=messages, model=DRAWS))).json()
    messages += [first["choices"][0]["message"], {"role": "user", "content": "with a hat"}]
    answer = await bridge.post(bridge.chat(messages=messages, model=DRAWS))
    assert answer.headers["x-bridge-conversation"].startswith("follow-up")
    assert [turn.prompt for turn in turns] == ["a cat", "with a hat"]
