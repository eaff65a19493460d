"""`activity`: requests as a table and as JSON, a single one with its attempts; hostile names have no effect."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ended import DAY, ended, prepared, write
from hostile_api import steers

from bridge.activity.entry import Attempt, Entry
from handlers.commands.main import main

HOSTILE = "\x1b[2J\u202e<b>[red]x\x9b\x7f\u2028\U000e0001é🦦"


def entries() -> list[Entry]:
    """An old request, one that failed after two attempts, one that was refused, and a recent one that succeeded."""
    now = time.time()
    attempts = (
        Attempt("ada@example.org", 0.01, 0.2, 429, "rate_limited"),
        Attempt("bob@example.org", 0.21, 1.5, None, "timeout"),
    )
    return [
        ended(1, now - 3 * DAY),
        ended(2, now - 600, status=504, word="timeout", message="LMArena fell silent.", attempts=attempts, first=None),
        ended(
            3, now - 60, status=404, word="rejected", refused=True, key="editor", asked=HOSTILE, model="", attempts=()
        ),
        ended(4, now - 5, client=HOSTILE),
    ]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state folder with these requests, beside a bridge.toml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    Path("bridge.toml").touch()
    write(prepared(tmp_path / "state"), entries(), time.time())


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ("activity", *words))


def ids(*words: str) -> list[str]:
    """The ids that the command prints as JSON."""
    result = run("--json", *words)
    assert result.exit_code == 0, result.output
    return [entry["id"] for entry in json.loads(result.stdout)]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ([], [4, 3, 2, 1]),
        (["--errors"], [3, 2]),
        (["--since", "1h"], [4, 3, 2]),
        (["--since", "30s"], [4]),
        (["--since", "2001-01-01"], [4, 3, 2, 1]),
        (["--key", "editor"], [3]),
        (["--key", "nobody"], []),
        (["--model", "gpt-6.1-high", "--errors"], [2]),
        (["--search", "FELL silent"], [2]),
        (["-n", "1"], [4]),
    ],
    ids=str,
)
def test_activity_filters_requests_like_the_dashboard(words: list[str], numbers: list[int]) -> None:
    assert ids(*words) == [ended(number).id for number in numbers]


def test_the_table_has_a_row_for_each_request() -> None:
    result = run()
    lines = result.stdout.splitlines()
    assert len([line for line in lines if "req_0" in line]) == 4
    assert "timeout 504, 2 attempts" in result.stdout
    assert "rejected 404, here" in result.stdout
    assert not steers(result.stdout)
    assert "<b>[red]x" in result.stdout, "markup is text"
    assert "1 of 4 requests; use --number to show more." in run("-n", "1").stderr


def test_a_single_request_is_shown_with_its_attempts_and_advice() -> None:
    result = run(ended(2).id)
    assert result.exit_code == 0
    for text in (
        "outcome       timeout 504, 2 attempts",
        "conversation  new: there was no earlier answer in the request",
        "message       LMArena fell silent.",
        "now           Ask again, try another model, or raise `upstream.*_timeout`.",
    ):
        assert text in result.stdout
    rows = [line.split() for line in result.stdout.splitlines() if "@example.org" in line and "account" not in line]
    assert rows == [
        ["ada@example.org", "10", "ms", "200", "ms", "429", "rate_limited"],
        ["bob@example.org", "210", "ms", "1.5", "s", "none", "timeout"],
    ]
    assert json.loads(run("--json", ended(2).id).stdout)["attempts"][0][3] == 429
    assert not steers(run(ended(4).id).stdout)


@pytest.mark.parametrize("words", [(), (ended(3).id,)], ids=["all", "one"])
def test_json_output_has_no_control_characters_and_keeps_every_character(words: tuple[str, ...]) -> None:
    printed = run("--json", *words).stdout
    assert not steers(printed)
    assert not {"\x7f", "\U000e0001"} & set(printed)
    found = json.loads(printed)
    assert (found if words else found[1])["asked"] == HOSTILE
    assert "é🦦" in printed


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["req_none"], 1, "There is no stored request req_none"),
        (["--since", "yesterday"], 2, "'yesterday' is not a time: write 15m, 2h, 7d, or 2026-11-30T21:00"),
        (["-n", "0"], 2, "0 is not in the range"),
    ],
    ids=str,
)
def test_activity_says_why_a_request_cannot_be_shown(words: list[str], code: int, said: str) -> None:
    result = run(*words)
    assert result.exit_code == code
    assert said in result.output
    assert not result.stdout


def test_activity_creates_no_files_without_a_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    Path("bridge.toml").touch()
    assert ids() == []
    assert [path.name for path in Path().iterdir()] == ["bridge.toml"]
