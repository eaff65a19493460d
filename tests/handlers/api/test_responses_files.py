"""Pictures and files in the Responses API: shown to the model, stored, listed and fetched."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from documents import input_file, pdf
from internet import playing_the_internet
from pictures import data_url, png
from response_calls import ask, error_of, get, post
from running import RunningBridge, running_bridge

from upstream.arena import Arena, Model, builtin_models

SEES_MANY = "gemini-4-pro"
READS = "reads"


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    reads = Model("6f1c1a52-0000-4000-8000-00000000aaaa", READS, {"text": True}, {"text": True, "file": True}, "acme")
    async with Arena(models=(*builtin_models(), reads)) as arena:
        yield arena


def seen(arena: Arena) -> list[bytes]:
    """The files that the model was shown with the last turn, as the storage has them."""
    evaluation = arena.evaluations[str(arena.chats[-1].evaluation_id)]
    turn = [message for message in evaluation.messages if message.role == "user"][-1]
    stored = {found.sha256: found.data for found in arena.storage.objects.values()}
    return [stored[each["sha256"]] for each in turn.attachments]


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*parts, {"type": "input_text", "text": "/say seen"}]}]


def picture(url: str) -> dict[str, Any]:
    return {"type": "input_image", "image_url": url, "detail": "auto"}


@pytest.mark.parametrize("size", [None, 300_000], ids=["small", "large"])
async def test_pictures_are_shown_stored_and_listed(size: int | None, arena: Arena, bridge: RunningBridge) -> None:
    data = png(0xA, size)
    told = await ask(bridge, user(picture(data_url(data))), model=SEES_MANY)
    assert (told.text, seen(arena)) == ("seen", [data])
    id_ = told.response["id"]
    _, items = await get(bridge, f"{id_}/input_items")
    assert items["data"][0]["content"][0]["image_url"] == data_url(data)
    async with await post(bridge, "/say on", model=SEES_MANY, previous_response_id=id_) as answer:
        assert answer.headers["x-bridge-conversation"].startswith("follow-up")
    await ask(bridge, "/say elsewhere", model=SEES_MANY, previous_response_id=id_, instructions="New.")
    assert seen(arena) == [data]  # the whole history in an evaluation of its own


async def test_drawn_pictures_are_returned_as_markdown(bridge: RunningBridge) -> None:
    told = await ask(bridge, "/draw", stream=True)
    assert told.text.startswith("![image](")


async def test_a_pdf_is_accepted_only_for_a_model_that_reads_pdfs(arena: Arena, bridge: RunningBridge) -> None:
    await ask(bridge, user(input_file(pdf(3))), model=READS)
    assert seen(arena) == [pdf(3)]
    error = await error_of(await post(bridge, user(input_file(pdf(3)))))
    assert error == (400, "unsupported_parameter", "input[0].content[0]")


async def test_a_text_file_is_inserted_into_the_prompt(arena: Arena, bridge: RunningBridge) -> None:
    part = {"type": "input_file", "filename": "notes.md", "file_data": data_url(b"# Otters", "text/markdown")}
    await ask(bridge, user(part))
    assert json.loads(arena.chats[-1].body)["userMessage"]["content"] == "notes.md\n# Otters\n/say seen"


async def test_linked_pictures_are_fetched_again_for_a_continued_response(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        playing_the_internet(monkeypatch) as internet,
        running_bridge(arena, tmp_path, {"images": {"fetch_urls": True}}) as bridge,
    ):
        url = "http://public.example/cat"
        told = await ask(bridge, user(picture(url)), model=SEES_MANY)
        (cat,) = seen(arena)
        id_ = told.response["id"]
        await ask(bridge, "/say on", model=SEES_MANY, previous_response_id=id_, instructions="New.")
        assert seen(arena) == [cat]
        assert internet.served == ["/cat", "/cat"]
