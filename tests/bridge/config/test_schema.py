"""The keys of bridge.toml: their defaults, their values, and bridge.toml as shipped."""

from __future__ import annotations

import re
import tomllib
from ipaddress import ip_network
from pathlib import Path

import pytest
from config_files import complaint, problems, write

from bridge.config.file import load
from bridge.config.schema import KEYS, Config
from bridge.config.values import Secret

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

SHIPPED = Path(__file__).parents[3] / "bridge.toml"
SETTING = re.compile(r"^# (?P<comment>.*)\n# (?P<line>(?P<key>\w+) = .*?)  # (?P<allowed>.*)$", re.MULTILINE)


def test_the_shipped_file_yields_the_default_configuration() -> None:
    assert load(write(SHIPPED.read_text()), {}) == load(None, {}) == Config.read({})


def test_the_shipped_file_with_every_setting_uncommented_yields_the_defaults() -> None:
    text = SETTING.sub(r"\g<line>", SHIPPED.read_text())
    assert {f"{section}.{key}" for section, table in tomllib.loads(text).items() for key in table} == set(KEYS)
    assert load(write(text), {}) == Config.read({})


def test_the_shipped_file_describes_every_setting_in_order() -> None:
    described: dict[str, tuple[str, str]] = {}
    for table in SHIPPED.read_text().split("\n[")[1:]:
        for setting in SETTING.finditer(table):
            described[f"{table.partition(']')[0]}.{setting['key']}"] = (setting["comment"], setting["allowed"])
    assert list(described.items()) == [(name, (key.description, key.kind.allowed)) for name, key in KEYS.items()]


def test_environment_variables_override_credentials_which_override_the_file(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "limits.rpm").write_text("2\n")
    (credentials / "limits.concurrency").write_text("2\n")
    (credentials / "upstream.cf_clearance").write_text("canary\n")
    (credentials / "server.key").write_text("of no concern")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials), "LMARENA_BRIDGE_LIMITS__RPM": "3"}
    config = load(write("[limits]\nrpm = 1\nconcurrency = 1\nstreams = 1\n"), environ)
    assert (config.limits.rpm, config.limits.concurrency, config.limits.streams) == (3, 2, 1)
    assert config.upstream.cf_clearance == Secret("canary")
    assert "canary" not in repr(config)


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("SERVER__PORT", "9000", 9000),
        ("SERVER__HOST", "::1", "::1"),
        ("SERVER__BODY_TIMEOUT", "5", 5.0),
        ("SERVER__OPEN_METRICS", "true", True),
        ("LOG__LEVEL", "debug", "debug"),
        ("LOG__LEVEL", '"debug"', "debug"),
        ("MODELS__HIDE", '["a*", "b"]', ("a*", "b")),
        ("UPSTREAM__USER_AGENT", "123", "123"),
        ("UPSTREAM__USER_AGENT", "Mozilla/5.0 (X11; Linux) # 1", "Mozilla/5.0 (X11; Linux) # 1"),
        ("UPSTREAM__CF_CLEARANCE", "2026-11-22", Secret("2026-11-22")),
    ],
)
def test_an_environment_variable_s_text_is_converted_to_its_setting_s_type(
    variable: str, text: str, value: object
) -> None:
    section, key = variable.lower().split("__")
    config = load(None, {f"LMARENA_BRIDGE_{variable}": text, "LMARENA_BRIDGE_OTHER": "ignored"})
    assert getattr(getattr(config, section), key) == value


def test_a_variable_overrides_an_invalid_value_in_the_file() -> None:
    assert load(write("[server]\nport = 'abc'"), {"LMARENA_BRIDGE_SERVER__PORT": "1"}).server.port == 1


@pytest.mark.parametrize(
    ("origin", "normalised"),
    [
        ("arena.ai", "https://arena.ai"),
        ("ARENA.ai:443", "https://arena.ai"),
        ("arena.ai:8443", "https://arena.ai:8443"),
        ("https://arena.ai/", "https://arena.ai"),
        ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
        ("http://localhost:80", "http://localhost"),
        ("http://[0::1]:81", "http://[::1]:81"),
        ("[2001:DB8::1]:443", "https://[2001:db8::1]"),
    ],
)
def test_upstream_origins_are_normalised(origin: str, normalised: str) -> None:
    config = load(write(f'[upstream]\nbase_url = "https://lmarena.ai:444/"\norigins = ["{origin}"]'), {})
    assert config.upstream.allowed_origins == {"https://lmarena.ai:444", normalised}


@pytest.mark.parametrize(
    "origin",
    [
        "", "http://arena.ai", "http://127.0.0.1.evil.com", "ftp://localhost", "arena.ai/path", "https://arena.ai?q=1",
        "https://user@arena.ai", "arena.ai:port", "arena.ai:99999", "*.arena.ai", "arena .ai", "https://", "[::1",
        "ärena.ai", "arena.ai\\n", "\\tarena.ai", "arena.ai:", "arena.ai//", "https:arena.ai", "[::1]x", "[1]", "http://[::2]",
    ],
)  # fmt: skip
def test_an_invalid_upstream_origin_is_rejected(origin: str) -> None:
    keys = [
        problem.key for problem in problems(f'[upstream]\nbase_url = "{origin}"\norigins = ["arena.ai", "{origin}"]')
    ]
    assert keys == ["upstream.base_url", "upstream.origins[1]"]


def test_trusted_proxies_are_read_as_networks() -> None:
    config = load(write('[server]\ntrusted_proxies = ["127.0.0.1", "10.1.2.3/8", "fd00::/8"]'), {})
    assert config.server.trusted_proxies == (
        ip_network("127.0.0.1/32"),
        ip_network("10.0.0.0/8"),
        ip_network("fd00::/8"),
    )


def test_valid_cors_origins_are_kept_and_each_invalid_one_is_reported() -> None:
    origins = ("http://localhost:3000", "app://obsidian.md", "*")
    assert load(write(f"[server]\ncors_origins = {list(origins)}"), {}).server.cors_origins == origins
    assert [p.key for p in problems('[server]\ncors_origins = ["localhost", "http://a/b", "http://*"]')] == [
        "server.cors_origins[0]",
        "server.cors_origins[1]",
        "server.cors_origins[2]",
    ]


@pytest.mark.parametrize(
    "origin",
    [
        "*", "null", "file://", "chrome-extension://*", "moz-extension://*", "http://localhost:*", "http://127.0.0.1:*",
        "http://[::1]:3000", "https://*.example.com", "https://*.example.com:*", "vscode-webview://*", "app://-",
    ],
)  # fmt: skip
def test_a_valid_cors_origin_is_accepted(origin: str) -> None:
    assert load(write(f"[server]\ncors_origins = ['{origin}']"), {}).server.cors_origins == (origin,)


def test_the_letter_case_of_a_cors_origin_does_not_matter() -> None:
    config = load(write('[server]\ncors_origins = ["HTTP://LocalHost:3000", "NULL"]'), {})
    assert config.server.cors_origins == ("http://localhost:3000", "null")


@pytest.mark.parametrize(
    "origin",
    ["", "localhost:*", "https://*", "http://*:*", "http://*.*", "http://a:b", "http://a/", "http://a@b", "http://a b",
     "*://localhost", "http://[::1", "://a", "http://"],
)  # fmt: skip
def test_an_invalid_cors_origin_is_rejected(origin: str) -> None:
    assert [each.key for each in problems(f'[server]\ncors_origins = ["*", "{origin}"]')] == ["server.cors_origins[1]"]


@pytest.mark.parametrize(
    ("name", "text", "members"),
    [
        ("server.cors_origins", "*", ("*",)),
        ("server.trusted_proxies", "10.0.0.1", (ip_network("10.0.0.1"),)),
        ("upstream.origins", "arena.ai", ("https://arena.ai",)),
        ("models.hide", "gpt*", ("gpt*",)),
    ],
)
@pytest.mark.parametrize("place", ["file", "variable"])
def test_a_bare_string_is_read_as_a_list_of_one_item(
    name: str, text: str, members: tuple[object, ...], place: str
) -> None:
    section, key = name.split(".")
    if place == "file":
        config = load(write(f"[{section}]\n{key} = '{text}'"), {})
    else:
        config = load(None, {f"LMARENA_BRIDGE_{section}__{key}".upper(): text})
    assert getattr(getattr(config, section), key) == members


def test_an_invalid_bare_string_is_reported_without_an_index() -> None:
    (problem,) = problems("[server]\ncors_origins = 'localhost'")
    assert (problem.key, problem.found) == ("server.cors_origins", '"localhost"')


def test_model_aliases_keep_their_order() -> None:
    text = '[models.aliases]\n"gpt-4*" = "b"\nfast = ["a", "b"]\n"*" = "last"'
    assert load(write(text), {}).models.aliases == (("gpt-4*", ("b",)), ("fast", ("a", "b")), ("*", ("last",)))
    environ = {"LMARENA_BRIDGE_MODELS__ALIASES": '{ "gpt-4o" = "a" }'}
    assert load(write(text), environ).models.aliases == (("gpt-4o", ("a",)),)


@pytest.mark.parametrize(
    ("line", "key", "found"),
    [
        ('"gpt-4o" = 5', 'models.aliases["gpt-4o"]', "5"),
        ('"gpt-4o" = ""', 'models.aliases["gpt-4o"]', '""'),
        ('"gpt-4o" = []', 'models.aliases["gpt-4o"]', "[]"),
        ('"gpt-4o" = ["a", 5]', 'models.aliases["gpt-4o"]', '["a", 5]'),
        ('gpt-4.1 = "a"', 'models.aliases["gpt-4"]', '{"1": "a"}'),
        ('"é[1]" = true', 'models.aliases["é[1]"]', "true"),
        ('"" = "a"', "models.aliases", '{"": "a"}'),
    ],
)
def test_an_invalid_model_alias_is_reported_with_its_name(line: str, key: str, found: str) -> None:
    (problem,) = problems(f"[models]\nhide = []\n[models.aliases]\n{line}")
    assert (problem.where, problem.key, problem.found) == ("bridge.toml:3", key, found)


def test_a_thousand_model_aliases_are_accepted_and_one_more_is_rejected() -> None:
    lines = [f"a{number} = 'b'" for number in range(1001)]
    assert len(load(write("\n".join(["[models.aliases]", *lines[:1000]])), {}).models.aliases) == 1000
    assert "at most 1,000" in complaint("\n".join(["[models.aliases]", *lines]))


def test_relative_paths_are_resolved_against_the_configuration_file_s_folder(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    path = folder / "bridge.toml"
    path.write_text('[server]\nstate_dir = "s"\ntls_cert = "cert.pem"\ntls_key = "/k/key.pem"')
    server = load(Path("etc/bridge.toml"), {}).server
    assert (server.state_dir, server.tls_cert, server.tls_key) == (
        folder / "s",
        folder / "cert.pem",
        Path("/k/key.pem"),
    )
    assert Config.read({}).server.state_dir == tmp_path / "state"


def test_systemd_s_state_directory_is_the_default_state_dir() -> None:
    environ = {"STATE_DIRECTORY": "/var/lib/bridge:/var/lib/other"}
    assert load(None, environ).server.state_dir == Path("/var/lib/bridge")
    assert load(write('[server]\nstate_dir = "/s"'), environ).server.state_dir == Path("/s")


def test_a_loaded_configuration_is_immutable() -> None:
    with pytest.raises(AttributeError):
        Config.read({}).server.port = 1  # type: ignore[misc]  # which is the point
