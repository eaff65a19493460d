"""`check` against a site, a configuration and a state of every kind: one clear line each, and the exit code."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bridge.state.documents import StateFolder
from bridge.state.state import accounts_document
from handlers.commands.main import main
from upstream.accounts import EVERYTHING
from upstream.arena import Arena, Session

CHECKOUT = Path(__file__).parents[2]
SERVES = "The bridge can serve chats."
DOES_NOT = "The bridge cannot serve chats."


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder and a home outside the checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def run(*words: str, stdin: str = "", **env: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, words, input=stdin, env=env)


async def check(arena: Arena, *sessions: Session, **env: str) -> Result:
    """Check a bridge with these sessions' accounts and one key, in a thread; the site is `arena`."""
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin, "LMARENA_BRIDGE_SERVER__PORT": "0", **env}

    def all_of_it() -> Result:
        run("keys", "add", "--name", "me")
        for session in sessions:
            run("accounts", "add", "--label", session.email.partition("@")[0], stdin=session.cookie_value)
        return run("check", **env)

    return await asyncio.to_thread(all_of_it)


def line(result: Result, part: str) -> str:
    """The one line about `part`, mark and all."""
    (found,) = (line for line in result.stdout.splitlines() if line[2:].startswith(f"{part}: "))
    return found


def stored() -> list[dict[str, Any]]:
    """The accounts as they stand on disk."""
    accounts: list[dict[str, Any]] = json.loads(Path("state/accounts.json").read_bytes())["accounts"]
    return accounts


def shown_logins(arena: Arena) -> list[str]:
    """The kinds of calls that showed a login to the site."""
    return [call.kind for call in arena.calls if "arena-auth" in call.headers.get("cookie", "")]


def signed_in_ago(arena: Arena, seconds: float, email: str = "ada@example.org") -> Session:
    """A login whose token was issued so long ago, for an hour."""
    arena.clock = lambda: time.time() - seconds
    session = arena.sign_in(email)
    arena.clock = time.time
    return session


async def test_all_is_well(arena: Arena) -> None:
    result = await check(arena, arena.sign_in("ada@example.org"))
    models = sum(model.user_selectable for model in arena.models)
    rest = "2 withheld by the site, 2 entries cannot be read"
    expected = (
        "✓ configuration: no bridge.toml, so the defaults apply",
        rf"✓ state folder: {Path.cwd() / 'state'}, [\d,.]+ GB free",
        "✓ daemon: does not run, but could listen on 127.0.0.1, port 0: lmarena-bridge serve",
        "! dashboard: no password yet: lmarena-bridge password",
        "✓ API keys: 1",
        f"✓ LMArena: {arena.origin} answers",
        "✓ clock: within 60 s of LMArena's",
        "✓ account ada: ada@example.org, its login renews itself",
        rf"✓ models: {models}, \d+ of them stealth, {rest} \(from the catalog and the page\)",
        "✓ upload action ids: found",
        SERVES,
    )
    assert re.fullmatch("\n".join(expected) + "\n", result.stdout)
    assert (result.stderr, result.exit_code) == ("", 0)
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin, "LMARENA_BRIDGE_SERVER__PORT": "0"}
    told = json.loads((await asyncio.to_thread(run, "check", "--json", **env)).stdout)
    assert told["serving"] is True
    assert [f"{each['part']}: {each['text']}" for each in told["lines"]] == [
        line[2:] for line in result.stdout.splitlines()[:-1]
    ]
    assert shown_logins(arena) == ["me", "me"]  # all else is read as a visitor


async def test_nothing_has_been_set_up_yet(arena: Arena, tmp_path: Path) -> None:
    result = await asyncio.to_thread(run, "check", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    assert result.exit_code == 1
    assert line(result, "state folder").endswith("state, which will be created at the first start")
    assert line(result, "API keys") == "! API keys: none, so no caller is admitted: lmarena-bridge keys add --name NAME"
    assert line(result, "accounts") == (
        "✗ accounts: none: paste a cookie into the dashboard or `lmarena-bridge accounts add`"
    )
    assert line(result, "models").startswith("✓")
    assert not (tmp_path / "state").exists()


# --- the site ---

# Each takes the arena out of order, or says with what environment the bridge runs.
Trouble = Callable[[Arena], dict[str, str] | None]


def challenge(arena: Arena) -> None:
    arena.clearance = "what the browser has"


def fault(name: str, **parameters: Any) -> Trouble:
    """Neither the page nor the catalog can be read."""

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
async def test_a_site_that_cannot_be_used(arena: Arena, trouble: Trouble, said: str) -> None:
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
            r"✓ models: \d+, .* \(from the catalog only: the page holds no list\)",
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
async def test_either_the_catalog_or_the_page_is_enough(arena: Arena, trouble: Trouble, site: str, models: str) -> None:
    trouble(arena)
    result = await check(arena, arena.sign_in("ada@example.org"))
    assert result.exit_code == 0
    assert re.match(site, line(result, "LMArena"))
    assert re.match(models, line(result, "models"))
    assert line(result, "account ada").startswith("✓")
    assert ("upload action ids" in result.stdout) == (trouble is not no_page)


async def test_a_page_that_has_moved_is_named(arena: Arena) -> None:
    arena.page_path = "/chat/direct"
    result = await check(arena, arena.sign_in())
    assert line(result, "LMArena") == f"✓ LMArena: {arena.origin} answers; its page is at /chat/direct now"


async def test_an_origin_that_has_moved_is_named(arena: Arena) -> None:
    async with Arena() as former:
        former.moved_to = arena.origin
        env = {
            "LMARENA_BRIDGE_UPSTREAM__BASE_URL": former.origin,
            "LMARENA_BRIDGE_UPSTREAM__ORIGINS": json.dumps([former.origin, arena.origin]),
        }
        result = await check(arena, arena.sign_in(), **env)
    assert line(result, "LMArena") == f"✓ LMArena: {arena.origin} answers; {former.origin} redirects there"


@pytest.mark.parametrize(("ahead", "said"), [(900, "behind"), (-900, "ahead of")])
async def test_a_clock_that_is_wrong_is_worth_a_look(arena: Arena, ahead: int, said: str) -> None:
    arena.clock = lambda: time.time() + ahead
    result = await check(arena, arena.sign_in("ada@example.org"))
    assert result.exit_code == 0
    assert re.fullmatch(
        rf"! clock: This machine's clock is (899|90\d) s {said} LMArena's: set it right \(NTP\)\. "
        r"Ids are corrected meanwhile\.",
        line(result, "clock"),
    )
    assert line(result, "account ada").startswith("✓")


async def test_no_models_anywhere(arena: Arena) -> None:
    arena.page_models, arena.catalog_served = False, False
    result = await check(arena, arena.sign_in())
    assert result.exit_code == 1
    assert line(result, "models") == (
        "✗ models: LMArena lists no model that can be read, and none are known from an earlier reading"
    )


async def test_models_of_before_are_mentioned(arena: Arena) -> None:
    session = arena.sign_in()
    await check(arena, session)
    await asyncio.to_thread(run, "models", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    arena.page_models, arena.catalog_served = False, False
    result = await check(arena, session)
    assert re.match(rf"! models: .*; {len(arena.models)} are known from an earlier reading", line(result, "models"))
    assert result.exit_code == 0


# --- accounts ---


async def test_a_login_that_the_site_refuses_is_named_with_what_to_do(arena: Arena) -> None:
    session = arena.sign_in("ada@example.org")
    arena.expire(session)
    result = await check(arena, session)
    assert result.exit_code == 1
    assert line(result, "account ada") == (
        "✗ account ada: ada@example.org, the site no longer accepts its login: log in again, and paste the new cookie "
        "into the dashboard or `lmarena-bridge accounts add --label ada`"
    )
    assert line(result, "models").startswith("✓")
    assert stored()[0]["expired"] is True
    session.alive = True  # the site has thought better of it
    result = await asyncio.to_thread(run, "check", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    assert line(result, "account ada").startswith("✓")
    assert stored()[0]["expired"] is False


def guest(session: Session) -> None:
    session.guest = True


def without_consent(session: Session) -> None:
    session.consented = False


@pytest.mark.parametrize(
    ("befall", "bar", "said"),
    [
        pytest.param(
            guest,
            "guest",
            "the session is a guest's, .*: sign in on the site .* `lmarena-bridge accounts add --label ada`",
            id="a guest",
        ),
        pytest.param(
            without_consent,
            "terms",
            "the site's terms of use have not been accepted .*: open the site .* if you agree; .*",
            id="no consent",
        ),
    ],
)
async def test_what_keeps_an_account_from_chatting(
    arena: Arena, befall: Callable[[Session], None], bar: str, said: str
) -> None:
    session = arena.sign_in("ada@example.org")
    befall(session)
    result = await check(arena, session)
    assert result.exit_code == 1
    assert re.fullmatch(rf"✗ account ada: ada@example\.org, {said}", line(result, "account ada"))
    assert stored()[0]["bar"] == bar
    session.guest, session.consented = False, True
    result = await asyncio.to_thread(run, "check", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    assert result.exit_code == 0
    assert stored()[0]["bar"] is None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("chat", r"; on cooldown for chat for \d+ s after a 429"),
        (
            EVERYTHING,
            r"; LMArena doubts that a human uses this account: it is not used for \d+ s\. Its own page .* same flag",
        ),
    ],
)
async def test_an_account_that_rests(arena: Arena, kind: str, said: str) -> None:
    await check(arena, arena.sign_in("ada@example.org"))
    rests = {kind: time.time() + 1200}
    document = accounts_document(StateFolder(Path("state")))
    await document.update(lambda kept: tuple(replace(account, cooldowns=rests) for account in kept))
    result = await asyncio.to_thread(run, "check", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    assert result.exit_code == 1
    assert re.fullmatch(rf"✗ account ada: .* its login renews itself{said}", line(result, "account ada"))


async def test_one_account_that_works_is_enough(arena: Arena) -> None:
    old, new = arena.sign_in("old@example.org"), arena.sign_in("new@example.org")
    arena.expire(old)
    result = await check(arena, old, new)
    assert result.exit_code == 0
    assert line(result, "account old").startswith("! ")
    assert line(result, "account new").startswith("✓ ")


@pytest.mark.parametrize(
    ("seconds", "mark", "said"),
    [
        (8 * 86_400, "✓", r"the session ends for good in \d days \(.*\)"),
        (
            7300,
            "!",
            r"the session ends for good in 2 hours \(.*\): before then, log in again, and paste .* --label ada`",
        ),
    ],
)
async def test_a_session_that_cannot_be_renewed(arena: Arena, seconds: int, mark: str, said: str) -> None:
    result = await check(arena, arena.sign_in("ada@example.org", expires_in=seconds, renewable=False))
    assert result.exit_code == 0
    assert re.fullmatch(rf"{mark} account ada: ada@example\.org, {said}", line(result, "account ada"))


async def test_a_site_that_cannot_say_who_is_logged_in_is_worth_a_look_while_the_token_holds(arena: Arena) -> None:
    arena.faults.arm("server_error", None, on="me")
    result = await check(arena, arena.sign_in("ada@example.org"))
    assert result.exit_code == 0
    assert re.match(
        "! account ada: .* its login renews itself, but LMArena could not be asked about it: LMArena failed",
        line(result, "account ada"),
    )
    result = await check(arena, signed_in_ago(arena, 4000))
    assert result.exit_code == 1
    assert re.match(r"✗ account ada: .*, its token ended 6 minutes ago \(.*\), but", line(result, "account ada"))


async def test_without_a_daemon_a_login_is_renewed_and_its_new_cookie_kept(arena: Arena) -> None:
    session = signed_in_ago(arena, 4000)
    old = session.cookie_value
    result = await check(arena, session)
    assert result.exit_code == 0
    assert line(result, "account ada") == "✓ account ada: ada@example.org, its login renews itself"
    assert (session.refreshes, session.spent_twice) == (1, 0)
    assert stored()[0]["cookie"] == session.cookie_value != old


@pytest.mark.parametrize(
    ("age", "asked", "mark", "said"),
    [
        pytest.param(2300, ["me"], "✓", "", id="fresh"),
        pytest.param(2500, [], "✓", ", which the running daemon will do", id="in its last third"),
        pytest.param(
            3700,
            [],
            "!",
            r", its token ended 1 minute ago \(.*\), which the running daemon will do; its /health shows the outcome",
            id="past its end",
        ),
    ],
)
async def test_beside_a_daemon_no_call_renews_a_login(
    arena: Arena, age: float, asked: list[str], mark: str, said: str
) -> None:
    folder = StateFolder(Path("state"))
    folder.prepare()
    session = signed_in_ago(arena, age)
    with folder.hold():
        result = await check(arena, session)
    assert result.exit_code == 0
    assert re.fullmatch(
        rf"{mark} account ada: ada@example\.org, its login renews itself{said}", line(result, "account ada")
    )
    assert shown_logins(arena) == asked
    assert session.refreshes == 0


async def test_a_session_that_cannot_be_renewed_is_asked_about_beside_a_daemon(arena: Arena) -> None:
    folder = StateFolder(Path("state"))
    folder.prepare()
    with folder.hold():
        await check(arena, arena.sign_in(expires_in=1, renewable=False))
    assert shown_logins(arena) == ["me"]


async def test_a_site_of_2025_shows_by_its_page_whether_it_knows_the_login(arena: Arena) -> None:
    arena.era = 2025
    ada, bob = arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org")
    arena.expire(bob)
    result = await check(arena, ada, bob)
    assert result.exit_code == 0
    assert line(result, "LMArena") == f"✓ LMArena: {arena.origin} answers; its page is at /?mode=direct now"
    assert line(result, "account ada") == "✓ account ada: ada@example.org, its login renews itself"
    assert "the site no longer accepts its login" in line(result, "account bob")
    assert [account["expired"] for account in stored()] == [False, True]


# --- the rest ---


async def test_uploads_that_cannot_work_do_not_keep_chats_from_working(arena: Arena) -> None:
    arena.faults.arm("server_error", None, on="script")
    result = await check(arena, arena.sign_in())
    assert result.exit_code == 0
    assert line(result, "upload action ids").startswith(
        "! upload action ids: generateUploadUrl, getSignedUrl not found"
    )


async def test_a_cookie_that_the_site_rotates_is_kept(arena: Arena) -> None:
    session = arena.sign_in()
    arena.rotate(session)
    assert (await check(arena, session)).exit_code == 0
    accounts = await asyncio.to_thread(Path("state/accounts.json").read_text)
    assert json.loads(accounts)["accounts"][0]["cookie"] == session.cookie_value


async def test_a_clearance_without_its_user_agent_is_worth_a_look(arena: Arena) -> None:
    arena.clearance = "clear"
    result = await check(arena, arena.sign_in(), LMARENA_BRIDGE_UPSTREAM__CF_CLEARANCE="clear")
    assert result.exit_code == 0
    assert "! configuration: cf_clearance works for its own browser only: set upstream.user_agent" in result.stdout
    assert line(result, "upload action ids").startswith("✓")


def test_every_problem_of_a_configuration_has_its_line() -> None:
    Path("bridge.toml").write_text('[server]\nport = "x"\nhots = "y"\n[limits]\nrpm = 0\n')
    result = run("check")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        '✗ configuration: bridge.toml:2: server.port: found "x"; allowed: a whole number from 0 to 65535',
        "✗ configuration: bridge.toml:3: server.hots: unknown name; did you mean server.host?",
        "✗ configuration: bridge.toml:5: limits.rpm: found 0; allowed: a whole number from 1 to 1000000",
        DOES_NOT,
    ]


def test_a_configuration_that_is_not_there() -> None:
    result = run("check", "--config", "none.toml")
    assert result.exit_code == 1
    assert "✗ configuration: none.toml: cannot be read: No such file or directory" in result.stdout


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda path: path.write_text(""), "is not a folder", id="a file in its place"),
        pytest.param(
            lambda path: (path.mkdir(), path.joinpath("keys.json").write_text("{")), "is not JSON", id="a damaged file"
        ),
    ],
)
def test_a_state_that_cannot_be_used(make: Callable[[Path], object], said: str) -> None:
    make(Path("state"))
    result = run("check")
    assert result.exit_code == 1
    assert re.search(f"^✗ state folder: .*{said}", result.stdout, re.MULTILINE)


async def test_a_pipe_gets_plain_whole_lines(arena: Arena, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 50)
    env = {
        **os.environ,
        "COLUMNS": "40",
        "LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin,
        "LMARENA_BRIDGE_SERVER__STATE_DIR": str(folder),
        "PYTHONIOENCODING": "latin-1",  # which has no such marks
    }
    checked = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "bridge", "check"], capture_output=True, env=env, timeout=60
    )
    assert checked.returncode == 1
    assert f"? state folder: {folder}, which will be created at the first start\n".encode() in checked.stdout
    assert b"\x1b" not in checked.stdout
