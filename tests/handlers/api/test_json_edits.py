"""POST /images/edits with JSON: pictures as data URLs, base64 or links, in every form that clients send."""

from __future__ import annotations

import base64
import gzip
import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from internet import playing_the_internet
from pictures import SMALL, png
from running import RunningBridge, running_bridge

from upstream.arena import Arena

DRAWS = "gpt-image-3"
A, B = png(1), png(2)
CAT = "http://public.example/cat"


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64_of(data)}"


async def post(bridge: RunningBridge, fields: dict[str, Any], **headers: str) -> aiohttp.ClientResponse:
    return await send(bridge, json.dumps({"model": DRAWS, "prompt": "with a hat", **fields}).encode(), **headers)


async def send(bridge: RunningBridge, body: bytes, **headers: str) -> aiohttp.ClientResponse:
    headers = {"Content-Type": "application/json", **bridge.headers, **headers}
    return await bridge.http.post(f"{bridge.base_url}/images/edits", data=io.BytesIO(body), headers=headers)


def attached(arena: Arena) -> list[bytes]:
    """The pictures that the model was shown last."""
    evaluation = arena.evaluations[str(arena.chats[-1].evaluation_id)]
    turn = [message for message in evaluation.messages if message.role == "user"][-1]
    stored = {found.sha256: found.data for found in arena.storage.objects.values()}
    return [stored[each["sha256"]] for each in turn.attachments]


SHAPES: dict[str, tuple[dict[str, Any], list[bytes]]] = {
    "a data URL": ({"image": data_url(A)}, [A]),
    "bare base64": ({"image": base64_of(A)}, [A]),
    "a list": ({"image": [data_url(A), base64_of(B)]}, [A, B]),
    "objects, as OpenAI's reference has them": (
        {"images": [{"image_url": data_url(A)}, {"image_url": data_url(B)}]},
        [A, B],
    ),
    "one object": ({"image": {"image_url": data_url(A)}}, [A]),
    "chat's objects": ({"images": [{"type": "image_url", "image_url": {"url": data_url(A)}}]}, [A]),
    "objects with base64": ({"images": [{"b64_json": base64_of(A)}]}, [A]),
    "objects with a URL": ({"images": [{"url": data_url(A)}]}, [A]),
    "a form's name": ({"image[]": [data_url(A)]}, [A]),
    "another format": ({"image": f"data:image/webp;base64,{base64_of(SMALL['image/webp'])}"}, [SMALL["image/webp"]]),
    "a large one in an object": ({"images": [{"image_url": data_url(png(3, 300_000))}]}, [png(3, 300_000)]),
    "a large one": ({"image": data_url(png(3, 300_000))}, [png(3, 300_000)]),
}


@pytest.mark.parametrize(("fields", "pictures"), SHAPES.values(), ids=SHAPES)
async def test_an_edit_accepts_pictures_in_every_json_form(
    fields: dict[str, Any], pictures: list[bytes], arena: Arena, bridge: RunningBridge
) -> None:
    answer = await post(bridge, fields)
    assert answer.status == 200, await answer.text()
    assert (await answer.json())["data"][0]["url"]
    assert attached(arena) == pictures


async def test_an_edit_in_json_honours_its_parameters_and_names_ignored_ones(
    arena: Arena, bridge: RunningBridge
) -> None:
    fields = {"image": data_url(A), "mask": {"image_url": data_url(B)}, "n": 2, "size": "1024x1024"}
    answer = await post(bridge, {**fields, "response_format": "b64_json"})
    assert answer.headers["x-bridge-ignored"] == "size, mask"
    assert [list(each) for each in (await answer.json())["data"]] == [["b64_json"]] * 2
    assert attached(arena) == [A]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=x"])
async def test_json_is_recognised_by_its_first_character_whatever_the_content_type(
    kind: str, bridge: RunningBridge
) -> None:
    assert (await post(bridge, {"image": data_url(A)}, **{"Content-Type": kind})).status == 200


async def test_an_edit_in_json_may_be_compressed(bridge: RunningBridge) -> None:
    body = json.dumps({"model": DRAWS, "prompt": "a", "image": data_url(A)}).encode()
    assert (await send(bridge, gzip.compress(body), **{"Content-Encoding": "gzip"})).status == 200


BAD: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "no picture": ({}, "missing_required_parameter", "image"),
    "an empty list": ({"images": []}, "missing_required_parameter", "image"),
    "no prompt": ({"image": data_url(A), "prompt": None}, "missing_required_parameter", "prompt"),
    "a number": ({"image": 1}, "invalid_type", "image"),
    "a number among others": ({"images": [data_url(A), 1]}, "invalid_type", "images[1]"),
    "an object of something else": ({"images": [{"picture": "x"}]}, "invalid_type", "images[0]"),
    "an object in an object": ({"images": [{"image_url": {"url": 1}}]}, "invalid_type", "images[0].image_url.url"),
    "a file's id": ({"images": [{"file_id": "file-1"}]}, "unsupported_parameter", "images[0].file_id"),
    "no base64": ({"image": "%%%"}, "invalid_image", "image"),
    "no picture in it": ({"image": base64_of(b"hello")}, "invalid_image", "image"),
    "a file's URL": ({"image": "file:///etc/passwd"}, "invalid_image", "image"),
    "a link, where none is fetched": ({"images": [{"image_url": CAT}]}, "invalid_image", "images[0].image_url"),
    "too many": ({"images": [data_url(png(n)) for n in range(11)]}, "invalid_image", "images[10]"),
    "a stream": ({"image": data_url(A), "stream": True}, "unsupported_parameter", "stream"),
}


@pytest.mark.parametrize(("fields", "code", "param"), BAD.values(), ids=BAD)
async def test_a_bad_edit_in_json_is_refused_before_any_upstream_call(
    fields: dict[str, Any], code: str, param: str | None, arena: Arena, bridge: RunningBridge
) -> None:
    answer = await post(bridge, fields)
    error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["param"]) == (400, code, param)
    assert not arena.chats


async def test_broken_json_is_refused_as_invalid_json(bridge: RunningBridge) -> None:
    answer = await send(bridge, b'{"image": ')
    assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_json")


async def test_linked_pictures_are_fetched_only_once_the_rest_of_the_request_is_valid(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {"images": {"fetch_urls": True}}
    async with (
        playing_the_internet(monkeypatch) as internet,
        running_bridge(arena, tmp_path, overrides) as bridge,
    ):
        wrong = ({"n": 99}, {"model": "nobody"}, {"model": bridge.model()}, {"prompt": ""}, {"stream": True})
        for fields in wrong:
            answer = await post(bridge, {"images": [{"image_url": CAT}, data_url(A)], **fields})
            assert answer.status in (400, 404)
        assert internet.served == []
        answer = await post(bridge, {"images": [{"image_url": CAT}, data_url(A)]})
        assert answer.status == 200, await answer.text()
        assert attached(arena) == [SMALL["image/webp"], A]
        assert internet.served == ["/cat"]
        answer = await post(bridge, {"image": "http://public.example/missing"})
        error = (await answer.json())["error"]
        assert (answer.status, error["code"], error["param"]) == (400, "invalid_image", "image")
