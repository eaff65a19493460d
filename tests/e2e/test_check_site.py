"""`check`: it reports a site that cannot be used, or whose models or pages have moved."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from checking import DOES_NOT, check, line, shown_logins
from commands import run

from upstream.arena import Arena

pytestmark = pytest.mark.usefixtures("elsewhere")

# Each breaks the arena, or returns environment variables for the bridge, or both.
Trouble = Callable[[Arena], dict[str, str] | None]


def challenge(arena: Arena) -> None:
    arena.clearance = "what the browser has"


def fault(name: str, **parameters: Any) -> Trouble:
    """Arm a fault for the page and the catalog, so that neither can be read."""

    def arm(arena: Arena) -> None:
        for kind in ("page", "catalog"):
            arena.faults.arm(name, None, on=kind, **parameters)

    return arm


def unreachable(_: Arena) -> dict[str, str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": f"http://127.0.0.1:{sock.getsockname()[1]}"}


def silent(arena: Arena) -> dict[str, str]:
    fault("no_headers")(arena)
    return {"LMARENA_BRIDGE_UPSTREAM__CONNECT_TIMEOUT": "0.2"}


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        pytest.param(unreachable, "✗ .* connection refused. Check the network, .*base_url", id="unreachable"),
        pytest.param(silent, "✗ .* has not begun to answer. Check the network", id="silent"),
        pytest.param(
            challenge,
            "✗ .* `cf_clearance` has expired. Open the site in your browser, copy any request",
            id="challenge",
        ),
        pytest.param(fault("blocked"), "✗ .* blocks this network address", id="blocked"),
        pytest.param(fault("server_error"), "✗ .* LMArena failed", id="server error"),
        pytest.param(
            fault("redirect", location="https://elsewhere.example/"),
            '✗ .* upstream.base_url = "https://elsewhere.example"',
            id="moved to an unknown origin",
        ),
    ],
)
async def test_check_explains_why_the_site_cannot_be_used(arena: Arena, trouble: Trouble, said: str) -> None:
    session = arena.sign_in("ada@example.org")
    env = trouble(arena) or {}
    result = await check(arena, session, **env)
    assert result.exit_code == 1
    assert re.match(said, line(result, "LMArena"))
    assert line(result, "account ada").endswith("its login renews itself; LMArena was not asked about it")
    assert line(result, "models").startswith("✗ ")
    assert "clock" not in result.stdout
    assert result.stdout.endswith(f"{DOES_NOT}\n")
    assert shown_logins(arena) == []


def no_page(arena: Arena) -> None:
    arena.faults.arm("server_error", None, on="page")


def no_catalog(arena: Arena) -> None:
    arena.faults.arm("server_error", None, on="catalog")


def page_without_models(arena: Arena) -> None:
    arena.page_models = False


def catalog_gone(arena: Arena) -> None:
    arena.catalog_served = False


@pytest.mark.parametrize(
    ("trouble", "site", "models"),
    [
        pytest.param(
            no_page,
            "! LMArena: .* answers, but its page cannot be read: LMArena failed",
            r"! models: \d+, .* \(from the catalog only: the page cannot be read\)",
            id="no page",
        ),
        pytest.param(
            no_catalog,
            "! LMArena: .* answers, but its list of models cannot be read: LMArena failed",
            r"! models: \d+, .* \(from the page only: the catalog cannot be read\)",
            id="no catalog",
        ),
        pytest.param(
            page_without_models,
            "✓ LMArena: .* answers$",
            r"✓ models: \d+, .* \(from the catalog only: the page has no list\)",
            id="a page without models",
        ),
        pytest.param(
            catalog_gone,
            "✓ LMArena: .* answers$",
            r"✓ models: \d+, .* \(from the page only: the site has no catalog\)",
            id="a site without a catalog",
        ),
    ],
)
async def test_check_passes_when_only_the_catalog_or_only_the_page_lists_models(
    arena: Arena, trouble: Trouble, site: str, models: str
) -> None:
    trouble(arena)
    result = await check(arena, arena.sign_in("ada@example.org"))
    assert result.exit_code == 0
    assert re.match(site, line(result, "LMArena"))
    assert re.match(models, line(result, "models"))
    assert line(result, "account ada").startswith("✓")
    assert ("upload action ids" in result.stdout) == (trouble is not no_page)


async def test_check_names_the_new_path_of_a_moved_page(arena: Arena) -> None:
    arena.page_path = "/chat/direct"
    result = await check(arena, arena.sign_in())
    assert line(result, "LMArena") == f"✓ LMArena: {arena.origin} answers; its page is now at /chat/direct"


async def test_check_names_the_origin_that_redirects_to_the_site(arena: Arena) -> None:
    async with Arena() as former:
        former.moved_to = arena.origin
        env = {
            "LMARENA_BRIDGE_UPSTREAM__BASE_URL": former.origin,
            "LMARENA_BRIDGE_UPSTREAM__ORIGINS": json.dumps([former.origin, arena.origin]),
        }
        result = await check(arena, arena.sign_in(), **env)
    assert line(result, "LMArena") == f"✓ LMArena: {arena.origin} answers; {former.origin} redirects there"


@pytest.mark.parametrize(("ahead", "said"), [(900, "behind"), (-900, "ahead of")])
async def test_a_wrong_clock_of_this_machine_is_a_warning(arena: Arena, ahead: int, said: str) -> None:
    arena.clock = lambda: time.time() + ahead
    result = await check(arena, arena.sign_in("ada@example.org"))
    assert result.exit_code == 0
    assert re.fullmatch(
        rf"! clock: This machine's clock is (899|90\d) s {said} LMArena's: set the clock by NTP; "
        r"meanwhile the bridge corrects its ids\.",
        line(result, "clock"),
    )
    assert line(result, "account ada").startswith("✓")


async def test_check_exits_1_when_no_model_can_be_read_or_is_known(arena: Arena) -> None:
    arena.page_models, arena.catalog_served = False, False
    result = await check(arena, arena.sign_in())
    assert result.exit_code == 1
    assert line(result, "models") == (
        "✗ models: LMArena lists no model that can be read, and none are known from earlier"
    )


async def test_models_known_from_earlier_are_mentioned_when_none_can_be_read(arena: Arena) -> None:
    session = arena.sign_in()
    await check(arena, session)
    await asyncio.to_thread(run, "models", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    arena.page_models, arena.catalog_served = False, False
    result = await check(arena, session)
    assert re.match(
        rf"! models: .*; {len(arena.models)} are known from the last time the list was read", line(result, "models")
    )
    assert result.exit_code == 0
