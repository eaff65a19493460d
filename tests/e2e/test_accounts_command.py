"""`accounts`: every form of paste, the output about each account, and the stored accounts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import COMMAND, SECONDS, arun, run, stored
from polling import until
from running import RunningBridge
from session_cookies import cookie

from bridge.state.documents import StateFolder
from bridge.state.state import accounts_document
from handlers.request.appkeys import CLIENT
from upstream.accounts import Account
from upstream.arena import Arena, Session
from upstream.protocol import cookies
from upstream.protocol.errors import Reason

pytestmark = pytest.mark.usefixtures("elsewhere")

ADD_ACCOUNT = ("accounts", "add")

AGENT = "Mozilla/5.0 (X11; Linux x86_64) Chrome/142"


def as_value(session: Session) -> str:
    return session.cookie_value


def as_pieces(session: Session) -> str:
    value = session.cookie_value
    return f"arena-auth-prod-v1.1\t{value[1000:]}\narena-auth-prod-v1.0\t{value[:1000]}\n"


def as_header(session: Session) -> str:
    return f"Cookie: theme=dark; arena-auth-prod-v1={session.cookie_value}; lang=en\r\n"


def as_curl(session: Session) -> str:
    cookies = f"cf_clearance=clear.123; arena-auth-prod-v1={session.cookie_value}"
    return f"curl 'https://lmarena.ai/' \\\n  -H 'user-agent: {AGENT}' \\\n  -b '{cookies}' \\\n  --compressed\n"


@pytest.mark.parametrize("paste", [as_value, as_pieces, as_header, as_curl])
def test_an_account_is_added_from_every_form_of_paste(paste: Any) -> None:
    session = Arena().sign_in("ada@example.org")
    result = run("accounts", "add", "--label", "ada", stdin=paste(session))
    assert result.exit_code == 0
    assert result.stdout.startswith("Added account 'ada': ada@example.org; its login renews itself.\n")
    assert stored("accounts") == [
        {"label": "ada", "cookie": session.cookie_value, "expired": False, "resting": {}, "bar": None}
    ]
    assert re.search(r"ada +ada@example\.org +renews itself +usable", run("accounts", "list").stdout)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"expired": True}, "the site no longer accepts its login"),
        ({"bar": Reason.GUEST}, "the session is a guest's, and guests may not choose a model"),
        ({"bar": Reason.TERMS}, "this account has not accepted the site's terms of use"),
        ({"cooldowns": {"chat": 900, "image": -9}}, r"on cooldown for chat for (900|8\d\d) s after a 429"),
        (
            {"cooldowns": {"everything": 1200}},
            r"LMArena doubts that a human uses this account: it is not used for 1(200|1\d\d) s\. Its own page .* flag",
        ),
        ({"cooldowns": {"chat": -1}}, "usable"),
    ],
)
async def test_the_list_of_accounts_shows_the_state_of_each(state: dict[str, Any], said: str) -> None:
    now = time.time()
    account = Account("ada", cookies.decode(Arena().sign_in("ada@example.org").cookie_value), **state)
    account = replace(account, cooldowns={kind: now + seconds for kind, seconds in account.cooldowns.items()})
    folder = StateFolder(Path("state"))
    folder.prepare()
    await accounts_document(folder).save((account,))
    result = await asyncio.to_thread(run, "accounts", "list")
    assert re.search(rf"^ada +ada@example\.org +renews itself +{said} *$", result.stdout, re.MULTILINE)


def test_adding_a_session_that_cannot_be_renewed_names_its_end() -> None:
    session = Arena().sign_in("ada@example.org", expires_in=7 * 86_400, renewable=False)
    end = r"in \d days \(\d{4}-\d\d-\d\d \d\d:\d\d \S+\)"
    added = run("accounts", "add", "--label", "ada", stdin=as_value(session))
    assert re.fullmatch(rf"Added account 'ada': ada@example\.org; the session ends for good {end}\.\n", added.stdout)
    assert re.search(rf"ada +ada@example\.org +ends for good {end} +usable", run("accounts", "list").stdout)


def test_adding_an_account_mentions_a_missing_clearance() -> None:
    session = Arena().sign_in()
    said = run(*ADD_ACCOUNT, stdin=as_value(session)).stderr
    assert "are also useful, in case the site shows a challenge page" in said
    assert "also useful" not in run(*ADD_ACCOUNT, stdin=as_curl(session)).stderr
    assert "also useful" not in run(*ADD_ACCOUNT, stdin=as_value(session)).stderr, "the clearance was stored"
    late = run("accounts", "add", stdin=as_value(Arena().sign_in(expires_in=-7300)))
    assert "its login renews itself." in late.stdout
    assert "This session has ended" not in late.stderr


@pytest.mark.parametrize(
    ("left", "end", "missing"),
    [
        pytest.param(7300, r"ends for good in 2 hours \(\d{4}-\d\d-\d\d \d\d:\d\d \S+\)", False, id="it still holds"),
        pytest.param(
            -7300, r"ended 2 hours ago \(\d{4}-\d\d-\d\d \d\d:\d\d \S+\) and cannot be renewed", True, id="it has ended"
        ),
    ],
)
def test_adding_a_session_without_a_refresh_token_tells_whether_it_has_ended(
    left: float, end: str, missing: bool
) -> None:
    added = run("accounts", "add", stdin=cookie(refresh_token=..., expires_at=time.time() + left))
    assert re.fullmatch(rf"Added account 'ada@example\.org': ada@example\.org; the session {end}\.\n", added.stdout)
    assert ("This session has ended and cannot renew itself" in added.stderr) is missing
    assert re.search(rf"ada@example\.org +{end} +usable", run("accounts", "list").stdout)


def test_a_guests_session_is_refused_with_the_advice_to_sign_in() -> None:
    result = run("accounts", "add", stdin=cookie(user={"id": "u-1", "is_anonymous": True}))
    assert result.exit_code == 1
    assert "this is a guest's session" in result.stderr
    assert "sign in to the site in that window, then copy again" in result.stderr
    assert run("accounts", "list").stderr.startswith("No account yet")


def test_the_help_explains_how_to_copy_a_lasting_login() -> None:
    shown = " ".join(run("accounts", "add", "--help").stdout.split())
    for step in ("in a private window", "send one message there", "close that window without logging out"):
        assert step in shown
    assert "Never use the same login in a browser and in the bridge at the same time" in shown


def test_adding_the_same_user_again_renews_the_login_and_keeps_the_label() -> None:
    arena = Arena()
    run("accounts", "add", "--label", "ada", stdin=as_value(arena.sign_in("ada@example.org")))
    run("accounts", "add", stdin=as_value(arena.sign_in("bob@example.org")))
    fresh = arena.sign_in("ada@example.org")
    result = run("accounts", "add", stdin=as_value(fresh))
    assert result.stdout.startswith("Renewed account 'ada': ada@example.org")
    assert [account["label"] for account in stored("accounts")] == ["ada", "bob@example.org"]
    assert stored("accounts")[0]["cookie"] == fresh.cookie_value


@pytest.mark.parametrize(
    ("paste", "reason"),
    [
        pytest.param("", "no session cookie in it", id="nothing"),
        pytest.param("hello", "no session cookie in it", id="something else"),
        pytest.param("arena-auth-prod-v1.1=abc", "piece 0 of the session cookie is missing", id="a piece is missing"),
        pytest.param("arena-auth-prod-v1=base64-e30", "has no access_token", id="no session"),
        pytest.param("cf_clearance=abc", "arena-auth-prod-v1 is missing", id="a clearance only"),
        pytest.param(
            "curl https://arena.ai -H 'user-agent: M'", "this request carried no cookie", id="a cURL line of no one"
        ),
    ],
)
def test_an_unusable_paste_exits_1_with_the_reason(paste: str, reason: str) -> None:
    result = run("accounts", "add", stdin=paste)
    assert result.exit_code == 1
    assert reason in result.stderr
    assert not Path("state/accounts.json").exists()


async def test_an_account_is_renamed_paused_resumed_and_tested(arena: Arena) -> None:
    session = arena.sign_in()
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin}
    await arun("accounts", "add", "--label", "ada", stdin=session.cookie_value)
    await arun("accounts", "add", "--label", "bob", stdin=arena.sign_in("bob@example.org").cookie_value)
    assert "is now labelled 'eve'" in (await arun("accounts", "rename", "ada", "eve")).stdout
    for label, said in (("bob", "another account is labelled 'bob'"), ("a\x1b[2J", "label: must be 1 to 64")):
        refused = await arun("accounts", "rename", "eve", label)
        assert (refused.exit_code, said in refused.stderr) == (1, True)
    assert (await arun("accounts", "pause", "eve")).exit_code == 0
    row, _ = json.loads((await arun("accounts", "list", "--json")).stdout)
    assert (row["label"], row["paused"], row["state"]) == ("eve", True, "paused")
    assert "paused by its owner" in (await arun("accounts", "list")).stdout
    tested = json.loads((await arun("accounts", "test", "eve", "--json", **env)).stdout)
    assert (tested["label"], tested["state"], tested["error"]) == ("eve", "paused", None)
    assert tested["milliseconds"] > 0
    await arun("accounts", "resume", session.user_id)
    assert "the site accepts its login" in (await arun("accounts", "test", "eve", **env)).stdout
    arena.expire(session)
    failed = await arun("accounts", "test", "eve", **env)
    assert (failed.exit_code, "does not accept" in failed.stderr) == (1, True)
    assert stored("accounts")[0]["expired"]
    for word in ("pause", "resume", "test"):
        missing = await arun("accounts", word, "evee", **env)
        assert (missing.exit_code, "did you mean 'eve'" in missing.stderr) == (1, True)


def test_a_label_of_another_account_is_refused() -> None:
    arena = Arena()
    run("accounts", "add", "--label", "me", stdin=as_value(arena.sign_in("ada@example.org")))
    result = run("accounts", "add", "--label", "me", stdin=as_value(arena.sign_in("bob@example.org")))
    assert result.exit_code == 1
    assert "another account is labelled 'me'" in result.stderr


def test_an_account_is_removed_by_its_label() -> None:
    run("accounts", "add", "--label", "ada", stdin=as_value(Arena().sign_in()))
    assert run("accounts", "remove", "bob").exit_code == 1
    assert run("accounts", "remove", "ada").exit_code == 0
    assert stored("accounts") == []


def test_a_pasted_clearance_is_stored_and_never_shown() -> None:
    result = run("accounts", "add", stdin=as_curl(Arena().sign_in()))
    assert "clear.123" not in result.output
    assert re.search(r"Received [\d,]+ characters: session ✓, cf_clearance ✓, user agent ✓\.", result.stderr)
    assert "The browser's cf_clearance and user agent are used from now on." in result.stdout
    assert json.loads(Path("state/admin.json").read_text())["admin"]["clearance"]["value"] == "clear.123"


def test_a_clearance_alone_is_stored_too() -> None:
    result = run("accounts", "add", stdin="curl x -H 'user-agent: M' -b 'cf_clearance=abc'")
    assert (result.exit_code, "Received" in result.stderr) == (0, True)
    assert json.loads(Path("state/admin.json").read_text())["admin"]["clearance"]["user_agent"] == "M"
    assert not Path("state/accounts.json").exists()


async def test_a_running_daemon_uses_a_clearance_that_a_command_stored(bridge: RunningBridge) -> None:
    stored = await arun(
        "accounts",
        "add",
        stdin="curl x -H 'user-agent: Mine' -b 'cf_clearance=fresh'",
        LMARENA_BRIDGE_SERVER__STATE_DIR=str(bridge.folder.path),
    )
    assert stored.exit_code == 0
    await until(lambda: bridge.app[CLIENT].settings.cf_clearance == "fresh", within=SECONDS)
    assert bridge.app[CLIENT].settings.user_agent == "Mine"


@pytest.mark.parametrize("end", [b"\x04", b"\n\n"], ids=["Ctrl-D", "Enter twice"])
def test_a_paste_into_a_terminal_may_have_long_lines(end: bytes) -> None:
    session = Arena().sign_in("ada@example.org")
    paste = as_curl(session).replace("cf_clearance", f"other={'x' * 5000}; cf_clearance").rstrip()
    code, shown = typed(["accounts", "add"], b"Ctrl-D", paste.encode() + end)
    assert code == 0
    assert stored("accounts")[0]["cookie"] == session.cookie_value
    assert "session ✓, cf_clearance ✓, user agent ✓" in shown
    assert "clear.123" not in shown
    assert session.cookie_value not in shown


def test_a_paste_into_a_terminal_may_have_empty_lines() -> None:
    value = Arena().sign_in("ada@example.org").cookie_value
    parts = [f"arena-auth-prod-v1.0\t{value[:1000]}", f"theme\t{'x' * 5000}", f"arena-auth-prod-v1.1\t{value[1000:]}"]
    code, shown = typed(["accounts", "add"], b"Ctrl-D", "\n\n".join(parts).encode() + b"\n\n")
    assert (code, "session ✓" in shown) == (0, True)
    assert stored("accounts")[0]["cookie"] == value


def typed(words: list[str], prompt: bytes, text: bytes) -> tuple[int, str]:
    """Run a command on a terminal and type `text` once it shows `prompt`; return its exit code and its output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's other end is closed: the command has ended
        while data := os.read(ours, 65536):
            shown += data
            if prompt in shown and text:
                for start in range(0, len(text), 1024):
                    os.write(ours, text[start : start + 1024])
                text = b""
    os.close(ours)
    return process.wait(SECONDS), shown.decode()
