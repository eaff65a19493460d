"""`keys`: the output to stdout and to stderr; a key whose secret cannot be shown is not stored."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import COMMAND, SECONDS, arun, run, stored
from running import RunningBridge

from bridge.state.documents import WATCH_SECONDS

pytestmark = pytest.mark.usefixtures("elsewhere")


def _closed() -> None:
    os.close(1)


def _full() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def _unread() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)


@pytest.mark.parametrize("spoil", [_closed, _full, _unread], ids=["closed", "full", "nobody reads"])
def test_a_new_key_that_cannot_be_shown_is_not_stored(spoil: Callable[[], None]) -> None:
    words = [*COMMAND, "keys", "add", "--name", "ci"]
    made = subprocess.run(words, stderr=subprocess.PIPE, preexec_fn=spoil, text=True, timeout=SECONDS, check=False)
    assert made.returncode != 0
    assert "shown" in made.stderr
    assert "sk-lmab-" not in made.stderr
    assert "No key yet" in run("keys", "list").stderr
    assert run("keys", "add", "--name", "ci").exit_code == 0


@pytest.mark.parametrize("spoil", [_closed, _full, _unread], ids=["closed", "full", "nobody reads"])
def test_a_rotated_secret_that_cannot_be_shown_leaves_the_old_one(spoil: Callable[[], None]) -> None:
    run("keys", "add", "--name", "ci")
    before = stored("keys")
    words = [*COMMAND, "keys", "rotate", "ci"]
    made = subprocess.run(words, stderr=subprocess.PIPE, preexec_fn=spoil, text=True, timeout=SECONDS, check=False)
    assert made.returncode != 0
    assert "shown" in made.stderr
    assert "sk-lmab-" not in made.stderr
    assert stored("keys") == before


def test_a_new_key_is_shown_when_stderr_cannot_be_written() -> None:
    with Path("/dev/full").open("w") as full:
        words = [*COMMAND, "keys", "add", "--name", "ci"]
        made = subprocess.run(words, stdout=subprocess.PIPE, stderr=full, text=True, timeout=SECONDS, check=False)
    assert (made.returncode, made.stdout[:8]) == (0, "sk-lmab-")
    assert "ci" in run("keys", "list").stdout


@pytest.mark.parametrize("words", [["accounts", "add"], ["password"], ["chat", "--model", "any"]], ids=" ".join)
@pytest.mark.parametrize("source", ["/dev/zero", "/dev/urandom", "closed"])
def test_reading_standard_input_is_bounded(words: list[str], source: str) -> None:
    """A limit of 600 MB of memory suffices, while an unlimited read from a device would exceed any limit."""

    def confine() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (600_000_000, 600_000_000))
        if source == "closed":
            os.close(0)

    with Path("/dev/null" if source == "closed" else source).open("rb") as stdin:
        given = subprocess.run(
            [*COMMAND, *words],
            stdin=stdin,
            env={**os.environ, "OPENAI_API_KEY": "sk-lmab-x"},
            preexec_fn=confine,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert given.returncode == 1
    assert given.stderr.startswith("Error: ")
    assert len(given.stderr) < 300


def test_only_the_secret_of_a_new_key_is_printed_to_stdout() -> None:
    result = run("keys", "add", "--name", "ci")
    assert re.fullmatch(r"sk-lmab-[A-Za-z0-9]{32}\n", result.stdout)
    assert "cannot be shown again" in result.stderr
    assert result.stdout.strip() not in result.stderr
    assert result.stdout.strip() not in Path("state/keys.json").read_text()


def test_keys_are_listed_changed_and_revoked() -> None:
    run("keys", "add", "--name", "ci", "--rpm", "5", "--models", "gpt*, claude*", "--stealth")
    (key,) = stored("keys")
    assert (key["rpm"], key["models"], key["stealth"], key["metrics"]) == (5, ["gpt*", "claude*"], True, False)
    listed = run("keys", "list").stdout
    row = rf"ci +{key['id']} +sk-lmab-…{key['hint']} +good +5 +100 \(default\) +any +gpt\*, claude\* +yes +no"
    assert re.search(row, listed)

    assert run("keys", "set", "ci", "--rpm", "0", "--models", "", "--no-stealth", "--metrics").exit_code == 0
    (key,) = stored("keys")
    assert (key["rpm"], key["models"], key["stealth"], key["metrics"]) == (None, [], False, True)
    assert run("keys", "set", "ci", "--no-metrics").exit_code == 0
    (key,) = stored("keys")
    assert not key["metrics"]
    assert run("keys", "set", key["id"], "--concurrency", "3").exit_code == 0
    assert stored("keys") == [{**key, "concurrency": 3}]

    assert run("keys", "revoke", "ci").exit_code == 0
    assert stored("keys") == []
    assert run("keys", "list").stdout == ""


def test_a_key_can_expire_have_a_budget_be_paused_and_be_rotated() -> None:
    made = ("--expires", "30d", "--day-requests", "500", "--note", "for the cat")
    secret = run("keys", "add", "--name", "laptop", *made).stdout.strip()
    assert re.search(r"ends in (29|30) days .* 500 requests .* for the cat", run("keys", "list").stdout)
    assert run("keys", "set", "laptop", "--paused", "--expires", "never", "--day-requests", "0").exit_code == 0
    (key,) = json.loads(run("keys", "list", "--json").stdout)
    assert (key["paused"], key["expires"], key["day_requests"]) == (True, None, None)
    assert "paused" in run("keys", "list").stdout
    rotated = run("keys", "rotate", "laptop")
    assert re.fullmatch(r"sk-lmab-\w{32}\n", rotated.stdout)
    assert rotated.stdout.strip() != secret
    assert "24 more hours" in rotated.stderr
    assert run("keys", "add", "--name", "b", "--expires", "soon").exit_code == 2


def test_a_key_may_be_allowed_to_read_metrics() -> None:
    run("keys", "add", "--name", "prometheus", "--metrics")
    assert [(key["stealth"], key["metrics"]) for key in stored("keys")] == [(False, True)]


def test_adding_a_stealth_key_mentions_the_setting_that_stealth_models_also_need() -> None:
    assert "models.stealth" in run("keys", "add", "--name", "a", "--stealth").stderr
    allowed = run("keys", "add", "--name", "b", "--stealth", LMARENA_BRIDGE_MODELS__STEALTH="true")
    assert "models.stealth" not in allowed.stderr


@pytest.mark.parametrize("words", [["add", "--name", "ci"], ["set", "nobody", "--rpm", "1"], ["revoke", "nobody"]])
def test_a_change_that_cannot_be_made_exits_1(words: list[str]) -> None:
    run("keys", "add", "--name", "ci")
    before = stored("keys")
    result = run("keys", *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words[-1] in result.stderr or "nobody" in result.stderr
    assert stored("keys") == before


async def test_a_running_daemon_takes_a_new_key_within_two_seconds(bridge: RunningBridge) -> None:
    made = await arun("keys", "add", "--name", "late", LMARENA_BRIDGE_SERVER__STATE_DIR=str(bridge.folder.path))
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    assert WATCH_SECONDS < 2
    async with asyncio.timeout(SECONDS):
        status = 401
        while status == 401:
            async with bridge.http.get(f"{bridge.base_url}/models", headers=headers) as answer:
                status = answer.status
