"""Moves of the site and of its page, and the answers at their former addresses."""

from __future__ import annotations

import json
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest

from upstream.arena import Arena

if TYPE_CHECKING:
    from tests.upstream.arena.conftest import Caller

in_2026 = pytest.mark.parametrize("arena", [2026], indirect=True)


@in_2026
@pytest.mark.parametrize("path", ["/?mode=direct", "/"])
async def test_the_former_page_redirects_reads_and_actions(arena: Arena, caller: Caller, path: str) -> None:
    headers = caller.headers(accept="text/x-component", next_action=arena.deployment.actions["generateUploadUrl"])
    posted = await caller.send("POST", path, b'["cat.png","image/png"]', headers=headers)
    for answer in (posted, await caller.page(path), await caller.page(path, cookie="")):
        assert (answer.status, answer.headers["location"], answer.body) == (301, "/text/direct", b"")
    assert [(call.kind, call.account) for call in arena.calls] == [("action", None), ("page", None), ("page", None)]


@in_2026
@pytest.mark.parametrize("path", ["/text/direct", "/search/direct", "/image/direct", "/code/direct"])
async def test_each_page_of_a_modality_lists_the_models(arena: Arena, caller: Caller, path: str) -> None:
    answer = await caller.page(path)
    assert (answer.status, b"initialModels" in answer.body, arena.calls[-1].kind) == (200, True, "page")
    assert path.split("/")[1].encode() in answer.body


@in_2026
async def test_the_page_can_move_again_and_back(arena: Arena, caller: Caller) -> None:
    arena.page_path = "/chat/direct"
    for path in ("/text/direct", "/?mode=direct"):
        assert (await caller.page(path)).headers["location"] == "/chat/direct"
        assert (await caller.send("POST", path)).status == 301
    assert (await caller.page("/chat/direct")).status == 200
    assert (await caller.result("generateUploadUrl", "cat.png", "image/png"))["success"]
    arena.page_path = "/text/direct"
    assert (await caller.page("/chat/direct")).headers["location"] == "/text/direct"
    assert (await caller.page("/text/direct")).status == 200


async def test_the_page_can_omit_the_list_of_models(arena: Arena, caller: Caller) -> None:
    arena.page_models = False
    page = (await caller.page()).body.decode()
    assert r"\"initialModels\":\"$undefined\"" in page
    assert arena.models[0].id not in page
    arena.page_models = True
    assert arena.models[0].id in (await caller.page()).body.decode()


@in_2026
@pytest.mark.parametrize("bare", [True, False])
async def test_the_name_of_the_actions_script_is_in_the_flight_data_and_optionally_in_a_tag(
    arena: Arena, caller: Caller, bare: bool
) -> None:
    assert arena.bare_script_names is True
    arena.bare_script_names = bare
    page = (await caller.page()).body.decode()
    assert (re.search(r'src="/_next/static/chunks/app-page-', page) is None) == bare
    [path] = {found[1] for found in re.finditer(r'\\"(static/chunks/app-page-[0-9a-f]{16}\.js)\\"', page)}
    script = await caller.page(f"/_next/{path}")
    assert (script.status, b"generateUploadUrl" in script.body) == (200, True)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_the_site_can_move_to_another_origin(arena: Arena, caller: Caller, method: str) -> None:
    arena.moved_to = "https://arena.example"
    answer = await caller.send(method, "/nextjs-api/stream/create-evaluation?a=b%20c", b"{}")
    location = "https://arena.example/nextjs-api/stream/create-evaluation?a=b+c"
    assert (answer.status, answer.headers["location"]) == (301, location)
    assert (await caller.page()).headers["location"] == f"https://arena.example{arena.page_path}"
    assert [call.account for call in arena.calls] == [None, None]
    arena.moved_to = None
    assert (await caller.ask()).status == 200


async def test_every_answer_has_the_sites_own_time(arena: Arena, caller: Caller) -> None:
    caller.session = arena.sign_in(expires_in=10 * 86400.0)
    now = arena.clock()
    arena.clock = lambda: now + 5000
    for answer in (await caller.page(), await caller.ask(), await caller.ask("")):
        assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])
        assert parsedate_to_datetime(answer.headers["date"]).timestamp() == int(now + 5000)


@in_2026
async def test_the_era_can_change_while_the_arena_runs(arena: Arena, caller: Caller) -> None:
    arena.era = 2025
    assert (arena.page_path, list(arena.modes), arena.bare_script_names) == ("/?mode=direct", ["direct"], False)
    assert [(await caller.page()).status, (await caller.page("/text/direct")).status] == [200, 404]
    assert (await caller.ask()).status == 200
    arena.era = 2026
    assert (await caller.page("/?mode=direct")).status == 301
    assert json.loads((await caller.page("/api/me")).body)["email"] == "ada@example.org"


def test_an_era_other_than_2025_or_2026_is_an_error() -> None:
    with pytest.raises(ValueError, match="2025 or 2026"):
        Arena(era=2024)  # type: ignore[arg-type]
