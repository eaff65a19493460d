"""`check` against a site, a configuration and a state of every kind: one clear line each, and the exit code."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from handlers.commands import main
from upstream.arena import Arena, Session

CHECKOUT = Path(__file__).parents[2]
SERVES = "The bridge can serve chats."
DOES_NOT = "The bridge could not serve a chat."


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working folder and a home outside the checkout, and logging as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def run(*words: str, stdin: str = "", **env: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, words, input=stdin, env=env)


async def check(arena: Arena, *sessions: Session, **env: str) -> Result:
    """Check a bridge with these sessions' accounts and one key, in a thread; the site is `arena`."""
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin, **env}

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


async def test_all_is_well(arena: Arena) -> None:
    result = await check(arena, arena.sign_in("ada@example.org"))
    expected = (
        "✓ configuration: no bridge.toml, so the defaults hold",
        f"✓ state folder: {Path.cwd() / 'state'}",
        "✓ API keys: 1",
        f"✓ LMArena: {arena.origin} answers",
        r"✓ account ada: ada@example.org, its cookie expires in \d days \(.*\)",
        rf"✓ models: {len(arena.models)}, \d+ of them stealth, 1 more cannot be read",
        "✓ upload action ids: found",
        SERVES,
    )
    assert re.fullmatch("\n".join(expected) + "\n", result.stdout)
    assert (result.stderr, result.exit_code) == ("", 0)


async def test_nothing_has_been_set_up_yet(arena: Arena, tmp_path: Path) -> None:
    result = await asyncio.to_thread(run, "check", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    assert result.exit_code == 1
    assert line(result, "state folder").endswith("state, which is made at the first start")
    assert line(result, "API keys") == "! API keys: none, so nobody may call: lmarena-bridge keys add --name NAME"
    assert line(result, "accounts") == "✗ accounts: none: lmarena-bridge accounts add"
    assert line(result, "models").startswith("✓")
    assert not (tmp_path / "state").exists()


# Each takes the arena out of order, or says with what environment the bridge runs.
Trouble = Callable[[Arena], dict[str, str] | None]


def challenge(arena: Arena) -> None:
    arena.clearance = "what the browser has"


def fault(name: str, *, on: str = "page", **parameters: Any) -> Trouble:
    return lambda arena: arena.faults.arm(name, None, on=on, **parameters)


def unreachable(_: Arena) -> dict[str, str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": f"http://127.0.0.1:{sock.getsockname()[1]}"}


def silent(arena: Arena) -> dict[str, str]:
    arena.faults.arm("no_headers", None, on="page")
    return {"LMARENA_BRIDGE_UPSTREAM__CONNECT_TIMEOUT": "0.2"}


@pytest.mark.parametrize(
    ("trouble", "part", "said"),
    [
        pytest.param(
            unreachable, "LMArena", "✗ .* connection refused. Check the network, .*base_url", id="unreachable"
        ),
        pytest.param(silent, "LMArena", "✗ .* has not begun to answer. Check the network", id="silent"),
        pytest.param(challenge, "LMArena", "✗ .* `cf_clearance` has expired. .* copy its fresh", id="challenge"),
        pytest.param(fault("blocked"), "LMArena", "✗ .* blocks this network address", id="blocked"),
        pytest.param(fault("server_error"), "LMArena", "✗ .* LMArena failed", id="server error"),
        pytest.param(
            fault("redirect", location="https://elsewhere.example/"),
            "LMArena",
            '✗ .* upstream.base_url = "https://elsewhere.example"',
            id="moved to an unknown origin",
        ),
        pytest.param(fault("html"), "models", "✗ .* holds no list of models", id="a page without models"),
    ],
)
async def test_a_site_that_cannot_be_used(arena: Arena, trouble: Trouble, part: str, said: str) -> None:
    session = arena.sign_in("ada@example.org")
    env = trouble(arena) or {}
    result = await check(arena, session, **env)
    assert result.exit_code == 1
    assert re.match(said, line(result, part))
    assert "cookie expires in" in line(result, "account ada")
    assert result.stdout.endswith(f"{DOES_NOT}\n")


async def test_an_expired_cookie_is_named_with_what_to_do(arena: Arena) -> None:
    result = await check(arena, arena.sign_in("ada@example.org", expires_in=-7300))
    assert result.exit_code == 1
    assert re.fullmatch(
        r"✗ account ada: ada@example\.org, its cookie expired 2 hours ago \(.*\); LMArena does not accept it: "
        "renew it: lmarena-bridge accounts add --label ada",
        line(result, "account ada"),
    )
    assert line(result, "models").startswith("✓")


async def test_one_account_that_works_is_enough(arena: Arena) -> None:
    result = await check(arena, arena.sign_in("old@example.org", expires_in=-1), arena.sign_in("new@example.org"))
    assert result.exit_code == 0
    assert line(result, "account old").startswith("! ")
    assert line(result, "account new").startswith("✓ ")


async def test_a_cookie_that_ends_soon_is_worth_a_look(arena: Arena) -> None:
    result = await check(arena, arena.sign_in("ada@example.org", expires_in=7300))
    assert result.exit_code == 0
    assert line(result, "account ada").startswith("! account ada: ada@example.org, its cookie expires in 2 hours (")


async def test_models_of_before_are_mentioned(arena: Arena) -> None:
    session = arena.sign_in()
    await check(arena, session)
    await asyncio.to_thread(run, "models", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    arena.faults.arm("html", None, on="page")
    result = await check(arena, session)
    assert re.match(rf"! models: .*; {len(arena.models)} are known from before", line(result, "models"))
    assert result.exit_code == 0


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
    assert "! configuration: cf_clearance holds for its own browser only: set upstream.user_agent" in result.stdout
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
        pytest.param(lambda path: path.write_text(""), "is no folder", id="a file in its place"),
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
        subprocess.run, [sys.executable, "-m", "bridge", "check"], capture_output=True, env=env, timeout=10
    )
    assert checked.returncode == 1
    assert f"? state folder: {folder}, which is made at the first start\n".encode() in checked.stdout
    assert b"\x1b" not in checked.stdout
