"""`check`: a working setup, no setup, an unusable state or configuration, and the output to a pipe."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from checking import DOES_NOT, check, line, shown_logins
from commands import COMMAND, run

from upstream.arena import Arena

SERVES = "The bridge can serve chats."

pytestmark = pytest.mark.usefixtures("elsewhere")


async def test_check_reports_a_working_setup_in_full(arena: Arena) -> None:
    result = await check(arena, arena.sign_in("ada@example.org"))
    models = sum(model.user_selectable for model in arena.models)
    rest = "2 withheld by the site, 2 entries cannot be read"
    expected = (
        "✓ configuration: no bridge.toml, so the defaults apply",
        rf"✓ state folder: {Path.cwd() / 'state'}, [\d,.]+ GB free",
        "✓ daemon: is not running, but could listen on 127.0.0.1, port 0: lmarena-bridge serve",
        "! dashboard: it has no password yet: lmarena-bridge password",
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
    assert shown_logins(arena) == ["me", "me"]  # everything else is fetched without a login


async def test_check_reports_missing_keys_and_accounts_before_any_setup(arena: Arena, tmp_path: Path) -> None:
    result = await asyncio.to_thread(run, "check", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    assert result.exit_code == 1
    assert line(result, "state folder").endswith("state, which will be created at the first start")
    assert (
        line(result, "API keys") == "! API keys: none, so no request is accepted: lmarena-bridge keys add --name NAME"
    )
    assert line(result, "accounts") == (
        "✗ accounts: none: paste a cookie into the dashboard or `lmarena-bridge accounts add`"
    )
    assert line(result, "models").startswith("✓")
    assert not (tmp_path / "state").exists()


async def test_missing_upload_action_ids_are_only_a_warning(arena: Arena) -> None:
    arena.faults.arm("server_error", None, on="script")
    result = await check(arena, arena.sign_in())
    assert result.exit_code == 0
    assert line(result, "upload action ids").startswith(
        "! upload action ids: generateUploadUrl, getSignedUrl not found"
    )


async def test_a_cookie_that_the_site_rotates_during_check_is_saved(arena: Arena) -> None:
    session = arena.sign_in()
    arena.rotate(session)
    assert (await check(arena, session)).exit_code == 0
    accounts = await asyncio.to_thread(Path("state/accounts.json").read_text)
    assert json.loads(accounts)["accounts"][0]["cookie"] == session.cookie_value


async def test_a_clearance_without_its_user_agent_is_a_warning(arena: Arena) -> None:
    arena.clearance = "clear"
    result = await check(arena, arena.sign_in(), LMARENA_BRIDGE_UPSTREAM__CF_CLEARANCE="clear")
    assert result.exit_code == 0
    assert (
        "! configuration: cf_clearance works only with its browser's user agent: set upstream.user_agent"
        in result.stdout
    )
    assert line(result, "upload action ids").startswith("✓")


def test_every_problem_of_a_configuration_has_its_own_line() -> None:
    Path("bridge.toml").write_text('[server]\nport = "x"\nhots = "y"\n[limits]\nrpm = 0\n')
    result = run("check")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        '✗ configuration: bridge.toml:2: server.port: found "x"; allowed: a whole number from 0 to 65535',
        "✗ configuration: bridge.toml:3: server.hots: unknown name; did you mean server.host?",
        "✗ configuration: bridge.toml:5: limits.rpm: found 0; allowed: a whole number from 1 to 1000000",
        DOES_NOT,
    ]


def test_a_missing_configuration_file_is_reported_and_exits_1() -> None:
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
def test_an_unusable_state_folder_is_reported_and_exits_1(make: Callable[[Path], object], said: str) -> None:
    make(Path("state"))
    result = run("check")
    assert result.exit_code == 1
    assert re.search(f"^✗ state folder: .*{said}", result.stdout, re.MULTILINE)


async def test_output_to_a_pipe_has_plain_unwrapped_lines(arena: Arena, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 50)
    env = {
        **os.environ,
        "COLUMNS": "40",
        "LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin,
        "LMARENA_BRIDGE_SERVER__STATE_DIR": str(folder),
        "PYTHONIOENCODING": "latin-1",  # it cannot encode the marks
    }
    checked = await asyncio.to_thread(subprocess.run, [*COMMAND, "check"], capture_output=True, env=env, timeout=60)
    assert checked.returncode == 1
    assert f"? state folder: {folder}, which will be created at the first start\n".encode() in checked.stdout
    assert b"\x1b" not in checked.stdout
