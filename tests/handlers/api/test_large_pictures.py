"""Pictures so large that the bridge cuts them out of the body before parsing it, which must make no difference."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from pictures import data_url
from running import RunningBridge

from handlers.request.budget import SMALL_BYTES
from upstream.arena import Arena

#: Their base64 is full of slashes, which some clients escape.
PICTURES = [b"\xff\xd8\xff" + bytes([number]) + b"\xff" * SMALL_BYTES for number in range(3)]

WAYS: dict[str, Callable[[object], str]] = {
    "as the SDK does": lambda body: json.dumps(body, ensure_ascii=False, separators=(",", ":")),
    "with spaces": lambda body: json.dumps(body, indent=2, separators=(" , ", " : ")),
    "with slashes escaped": lambda body: json.dumps(body).replace("/", "\\/"),
    "in capitals": lambda body: json.dumps(body).replace("data:image/jpeg;base64", "DATA:IMAGE/JPEG;BASE64"),
}


def asked(bridge: RunningBridge, *urls: str) -> dict[str, object]:
    """A chat with these pictures, and with texts that look like pictures in a body."""
    texts = ('{"url":"data:image/png;base64,AAAA"}', "data:image/png;base64," + "A" * 100_000)
    parts = [{"type": "text", "text": text} for text in texts]
    images = [{"type": "image_url", "image_url": {"detail": "high", "url": url}} for url in urls]
    return bridge.chat(messages=[{"role": "user", "content": [*parts, *images]}], model="gemini-4-pro")


@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
async def test_large_pictures_arrive_however_the_json_is_written(
    write: Callable[[object], str], arena: Arena, bridge: RunningBridge
) -> None:
    body = asked(bridge, *(data_url(picture, "image/jpeg") for picture in PICTURES))
    async with await bridge.post(io.BytesIO(write(body).encode())) as answer:
        assert answer.status == 200, await answer.text()
    assert sorted(found.data for found in arena.storage.objects.values()) == sorted(PICTURES)
    (evaluation,) = arena.evaluations.values()
    text = evaluation.messages[0].content
    assert text.startswith('{"url":"data:image/png;base64,AAAA"}\ndata:image/png;base64,AAAA')
    assert text.endswith("A" * 100_000)


@pytest.mark.parametrize("bad", ["!", "é", "=", "\x7f"])
async def test_a_large_picture_with_broken_base64_is_named_in_the_error(
    bad: str, arena: Arena, bridge: RunningBridge
) -> None:
    good = data_url(PICTURES[0], "image/jpeg")
    body = asked(bridge, good, good[:1000] + bad + good[1000:])
    async with await bridge.post(io.BytesIO(json.dumps(body, ensure_ascii=False).encode())) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["param"]) == (
        400,
        "invalid_image",
        "messages[0].content[3].image_url.url",
    )
    assert not arena.storage.calls
