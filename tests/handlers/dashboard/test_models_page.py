"""Models: what the page lists, and what it shows when there is no list."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from dashboard import Dashboard, Page
from model_entries import entry
from running import RunningBridge, running_bridge

from bridge.statistics.counts import Outcome, ToolUse
from handlers.request.appkeys import MODELS, STATS
from upstream.arena import Arena
from upstream.protocol.catalog import Catalog
from upstream.protocol.errors import Reason
from upstream.protocol.models import read_entries


def rows(page: Page) -> dict[str, set[str]]:
    """The capabilities of each row's model, by the name that its button copies."""
    names = [attributes["data-text"] for _, attributes in page.markup.elements if "data-text" in attributes]
    traits = [attributes["data-traits"] for tag, attributes in page.markup.elements if tag == "tr" and attributes]
    return {name: set(can.split()) for name, can in zip(names, traits, strict=True)}


async def test_the_page_lists_every_model_of_the_api_except_videos(bridge: RunningBridge, dashboard: Dashboard) -> None:
    async with bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers) as answer:
        listed = [model["id"] for model in (await answer.json())["data"]]
    films = {model.public_name for model in bridge.arena.models if "video" in model.outputs}
    assert list(rows(await dashboard.get("/dashboard/models"))) == [name for name in listed if name not in films]
    assert films & set(listed)


async def test_favourite_models_are_listed_first(bridge: RunningBridge, dashboard: Dashboard) -> None:
    await dashboard.get("/dashboard/models")
    assert (await dashboard.post("/dashboard/models/star", {"add": "deepseek-v4"})).location == "/dashboard/models"
    headers = {"X-CSRF-Token": dashboard.csrf, "Content-Type": "application/x-www-form-urlencoded"}
    assert (await dashboard.ask("POST", "/dashboard/models/star", "add=glm-5.2", headers)).status == 204
    first, second, *others = rows(await dashboard.get("/dashboard/models"))
    assert {first, second} == {"deepseek-v4", "glm-5.2"}
    assert others[0] == "gemini-4-pro"
    elements = (await dashboard.get("/dashboard/playground")).markup.elements
    options = [attributes["value"] for tag, attributes in elements if tag == "option"]
    assert set(options[:2]) == {"deepseek-v4", "glm-5.2"}

    await dashboard.post("/dashboard/models/star", {"remove": "deepseek-v4"})
    assert bridge.state.admin.favourites == ("glm-5.2",)
    assert (await dashboard.post("/dashboard/models/star", {"add": "a" * 300})).status == 400
    assert (await dashboard.post("/dashboard/models/star")).status == 400


async def test_each_model_is_listed_with_its_abilities(dashboard: Dashboard) -> None:
    shown = rows(await dashboard.get("/dashboard/models"))
    assert shown["gemini-4-pro"] == {"chat", "sees"}
    assert shown["deepseek-v4"] == {"chat"}
    assert shown["gpt-6.1-search"] == {"search", "sees"}
    assert shown["flux-3-pro"] == {"draws"}


async def test_a_display_name_that_differs_is_shown_and_searchable(bridge: RunningBridge, dashboard: Dashboard) -> None:
    listed = [
        entry(id="1", publicName="otter-1", displayName="Otter <One>"),
        entry(id="2", publicName="otter-2", displayName="otter-2"),
        entry(id="3", publicName="otter-3", displayName=...),
        entry(id="4", publicName="otter-4", displayName="Otter Four", userSelectable=False),
    ]
    await with_models(bridge, listed)
    page = await dashboard.get("/dashboard/models")
    assert list(rows(page)) == ["otter-1", "otter-2", "otter-3"]  # the name to copy is the public one
    assert page.markup.says("Otter <One>")
    searched = [attributes["data-name"].split() for _, attributes in page.markup.elements if "data-name" in attributes]
    assert searched == [["otter-1", "Otter", "<One>", "google"], ["otter-2", "google"], ["otter-3", "google"]]


@pytest.mark.parametrize("open_", [True, False], ids=["open", "closed"])
async def test_stealth_models_are_listed_only_if_they_are_enabled(open_: bool, arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", {"models": {"stealth": open_}}) as bridge:
        await bridge.app[MODELS].available()
        dashboard = Dashboard(bridge)
        await dashboard.enter()
        page = await dashboard.get("/dashboard/models")
        assert ("november-fog" in rows(page)) == open_
        assert page.markup.says("Stealth models are hidden") != open_


async def test_the_name_of_a_model_links_to_the_playground(dashboard: Dashboard) -> None:
    page = await dashboard.get("/dashboard/models")
    hrefs = [attributes.get("href", "") for tag, attributes in page.markup.elements if tag == "a"]
    (odd,) = [href for href in hrefs if "ernie" in href]
    assert parse_qs(urlsplit(odd).query) == {"model": ["ernie-5.5 (preview 0110)"]}
    fields = [attributes for tag, attributes in (await dashboard.get(odd)).markup.elements if tag == "input"]
    assert [field["value"] for field in fields if field.get("id") == "model"] == ["ernie-5.5 (preview 0110)"]


async def test_the_page_says_why_there_is_no_list_of_models(arena: Arena, tmp_path: Path) -> None:
    for on in ("page", "catalog"):
        arena.faults.arm("challenge", on=on, times=None)
    async with running_bridge(arena, tmp_path / "state") as bridge:
        await bridge.app[MODELS].refresh()
        dashboard = Dashboard(bridge)
        await dashboard.enter()
        page = await dashboard.get("/dashboard/models")
        assert page.markup.says("The list of models has not been read yet.")
        assert page.markup.says("challenge")
        assert (await dashboard.get("/dashboard/playground")).markup.says("No models yet")


async def test_tool_calls_of_a_model_are_shown_once_tools_were_offered(
    bridge: RunningBridge, dashboard: Dashboard
) -> None:
    assert not (await dashboard.get("/dashboard/models")).markup.says("Tools")
    stats = bridge.app[STATS]
    stats.stats.record(Outcome(200, Reason.OK, 2.0, model="gemini-4-pro", tools=ToolUse(5, 2, 1, 1, 1234)))
    await stats.flush()
    page = await dashboard.get("/dashboard/models")
    assert page.markup.says("Tools")
    assert page.markup.says("3 of 5 called, 1 once corrected, 1 unreadable")
    assert page.markup.says("1.23k characters around calls dropped")


# --- compared, filtered, sorted; new and gone ---


def visible(page: Page) -> list[str]:
    """The names of the rows that are shown, in order."""
    return [
        attributes["data-name"].rsplit(maxsplit=1)[0]
        for tag, attributes in page.markup.elements
        if tag == "tr" and "data-name" in attributes and "hidden" not in attributes
    ]


LISTED = [
    entry(id=name, publicName=name, displayName=..., rank=rank, rankByModality=...)
    for name, rank in (("otter", 3), ("heron", 1), ("wren", 2), ('"><img src=x onerror=alert(1)>\u202e', 4))
]
ODD = '"><img src=x onerror=alert(1)>�'


async def with_models(bridge: RunningBridge, listed: list[dict[str, Any]] = LISTED) -> None:
    """Make these the only models that the bridge knows."""
    await bridge.app[MODELS].available()
    bridge.app[MODELS].catalog = Catalog(read_entries(listed).models)


async def measure(bridge: RunningBridge) -> None:
    """Record requests in which otters answer soon, and wrens write fast and fail often."""
    stats = bridge.app[STATS]
    odd = str(LISTED[3]["publicName"])
    for model, ttft, tokens, failures in (
        ("otter", 0.4, 90, 0),
        ("wren", 4.0, 600, 4),
        (odd, 9, 9, 1),
    ):
        for _ in range(4):
            answer = Outcome(200, Reason.OK, ttft + 3, model=model, ttft=ttft, chunks=9, completion_tokens=tokens)
            stats.stats.record(answer)
        for _ in range(failures):
            stats.stats.record(Outcome(502, Reason.UPSTREAM_ERROR, 1.0, model=model))
    await stats.flush()


SORTED = {
    "": "heron wren otter ODD",
    "rank": "heron wren otter ODD",
    "-rank": "ODD otter wren heron",
    "name": "ODD heron otter wren",
    "first": "otter wren ODD heron",
    "-first": "ODD wren otter heron",
    "rate": "wren otter ODD heron",
    "errors": "otter ODD wren heron",
    "requests": "wren ODD otter heron",
    "nonsense": "heron wren otter ODD",
}


async def test_the_query_of_the_address_sorts_the_models(bridge: RunningBridge, dashboard: Dashboard) -> None:
    await with_models(bridge)
    await measure(bridge)
    for sort, order in SORTED.items():
        page = await dashboard.get(f"/dashboard/models?sort={sort}")
        assert visible(page) == [ODD if name == "ODD" else name for name in order.split()], sort
        sorted_by = [attributes["aria-sort"] for tag, attributes in page.markup.elements if "aria-sort" in attributes]
        assert len(sorted_by) == (0 if sort in ("", "nonsense") else 1)
        assert "<img src=x" not in page.text


async def test_the_measured_speed_and_failures_of_each_model_are_shown(
    bridge: RunningBridge, dashboard: Dashboard
) -> None:
    await with_models(bridge)
    await measure(bridge)
    page = await dashboard.get("/dashboard/models")
    text = " ".join(page.markup.text.split())
    assert "otter google sees pictures chats 3 375 ms 30 0 % 4" in text
    assert "wren google sees pictures chats 2 4.0 s 200 50 % 8" in text
    assert "heron google sees pictures chats 1 – – – –" in text


async def test_the_query_of_the_address_filters_the_models(bridge: RunningBridge, dashboard: Dashboard) -> None:
    await with_models(bridge)
    assert visible(await dashboard.get("/dashboard/models?q=GOOGLE+ott")) == ["otter"]
    assert visible(await dashboard.get("/dashboard/models?can=chat&can=nonsense&q=" + "a" * 9000)) == []
    page = await dashboard.get("/dashboard/models?q=otter&can=draws&can=chat&sort=-name")
    assert visible(page) == []
    hrefs = [attributes["href"] for tag, attributes in page.markup.elements if tag == "a" and "href" in attributes]
    assert "/dashboard/models?sort=-name" in hrefs  # clears the filters
    assert "/dashboard/models?q=otter&can=draws&can=chat&sort=name" in hrefs
    fields = {attributes.get("name"): attributes for tag, attributes in page.markup.elements if tag == "input"}
    assert (fields["q"]["value"], fields["at"]["value"]) == ("otter", "q=otter&can=draws&can=chat&sort=-name")
    await dashboard.get("/dashboard/keys")
    starred = await dashboard.post("/dashboard/models/star", {"add": "otter", "at": "q=ott&sort=name&x=//evil"})
    assert starred.location == "/dashboard/models?q=ott&sort=name"


async def test_reading_the_list_now_reports_new_and_removed_models(bridge: RunningBridge, dashboard: Dashboard) -> None:
    arena = bridge.arena
    (gone,) = (model for model in arena.models if model.public_name == "glm-5.2")
    others = [model for model in arena.models if model is not gone]
    arena.models = tuple(others)
    await dashboard.get("/dashboard/keys")
    answer = await dashboard.post("/dashboard/models/read", {"at": "sort=rate"})
    assert answer.location is not None
    assert answer.location.startswith("/dashboard/models?sort=rate&read=")
    page = await dashboard.get(answer.location)
    assert page.markup.says("Gone: ")
    assert f">{gone.public_name}<" in page.text
    assert page.markup.says("Gone from the site: ")

    arena.models = (replace(others[0], id="0198" + others[0].id[4:], public_name="heron <9>"), *others)
    page = await dashboard.get((await dashboard.post("/dashboard/models/read")).location or "")
    assert page.markup.says("New: ")
    assert "new" in rows(page)["heron <9>"]
    assert visible(await dashboard.get("/dashboard/models?can=new")) == ["heron <9>"]
    later = await dashboard.get("/dashboard/models?read=1")
    assert not later.markup.says("No models were added")
    arena.faults.arm("challenge", on="page", times=None)
    arena.faults.arm("challenge", on="catalog", times=None)
    page = await dashboard.get((await dashboard.post("/dashboard/models/read")).location or "")
    assert page.markup.says("The list is out of date")
    assert not page.markup.says("The site lists")
