"""The site's page, or the whole site, moves before the bridge starts or while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from answered import Answered, ask
from pictures import png, user_with
from running import RunningBridge, running_bridge
from tenacity import wait_none

from handlers.request.appkeys import CLIENT, MODELS
from upstream.arena import Arena, Call, Era

SEES_MANY = "gemini-4-pro"
PROMPT = "/say hello"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upstream.retry._back_off", wait_none())


async def show(bridge: RunningBridge, *numbers: int) -> Answered:
    """Send a chat with pictures."""
    return await ask(bridge, messages=[user_with(PROMPT, *map(png, numbers))], model=SEES_MANY)


def seen(arena: Arena) -> int:
    """How many pictures the last chat's model was shown."""
    return len(arena.evaluations[str(arena.chats[-1].evaluation_id)].messages[0].attachments)


def actions(arena: Arena) -> list[Call]:
    return [call for call in arena.calls if call.kind in ("action", "upload-url", "sign")]


def assert_no_account_marked(bridge: RunningBridge) -> None:
    assert not any(account.expired or account.cooldowns or account.bar for account in bridge.state.pool)
    assert len(bridge.state.pool.usable("chat")) == len(bridge.state.pool)


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge with two accounts, whose logins have been checked."""
    sessions = (arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org"))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.app[MODELS].available()
        await bridge.logins_checked()
        yield bridge


# The page


async def test_an_upload_is_posted_once_to_the_new_path_of_a_moved_page(arena: Arena, bridge: RunningBridge) -> None:
    assert (await show(bridge, 1)).is_good
    before = len(actions(arena))
    arena.page_path = "/text/direct2"
    arena.deploy()
    answer = await show(bridge, 2)
    assert (answer.is_good, seen(arena)) == (True, 1)
    assert [(call.path, call.status) for call in actions(arena)[before:]] == [
        ("/text/direct", 301),
        ("/text/direct2", 200),
        ("/text/direct2", 200),
    ]
    assert_no_account_marked(bridge)
    assert (await show(bridge, 3)).is_good  # the new path is known from now on
    assert [call.path for call in actions(arena)[before + 3 :]] == ["/text/direct2"] * 2


async def test_an_upload_succeeds_although_the_page_moves_between_its_steps(
    arena: Arena, bridge: RunningBridge
) -> None:
    assert (await show(bridge, 1)).is_good
    before = len(actions(arena))
    put = arena.storage.receive

    def moving(*call: Any) -> Any:
        arena.page_path = "/text/direct2"
        return put(*call)

    arena.storage.receive = moving  # type: ignore[method-assign, assignment]
    assert (await show(bridge, 2)).is_good
    assert [(call.kind, call.path) for call in actions(arena)[before:]] == [
        ("upload-url", "/text/direct"),
        ("action", "/text/direct"),
        ("sign", "/text/direct2"),
    ]
    assert_no_account_marked(bridge)


async def test_concurrent_uploads_read_the_scripts_of_a_moved_page_once(arena: Arena, bridge: RunningBridge) -> None:
    assert (await show(bridge, 1)).is_good
    scripts = sum(call.kind == "script" for call in arena.calls)
    arena.page_path = "/text/direct2"
    answers = await asyncio.gather(*(show(bridge, number, number + 100) for number in range(2, 8)))
    assert all(answer.is_good for answer in answers)
    assert sum(call.kind == "script" for call in arena.calls) == 2 * scripts  # read once more, for all of them
    assert_no_account_marked(bridge)


async def test_a_first_upload_succeeds_although_the_page_has_moved(arena: Arena, bridge: RunningBridge) -> None:
    arena.page_path = "/direct"
    assert (await show(bridge, 1, 2)).is_good
    assert seen(arena) == 2
    assert_no_account_marked(bridge)


@pytest.mark.parametrize("status", [200, 404])
async def test_a_missing_page_fails_uploads_only_while_it_stays_missing(
    status: int, arena: Arena, bridge: RunningBridge
) -> None:
    assert (await show(bridge, 1)).is_good
    arena.faults.arm("not_found", on="action", status=status)
    assert (await show(bridge, 2)).is_good
    assert_no_account_marked(bridge)
    arena.faults.arm("not_found", None, on="action", status=status)
    assert (await show(bridge, 3)).said == (502, "image_upload_failed", "upstream_error")
    assert (await ask(bridge, PROMPT)).is_good
    assert_no_account_marked(bridge)


async def test_uploads_find_a_page_that_moves_back_without_a_redirect(arena: Arena, bridge: RunningBridge) -> None:
    """A path that the site has dropped answers 200, with a page that says not found."""
    moves = (
        ("/text/direct2", None),
        ("/text/direct", "/text/direct2"),  # back to the first path
        ("/direct3", None),
        ("/direct4", "/direct3"),  # only the oldest paths still redirect
    )
    for number, (path, forgotten) in enumerate(moves):
        arena.page_path = path
        if forgotten is not None:
            arena._former_pages.discard(forgotten)
        assert (await show(bridge, number)).is_good
        assert (seen(arena), bridge.app[CLIENT].location.page_path) == (1, path)
    assert_no_account_marked(bridge)


async def test_chats_continue_while_the_page_moves(arena: Arena, bridge: RunningBridge) -> None:
    arena.page_path = "/text/direct2"
    first = await ask(bridge, PROMPT)
    second = await ask(bridge, PROMPT, first.text, PROMPT)
    assert (second.is_good, second.place) == (True, "follow-up; why=known")
    assert all(call.refusal is None for call in arena.chats)


async def test_an_upload_redirected_to_a_login_page_expires_an_account_with_a_dead_login(
    arena: Arena, bridge: RunningBridge
) -> None:
    ada, bob = (account.user_id for account in bridge.state.pool)
    arena.faults.arm("login_redirect", None, on="action", account=ada)
    arena.faults.arm("login_redirect", None, on="me", account=ada)
    for number in (1, 2):
        answer = await show(bridge, number)
        assert (answer.is_good, arena.chats[-1].account) == (True, bob)
    assert {account.user_id: account.expired for account in bridge.state.pool} == {ada: True, bob: False}
    assert sum(call.account == ada for call in actions(arena)) == 1


async def test_an_upload_redirected_once_to_a_login_page_is_repeated_if_the_login_is_valid(
    arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("login_redirect", on="action")
    assert (await show(bridge, 1)).is_good
    assert_no_account_marked(bridge)


@pytest.mark.parametrize("bare", [True, False], ids=["bare", "full"])
async def test_upload_scripts_are_found_with_and_without_their_folder(
    bare: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.bare_script_names = bare
    assert (await show(bridge, 1)).is_good
    assert seen(arena) == 1


@pytest.mark.parametrize("era", [2025, 2026])
async def test_the_page_is_found_without_being_configured(era: Era, tmp_path: Path) -> None:
    async with Arena(era=era) as arena, running_bridge(arena, tmp_path / "state") as bridge:
        answer = await show(bridge, 1)
        assert (answer.is_good, seen(arena)) == (True, 1)
        assert (await ask(bridge, PROMPT)).is_good
        assert_no_account_marked(bridge)


async def test_chats_and_uploads_survive_a_change_of_the_sites_era(arena: Arena, bridge: RunningBridge) -> None:
    """In one direction the old page redirects to the new one, in the other it is gone without a redirect."""
    assert (await show(bridge, 1)).is_good
    for number, era in enumerate((2025, 2026), 2):
        arena.era = era  # type: ignore[assignment]
        assert (await show(bridge, number)).is_good
        assert (await ask(bridge, PROMPT)).is_good
    assert_no_account_marked(bridge)


# The site


@asynccontextmanager
async def with_a_new_home(path: Path, arena: Arena) -> AsyncIterator[tuple[RunningBridge, Arena]]:
    """A bridge, and a second origin with the same site, to which the bridge may follow redirects."""
    async with Arena() as new:
        for name in ("models", "accounts", "evaluations", "storage", "deployment", "_used_ids"):
            setattr(new, name, getattr(arena, name))
        overrides = {"upstream": {"origins": [new.origin]}}
        async with running_bridge(arena, path / "state", overrides) as bridge:
            await bridge.app[MODELS].available()
            await bridge.logins_checked()
            yield bridge, new


async def test_chats_and_uploads_follow_the_site_to_an_allowed_origin(arena: Arena, tmp_path: Path) -> None:
    async with with_a_new_home(tmp_path, arena) as (bridge, new):
        first = await ask(bridge, PROMPT)
        assert (await show(bridge, 1)).is_good
        arena.moved_to = new.origin
        old_calls = len(arena.calls)
        second = await ask(bridge, PROMPT, first.text, PROMPT)
        assert (second.is_good, second.place) == (True, "follow-up; why=known")
        assert second.headers["x-bridge-evaluation"].startswith(f"{new.origin}/c/")
        assert (await show(bridge, 2)).is_good
        assert seen(new) == 1
        assert len(arena.calls) == old_calls + 1  # after one redirect the old origin is not asked again
        assert_no_account_marked(bridge)


async def test_an_upload_follows_a_site_that_has_moved(arena: Arena, tmp_path: Path) -> None:
    async with with_a_new_home(tmp_path, arena) as (bridge, new):
        assert (await show(bridge, 1)).is_good
        arena.moved_to = new.origin
        assert (await show(bridge, 2)).is_good
        assert seen(new) == 1
        assert_no_account_marked(bridge)


async def test_an_upload_follows_a_site_and_a_page_that_moved_together(arena: Arena, tmp_path: Path) -> None:
    async with with_a_new_home(tmp_path, arena) as (bridge, new):
        assert (await show(bridge, 1)).is_good
        arena.moved_to = new.origin
        new.page_path = "/chat/direct"
        new.deploy()
        assert (await show(bridge, 2)).is_good
        assert seen(new) == 1
        assert_no_account_marked(bridge)


async def test_the_old_origin_is_used_again_when_the_new_one_dies(arena: Arena, tmp_path: Path) -> None:
    async with with_a_new_home(tmp_path, arena) as (bridge, new):
        arena.moved_to = new.origin
        assert (await ask(bridge, PROMPT)).is_good
        arena.moved_to = None
        await new.stop()
        answer = await ask(bridge, PROMPT)
        assert (answer.is_good, bridge.app[CLIENT].location.origin) == (True, arena.origin)
        assert (await show(bridge, 1)).is_good
        assert_no_account_marked(bridge)


async def test_a_redirect_to_a_dead_origin_is_an_error_until_the_redirect_ends(arena: Arena, tmp_path: Path) -> None:
    async with with_a_new_home(tmp_path, arena) as (bridge, new):
        arena.moved_to = new.origin
        await new.stop()
        answer = await ask(bridge, PROMPT)
        assert answer.said == (502, "upstream_error", "unreachable")
        arena.moved_to = None
        assert (await ask(bridge, PROMPT)).is_good
        assert_no_account_marked(bridge)


async def test_redirects_out_of_the_allowed_origins_are_not_followed(arena: Arena, bridge: RunningBridge) -> None:
    async with Arena() as elsewhere:
        arena.moved_to = elsewhere.origin
        for _ in range(2):
            answer = await ask(bridge, PROMPT)
            assert answer.said == (502, "upstream_redirect", "upstream_error")
        assert (await show(bridge, 1)).said == (502, "upstream_redirect", "upstream_error")
        assert not elsewhere.calls
        assert_no_account_marked(bridge)
