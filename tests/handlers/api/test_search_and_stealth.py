"""Citations and their places in the text; stealth models; the order of the arena's whole list."""

from __future__ import annotations

import json
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
from running import RunningBridge, running_bridge

from upstream.arena import Arena, Line, Turn

SEARCHES = "gemini-4-pro-grounding"
TEXT = "🦦👋🏽 水獭 🇫🇷 otters are “fine” animals indeed"

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


async def ask(bridge: RunningBridge, prompt: str, *, stream: bool, model: str = SEARCHES) -> tuple[str, list[Any]]:
    """Ask with the SDK; return the text and its annotations."""
    create = bridge.sdk().chat.completions.create
    messages: Any = [{"role": "user", "content": prompt}]
    if not stream:
        message = (await create(model=model, messages=messages)).choices[0].message
        return message.content or "", [note.model_dump()["url_citation"] for note in message.annotations or []]
    deltas = [chunk.choices[0].delta async for chunk in await create(model=model, messages=messages, stream=True)]
    carrying = [delta for delta in deltas if hasattr(delta, "annotations")]
    assert [delta.content for delta in carrying] == [""] * len(carrying)
    assert carrying in ([], [deltas[-2]])  # just before the finish
    notes = [note["url_citation"] for delta in carrying for note in getattr(delta, "annotations", ())]
    return "".join(delta.content or "" for delta in deltas), notes


@streamed_and_not
async def test_citations_point_to_places_in_the_final_text(stream: bool, bridge: RunningBridge) -> None:
    text, notes = await ask(bridge, f"/say {TEXT}", stream=stream)
    assert text == TEXT
    assert [(note["title"], text[: note["start_index"]]) for note in notes] == [
        ("Otter – Wikipedia", "🦦👋🏽 水獭 🇫🇷 otters "),
        ("Otter – Wikipedia", TEXT),
        ("竞技场 “explained”", TEXT),
    ]
    assert all(note["start_index"] == note["end_index"] for note in notes)
    assert len({note["url"] for note in notes}) == 2


@streamed_and_not
async def test_each_source_is_cited_once_in_its_fullest_version(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    def cite(source: object) -> Line:
        return Line("ac", {"toolCallId": "citation-source", "argsTextDelta": as_json(source)})

    def script(_: Turn) -> list[Line]:
        return [
            cite({"url": "https://a/", "id": "1", "charLocation": [2]}),
            Line("a0", "👋 a"),
            cite({"url": "https://b/", "id": "2", "title": "B", "charLocation": [4]}),
            cite({"url": "https://a/", "id": "1", "title": "A", "charLocation": [2, 4]}),
            Line("a0", " b"),
            cite([{"url": "https://a/", "id": "1"}, {"url": "https://b/", "id": "2", "title": "B"}]),
            Line("ad", {"finishReason": "stop"}),
        ]

    arena.script = script
    text, notes = await ask(bridge, "x", stream=stream)
    assert text == "👋 a b"
    assert [(note["url"], note["title"], note["start_index"]) for note in notes] == [
        ("https://a/", "A", 2),
        ("https://a/", "A", 4),
        ("https://b/", "B", 4),
    ]


@streamed_and_not
async def test_an_answer_without_citations_has_no_annotations(stream: bool, bridge: RunningBridge) -> None:
    assert await ask(bridge, "/say nothing to cite", stream=stream, model="qwen4-max-preview") == (
        "nothing to cite",
        [],
    )


def as_json(value: object) -> str:
    """The JSON of a citation as a line of an answer contains it."""
    return json.dumps({"source": value}, ensure_ascii=False)


# The list


async def listed(bridge: RunningBridge) -> list[dict[str, Any]]:
    return [model.model_dump() async for model in bridge.sdk().models.list()]


async def test_the_list_of_models_is_sorted_by_modality_and_rank(bridge: RunningBridge) -> None:
    models = await listed(bridge)
    assert [modality for modality, _ in groupby(model["modality"] for model in models)] == [
        "chat",
        "search",
        "image",
        "video",
    ]
    for before, after in pairwise(models):
        if before["modality"] == after["modality"]:
            assert (before["rank"] or 1 << 53) <= (after["rank"] or 1 << 53)
    assert {model["rank"] for model in models} >= {None, 1}


async def test_stealth_models_chat_search_and_draw_if_they_are_allowed(arena: Arena, tmp_path: Path) -> None:
    stealth = {model.public_name for model in arena.models if model.organization is None and model.user_selectable}
    async with running_bridge(arena, tmp_path / "closed") as bridge:
        assert not stealth & {model["id"].partition("@")[0] for model in await listed(bridge)}
    overrides = {"models": {"stealth": True}}
    async with running_bridge(arena, tmp_path / "open", overrides, key_options={"stealth": True}) as bridge:
        models = await listed(bridge)
        assert {model["id"].partition("@")[0] for model in models if model["owned_by"] == "stealth"} == stealth
        assert (await ask(bridge, "/say hello", stream=True, model="november-fog"))[0] == "hello"
        assert len((await ask(bridge, "/say hello", stream=True, model="hazel-search"))[1]) > 1
        drawing = await bridge.sdk().images.generate(model="marmalade-image", prompt="a cat")
        assert drawing.data is not None
