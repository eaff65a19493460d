"""The general behaviour of the command line: help, options, exit codes, JSON, completion."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from commands import run, stored

from handlers.commands.main import COMMANDS, main
from upstream.arena import Arena

pytestmark = pytest.mark.usefixtures("elsewhere")

WORDS = [
    *([name] for name in COMMANDS),
    *(["keys", word] for word in ("add", "list", "set", "rotate", "revoke")),
    *(["accounts", word] for word in ("add", "list", "test", "rename", "pause", "resume", "remove")),
    *(["config", word] for word in ("show", "path", "check")),
]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_command_has_help_and_accepts_a_configuration(words: list[str]) -> None:
    result = run(*words, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert ("--config FILE" in result.stdout) is (words != ["replay"])  # a replay needs only the recording


def test_help_lists_every_command_with_its_own_description() -> None:
    listed = run("--help").stdout
    for name, (module, about) in COMMANDS.items():
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        assert command.get_short_help_str(100).rstrip(".") == about.rstrip(".")
        assert f"  {name} " in listed


def test_the_commands_load_without_importing_aiohttp_or_rich() -> None:
    script = "import sys, handlers.commands; print(sorted({'aiohttp', 'rich'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout == b"[]\n"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["nope"], id="no such command"),
        pytest.param(["serve", "extra"], id="too many words"),
        pytest.param(["keys"], id="a group alone"),
        pytest.param(["keys", "add"], id="a key without a name"),
        pytest.param(["keys", "add", "--name", "a/b"], id="a name that no key may have"),
        pytest.param(["keys", "add", "--name", "a", "--rpm", "0"], id="a rate out of range"),
        pytest.param(["keys", "set", "a"], id="nothing to change"),
        pytest.param(["accounts", "add", "--label", "a\nb"], id="a label of two lines"),
        pytest.param(["chat", "--key", "k", "--url", "nowhere", "hi"], id="a url that is none"),
        pytest.param(["chat", "hi"], id="no key"),
    ],
)
def test_wrong_usage_exits_2(words: list[str]) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage:" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--config", "own.toml", "keys", "list"], id="before"),
        pytest.param(["keys", "--config", "own.toml", "list"], id="between"),
        pytest.param(["keys", "list", "--config", "own.toml"], id="behind"),
        pytest.param(["--config", "other.toml", "keys", "list", "--config", "own.toml"], id="the last one counts"),
    ],
)
def test_the_config_option_may_come_before_or_after_the_command_words(words: list[str]) -> None:
    Path("own.toml").write_text('[server]\nstate_dir = "own"\n')
    assert run("keys", "add", "--name", "mine", "--config", "own.toml").exit_code == 0
    assert "mine" in run(*words).stdout
    assert "mine" not in run("keys", "list").stdout


def test_a_bad_configuration_names_every_problem_and_exits_1() -> None:
    Path("bridge.toml").write_text('[server]\nport = "x"\nhots = "y"\n')
    result = run("keys", "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "bridge.toml:2: server.port" in result.stderr
    assert "did you mean server.host?" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("keys", "revoke", "loptap"), "no key named 'loptap'; did you mean 'laptop'?"),
        (("keys", "set", "x", "--rpm", "3"), "no key named 'x'; there are 'laptop', 'script'"),
        (("accounts", "remove", "nobody"), "no account labelled 'nobody': there is none yet"),
    ],
)
def test_an_unknown_name_is_answered_with_the_existing_names(words: tuple[str, ...], said: str) -> None:
    for name in ("laptop", "script"):
        run("keys", "add", "--name", name)
    result = run(*words)
    assert (result.exit_code, said in result.stderr) == (1, True)


def test_deleting_a_key_on_a_terminal_requires_confirmation(monkeypatch: pytest.MonkeyPatch) -> None:
    run("keys", "add", "--name", "laptop")
    monkeypatch.setattr("handlers.commands.confirming.is_terminal", lambda: True)
    refused = run("keys", "revoke", "laptop", stdin="n\n")
    assert (refused.exit_code, "Revoke the key 'laptop'?" in refused.stderr) == (1, True)
    assert len(stored("keys")) == 1
    assert run("keys", "revoke", "laptop", "--yes").exit_code == 0
    assert stored("keys") == []


def test_json_output_is_one_document_without_secrets() -> None:
    session = Arena().sign_in("ada@example.org")
    run("accounts", "add", "--label", "ada", stdin=session.cookie_value)
    secret = run("keys", "add", "--name", "laptop", "--rpm", "7").stdout.strip()
    (key,) = json.loads(run("keys", "list", "--json").stdout)
    assert (key["name"], key["rpm"], "hash" in key) == ("laptop", 7, False)
    shown = run("accounts", "list", "--json").stdout
    (account,) = json.loads(shown)
    assert (account["label"], account["email"], account["state"]) == ("ada", "ada@example.org", "usable")
    assert secret not in shown
    assert session.cookie_value[20:60] not in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_command_prints_a_script_for_each_shell(shell: str) -> None:
    assert "_LMARENA_BRIDGE_COMPLETE" in run("completion", shell).stdout


def test_key_names_are_completed_by_the_shell() -> None:
    run("keys", "add", "--name", "laptop")
    words = {"COMP_WORDS": "lmarena-bridge keys revoke la", "COMP_CWORD": "3"}
    completed = CliRunner(env={"_LMARENA_BRIDGE_COMPLETE": "bash_complete", **words}).invoke(
        main, prog_name="lmarena-bridge"
    )
    assert completed.stdout == "plain,laptop\n"
