"""`config`: the settings that a daemon would read, their origins, and what is wrong. No secret is shown."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.config.schema import KEYS
from handlers.commands.main import main

SECRETS = {
    "upstream.cf_clearance": "canary-clearance",
    "upstream.proxy": "http://canary:canary@127.0.0.1:1",
    "redis.url": "redis://canary:canary@127.0.0.1:1/0",
    "redis.password": "canary-password",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, which is also the home directory."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LMARENA_BRIDGE_")]:
        monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def run(*words: str, **env: str) -> Result:
    return CliRunner().invoke(main, ["config", *words], env=env)


def test_config_show_lists_every_setting_with_its_origin(home: Path) -> None:
    (home / "bridge.toml").write_text("[limits]\nrpm = 7\n")
    result = run("show", LMARENA_BRIDGE_SERVER__PORT="9000")
    assert (result.exit_code, result.stderr) == (0, f"file: {home / 'bridge.toml'}\n")
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()[2:]}
    assert list(rows) == list(KEYS)
    assert rows["limits.rpm"] == ["7", "bridge.toml:2"]
    assert rows["server.port"] == ["9000", "↻", "environment", "LMARENA_BRIDGE_SERVER__PORT"]
    assert rows["limits.concurrency"] == ["100", "default"]


def test_config_show_can_be_limited_to_named_settings_or_to_those_that_are_set(home: Path) -> None:
    (home / "bridge.toml").write_text("[limits]\nrpm = 7\n[log]\nlevel = 'debug'\n")
    document = json.loads(run("show", "limits", "server.port", "--json").stdout)
    assert document["file"] == str(home / "bridge.toml")
    limits = [f"limits.{name}" for name in ("rpm", "concurrency", "streams", "queue_seconds", "join_repeats")]
    assert list(document["settings"]) == ["server.port", *limits]
    assert document["settings"]["limits.rpm"] == {
        "value": 7,
        "secret": False,
        "set": True,
        "origin": "file",
        "where": "bridge.toml:2",
        "needs_restart": False,
    }
    assert list(json.loads(run("show", "--set", "--json").stdout)["settings"]) == ["limits.rpm", "log.level"]
    unknown = run("show", "limit")
    assert (unknown.exit_code, "no setting or section limit" in unknown.stderr) == (1, True)


def test_config_shows_no_secret_whatever_its_origin(home: Path) -> None:
    credentials = home / "credentials"
    credentials.mkdir()
    for name, value in SECRETS.items():
        (credentials / name).write_text(value)
    variables = {f"LMARENA_BRIDGE_{name.upper().replace('.', '__')}": value for name, value in SECRETS.items()}
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in SECRETS.items())
    for place, env in (
        ("file", {}),
        ("credential", {"CREDENTIALS_DIRECTORY": str(credentials)}),
        ("environment", variables),
    ):
        (home / "bridge.toml").write_text(text if place == "file" else "")
        for words in (("show",), ("show", "--json"), ("check",)):
            result = run(*words, **env)
            assert (result.exit_code, "canary" in result.output) == (0, False)
        settings = json.loads(run("show", "--json", **env).stdout)["settings"]
        assert {name for name, each in settings.items() if each["origin"] == place and each["set"]} == set(SECRETS)


def test_config_path_names_the_file_and_config_check_lists_its_errors(home: Path) -> None:
    assert run("path").exit_code == 1
    assert run("check").stdout == "no bridge.toml, so the defaults apply: valid\n"
    file = home / "bridge.toml"
    file.write_text("[limits]\nrpm = 0\n[upstream]\ncf_clearance = 'canary;'\n")
    result = run("check")
    assert result.exit_code == 78
    assert [line.split(": ")[:2] for line in result.stderr.splitlines()] == [
        ["bridge.toml:4", "upstream.cf_clearance"],
        ["bridge.toml:2", "limits.rpm"],
    ]
    assert "canary" not in result.output
    file.write_text("")
    assert run("path").stdout == f"{file}\n"
    assert run("check").stdout == f"{file}: valid\n"
