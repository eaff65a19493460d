"""A retry of a request for pictures joins the drawing of its abandoned first try; a merely equal request does not."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from pictures import png
from polling import until
from running import RunningBridge

from bridge.tasks import TaskOwner
from handlers.request.appkeys import JOINABLE
from upstream.arena import Arena, Line, Step, Turn, Until

DRAWS = "gpt-image-3"
FIRST = {"x-stainless-retry-count": "0"}
RETRY = {"x-stainless-retry-count": "1"}
A, B = png(0xA), png(0xB)


@dataclass
class Drawing:
    """A script that draws a picture for each turn, once `go` is set."""

    arena: Arena
    go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    async def __call__(self, turn: Turn) -> AsyncIterator[Step]:
        self.begun.put_nowait(None)
        yield Until(self.go)
        link = self.arena.storage.draw(turn.evaluation.id)
        yield Line("a2", [{"type": "image", "image": link, "mimeType": "image/png"}])
        yield Line("ad", {"finishReason": "stop"})


@pytest.fixture
def drawing(arena: Arena) -> Drawing:
    drawing = Drawing(arena)
    arena.script = drawing
    return drawing


def generation() -> tuple[str, dict[str, Any]]:
    return "generations", {"json": {"model": DRAWS, "prompt": "a cat", "n": 2}}


def json_edit(picture: bytes = A) -> tuple[str, dict[str, Any]]:
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    return "edits", {"json": {"model": DRAWS, "prompt": "with a hat", "image": url}}


def form_edit(picture: bytes = A) -> tuple[str, dict[str, Any]]:
    form = aiohttp.FormData({"model": DRAWS, "prompt": "with a hat"}, default_to_multipart=True)
    form.add_field("image", picture, filename="cat.png")
    return "edits", {"data": form}


async def draw(bridge: RunningBridge, asked: tuple[str, dict[str, Any]], headers: dict[str, str]) -> Any:
    path, options = asked
    url = f"{bridge.base_url}/images/{path}"
    async with bridge.http.post(url, headers={**bridge.headers, **headers}, **options) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


@pytest.mark.parametrize("make", [generation, json_edit, form_edit])
async def test_a_retry_joins_the_drawing_of_its_abandoned_first_try(
    make: Callable[[], Any], tasks: TaskOwner, arena: Arena, bridge: RunningBridge, drawing: Drawing
) -> None:
    first = tasks.spawn(draw(bridge, make(), FIRST), name="first try")
    await drawing.begun.get()
    first.cancel()
    (answer,) = bridge.app[JOINABLE]
    await until(lambda: not answer.attended)
    retry = tasks.spawn(draw(bridge, make(), RETRY), name="retry")
    await until(lambda: answer.joined == 1)
    drawing.go.set()
    assert len((await retry)["data"]) == len(arena.evaluations) == (2 if make is generation else 1)
    assert not bridge.calls_held


@pytest.mark.parametrize("headers", [{}, FIRST], ids=["unmarked", "a first try"])
async def test_concurrent_equal_requests_draw_a_picture_each(
    headers: dict[str, str], tasks: TaskOwner, arena: Arena, bridge: RunningBridge, drawing: Drawing
) -> None:
    both = [tasks.spawn(draw(bridge, json_edit(), headers), name="call") for _ in range(2)]
    for _ in both:
        await drawing.begun.get()
    drawing.go.set()
    urls = {(await each)["data"][0]["url"] for each in both}
    assert len(urls) == len(arena.evaluations) == 2


@pytest.mark.parametrize("make", [json_edit, form_edit])
async def test_a_retry_with_another_picture_joins_nothing(
    make: Callable[[bytes], Any], tasks: TaskOwner, arena: Arena, bridge: RunningBridge, drawing: Drawing
) -> None:
    first = tasks.spawn(draw(bridge, make(A), FIRST), name="first try")
    await drawing.begun.get()
    other = tasks.spawn(draw(bridge, make(B), RETRY), name="another picture")
    await drawing.begun.get()
    drawing.go.set()
    await asyncio.gather(first, other)
    assert len(arena.evaluations) == 2
