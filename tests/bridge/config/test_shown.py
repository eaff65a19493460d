"""Settings as they are shown: each with its origin, those that need a restart marked, and no secret anywhere."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.file import ConfigSource, load
from bridge.config.origins import Origin, Setting, Source
from bridge.config.problems import ConfigError
from bridge.config.schema import KEYS, Config
from bridge.config.shown import NOT_SET, SET, Change, changes, shown_settings, to_toml

TEXT = """
[server]
port = 9000  # another
"host" = "::1"

[upstream]
cf_clearance = "canary-clearance"
user_agent = "cf_clearance=canary-misplaced"

[models.aliases]
"gpt-4o*" = "gpt-5"
any = ["a", "b"]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "bridge.toml"
    path.write_text(TEXT)
    return path


def test_each_shown_setting_names_its_origin(path: Path) -> None:
    credentials = path.parent / "credentials"
    credentials.mkdir()
    (credentials / "upstream.proxy").write_text("http://user:canary@proxy.example.org:1\n")
    environ = {
        "CREDENTIALS_DIRECTORY": str(credentials),
        "LMARENA_BRIDGE_LOG__LEVEL": "debug",
        "STATE_DIRECTORY": "/var/lib/bridge:/other",
    }
    fixed = [Setting(Origin(Source.COMMAND_LINE, "--port"), "server.port", 9001)]
    config = ConfigSource(path, environ, fixed).load()
    origins = {each.name: str(each.origin) for each in shown_settings(config) if not each.is_default}
    assert origins == {
        "server.host": f"{path}:4",
        "server.port": "command line --port",
        "server.state_dir": "environment STATE_DIRECTORY",
        "upstream.proxy": "credential upstream.proxy",
        "upstream.cf_clearance": f"{path}:7",
        "upstream.user_agent": f"{path}:8",
        "models.aliases": f"{path}:10",
        "log.level": "environment LMARENA_BRIDGE_LOG__LEVEL",
    }
    assert config.server.port == 9001
    assert {str(each.origin) for each in shown_settings(Config())} == {"default"}


def test_an_invalid_command_line_option_is_named_as_it_was_typed(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--host: server\.host: found \"a b\""):
        ConfigSource(path, {}, [Setting(Origin(Source.COMMAND_LINE, "--host"), "server.host", "a b")]).load()


def test_a_key_inside_a_multi_line_string_is_not_taken_for_a_setting_s_origin(path: Path) -> None:
    path.write_text('[models]\nhide = ["""\nstealth = true\n"""]\n')
    origins = {each.name: str(each.origin) for each in shown_settings(load(path, {}))}
    assert (origins["models.stealth"], origins["models.hide"]) == ("default", f"{path}:2")


def test_settings_are_shown_as_in_the_file_but_without_secrets(path: Path) -> None:
    texts = {each.name: each.text for each in shown_settings(load(path, {}))}
    assert list(texts) == list(KEYS)
    assert texts["server.host"] == '"::1"'
    assert texts["server.body_timeout"] == "30"
    assert texts["server.open_metrics"] == "false"
    assert texts["upstream.origins"] == '["https://arena.ai", "https://lmarena.ai"]'
    assert texts["models.aliases"] == '{"gpt-4o*" = "gpt-5", "any" = ["a", "b"]}'
    assert (texts["upstream.cf_clearance"], texts["upstream.proxy"]) == (SET, NOT_SET)
    assert texts["upstream.user_agent"] == SET  # holds a secret that was put in the wrong place
    reports = [str([each.to_json(), each.to_report()]) for each in shown_settings(load(path, {}))]
    assert "canary" not in "".join([*texts.values(), *reports])


_NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)


@given(st.lists(_NAMES) | st.dictionaries(_NAMES, _NAMES | st.lists(_NAMES, min_size=1)) | _NAMES | st.integers())
def test_a_value_written_as_toml_is_read_back_unchanged(value: object) -> None:
    text = to_toml(value)  # type: ignore[arg-type]  # only values of its type are drawn
    assert tomllib.loads(f"value = {text}".replace("\x7f", "\\u007f"))["value"] == value


def test_changed_settings_are_listed_with_both_values_and_whether_they_need_a_restart(path: Path) -> None:
    before = load(path, {})
    path.write_text(TEXT.replace("9000", "9001").replace("canary-clearance", "canary-other") + "[limits]\nrpm = 7\n")
    assert changes(before, load(path, {})) == (
        Change("server.port", "9000", "9001", Origin(Source.FILE, f"{path}:3"), needs_restart=True),
        Change("upstream.cf_clearance", SET, "another one", Origin(Source.FILE, f"{path}:7"), needs_restart=False),
        Change("limits.rpm", "60", "7", Origin(Source.FILE, f"{path}:14"), needs_restart=False),
    )
    assert changes(before, before) == ()


def test_a_report_of_settings_contains_no_folder_host_or_model_name(path: Path) -> None:
    text = f'{TEXT}[redis]\nprefix = "canary-"\n'.replace("::1", "canary.example.org").replace("gpt-5", "canary")
    path.write_text(text)
    config = load(path, {"LMARENA_BRIDGE_SERVER__STATE_DIR": "/home/canary"})
    report = {each.name: each.to_report() for each in shown_settings(config)}
    assert "canary" not in str(report)
    assert str(path.parent) not in str(report)
    assert report["server.port"] == {"value": 9000, "origin": "bridge.toml:3"}
    assert report["server.host"] == {"value": SET, "origin": "bridge.toml:4"}
    assert report["redis.url"] == {"value": NOT_SET, "origin": "default"}
