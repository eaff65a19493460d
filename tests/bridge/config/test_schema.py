"""Promises: bridge.toml as shipped is the defaults; every wrong value is told with its place, all of them at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.file import load
from bridge.config.problems import ConfigError, Problem
from bridge.config.schema import KEYS, Config
from bridge.config.values import Secret
from bridge.shared.address import FORMS

SHIPPED = Path(__file__).parents[3] / "bridge.toml"
SETTING = re.compile(r"^# (?P<comment>.*)\n# (?P<line>(?P<key>\w+) = .*?)  # (?P<allowed>.*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str) -> Path:
    path = Path("bridge.toml")
    path.write_text(text)
    return path


def problems(text: str, environ: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(write(text), environ or {})
    return caught.value.problems


def complaint(text: str, environ: Mapping[str, str] | None = None) -> str:
    return "\n".join(map(str, problems(text, environ)))


# --- bridge.toml as shipped ---


def test_as_shipped_it_is_the_defaults() -> None:
    assert load(write(SHIPPED.read_text()), {}) == load(None, {}) == Config.read({})


def test_with_every_line_uncommented_it_is_the_defaults() -> None:
    text = SETTING.sub(r"\g<line>", SHIPPED.read_text())
    assert {f"{section}.{key}" for section, table in tomllib.loads(text).items() for key in table} == set(KEYS)
    assert load(write(text), {}) == Config.read({})


def test_it_describes_every_key_in_order() -> None:
    described: dict[str, tuple[str, str]] = {}
    for table in SHIPPED.read_text().split("\n[")[1:]:
        for setting in SETTING.finditer(table):
            described[f"{table.partition(']')[0]}.{setting['key']}"] = (setting["comment"], setting["allowed"])
    assert list(described.items()) == [(name, (key.description, key.kind.allowed)) for name, key in KEYS.items()]


# --- values ---


def test_a_value_comes_from_environment_then_credential_then_file(tmp_path: Path) -> None:
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
def test_variables(variable: str, text: str, value: object) -> None:
    section, key = variable.lower().split("__")
    config = load(None, {f"LMARENA_BRIDGE_{variable}": text, "LMARENA_BRIDGE_OTHER": "ignored"})
    assert getattr(getattr(config, section), key) == value


def test_a_variable_overrides_a_wrong_value_in_the_file() -> None:
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
def test_origins_are_normalised(origin: str, normalised: str) -> None:
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
def test_what_is_no_origin(origin: str) -> None:
    keys = [
        problem.key for problem in problems(f'[upstream]\nbase_url = "{origin}"\norigins = ["arena.ai", "{origin}"]')
    ]
    assert keys == ["upstream.base_url", "upstream.origins[1]"]


def test_networks() -> None:
    config = load(write('[server]\ntrusted_proxies = ["127.0.0.1", "10.1.2.3/8", "fd00::/8"]'), {})
    assert config.server.trusted_proxies == (
        ip_network("127.0.0.1/32"),
        ip_network("10.0.0.0/8"),
        ip_network("fd00::/8"),
    )


def test_cors_origins() -> None:
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
def test_what_is_an_origin_of_a_page(origin: str) -> None:
    assert load(write(f"[server]\ncors_origins = ['{origin}']"), {}).server.cors_origins == (origin,)


def test_the_letter_case_of_an_origin_does_not_matter() -> None:
    config = load(write('[server]\ncors_origins = ["HTTP://LocalHost:3000", "NULL"]'), {})
    assert config.server.cors_origins == ("http://localhost:3000", "null")


@pytest.mark.parametrize(
    "origin",
    ["", "localhost:*", "https://*", "http://*:*", "http://*.*", "http://a:b", "http://a/", "http://a@b", "http://a b",
     "*://localhost", "http://[::1", "://a", "http://"],
)  # fmt: skip
def test_what_is_no_origin_of_a_page(origin: str) -> None:
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
def test_a_bare_string_is_a_list_of_one(name: str, text: str, members: tuple[object, ...], place: str) -> None:
    section, key = name.split(".")
    if place == "file":
        config = load(write(f"[{section}]\n{key} = '{text}'"), {})
    else:
        config = load(None, {f"LMARENA_BRIDGE_{section}__{key}".upper(): text})
    assert getattr(getattr(config, section), key) == members


def test_a_wrong_bare_string_is_reported_without_an_index() -> None:
    (problem,) = problems("[server]\ncors_origins = 'localhost'")
    assert (problem.key, problem.found) == ("server.cors_origins", '"localhost"')


def test_aliases_keep_their_order() -> None:
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
def test_a_wrong_alias_is_reported_with_its_name(line: str, key: str, found: str) -> None:
    (problem,) = problems(f"[models]\nhide = []\n[models.aliases]\n{line}")
    assert (problem.where, problem.key, problem.found) == ("bridge.toml:3", key, found)


def test_there_may_be_a_thousand_aliases() -> None:
    lines = [f"a{number} = 'b'" for number in range(1001)]
    assert len(load(write("\n".join(["[models.aliases]", *lines[:1000]])), {}).models.aliases) == 1000
    assert "at most 1,000" in complaint("\n".join(["[models.aliases]", *lines]))


def test_relative_paths_start_at_the_file_s_folder(tmp_path: Path) -> None:
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


def test_systemd_s_state_directory_is_the_default() -> None:
    environ = {"STATE_DIRECTORY": "/var/lib/bridge:/var/lib/other"}
    assert load(None, environ).server.state_dir == Path("/var/lib/bridge")
    assert load(write('[server]\nstate_dir = "/s"'), environ).server.state_dir == Path("/s")


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Config.read({}).server.port = 1  # type: ignore[misc]  # which is the point


# --- where the file is ---


def test_the_usual_places(tmp_path: Path) -> None:
    def put(folder: str, port: int) -> Path:
        path = tmp_path / folder / "bridge.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[server]\nport = {port}")
        return path

    environ = {"HOME": str(tmp_path / "home")}
    assert load(None, environ).source is None
    home = put("home/.config/lmarena-bridge", 1)
    assert load(None, environ).source == home
    environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    assert load(None, environ).source is None
    xdg = put("xdg/lmarena-bridge", 2)
    assert (load(None, environ).source, load(None, environ).server.port) == (xdg, 2)
    here = put(".", 3)
    assert load(None, environ).source == here
    assert load(home, environ).source == home


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[server]\n# \xff", "2: is not UTF-8"),
        (b"[server]\nport = \n", "2:8: is not TOML: Invalid value"),
        (b"[server]\nport = [1,", "2:11: is not TOML: Invalid value"),
        (b"[upstream]\ncf_clearance = canary", "2:16: is not TOML: Invalid value"),
        (b"a = 1\na = 2", "2:6: is not TOML: Cannot overwrite a value"),
    ],
)
def test_a_file_that_is_no_toml(data: bytes, said: str) -> None:
    path = Path("bridge.toml")
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == f"bridge.toml:{said}"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^missing\.toml: cannot be read: No such file or directory$"):
        load(Path("missing.toml"), {})
    with pytest.raises(ConfigError, match=r": cannot be read: Is a directory$"):
        load(tmp_path, {})


def test_a_mark_at_the_beginning_of_a_file_is_no_error() -> None:
    path = Path("bridge.toml")
    path.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 1\r\n")
    assert load(path, {}).server.port == 1


# --- what is wrong, and where ---

WRONG = {
    "type": (
        "[server]\n\n# a comment\nport = 'abc'",
        '4: server.port: found "abc"; allowed: a whole number from 0 to 65535',
    ),
    "range": (
        "[server]\nport = 65536",
        "2: server.port: found 65536; allowed: a whole number from 0 to 65535",
    ),
    "a number in quotes": (
        "[limits]\nrpm = '60'",
        '2: limits.rpm: found "60"; allowed: a whole number from 1 to 1000000',
    ),
    "a fraction": (
        "[limits]\nrpm = 60.0",
        "2: limits.rpm: found 60.0; allowed: a whole number from 1 to 1000000",
    ),
    "true is no number": (
        "[server]\nbody_timeout = true",
        "2: server.body_timeout: found true; allowed: a number above 0, at most 3600",
    ),
    "1 is not true": (
        "[images]\nfetch_urls = 1",
        "2: images.fetch_urls: found 1; allowed: true or false",
    ),
    "no time at all": (
        "[upstream]\nidle_timeout = 0",
        "2: upstream.idle_timeout: found 0; allowed: a number above 0, at most 3600",
    ),
    "for ever": (
        "[upstream]\nidle_timeout = inf",
        "2: upstream.idle_timeout: found Infinity; allowed: a number above 0, at most 3600",
    ),
    "not a number": (
        "[upstream]\nidle_timeout = nan",
        "2: upstream.idle_timeout: found NaN; allowed: a number above 0, at most 3600",
    ),
    "more than a float can hold": (
        f"[log]\n[upstream]\nidle_timeout = {10**320}",
        f"3: upstream.idle_timeout: found 1{'0' * 79}…; allowed: a number above 0, at most 3600",
    ),
    "choice": (
        "stream.keepalive = 'on'",
        '1: stream.keepalive: found "on"; allowed: one of comment, chunk, off',
    ),
    "member of a list": (
        "[server]\ntrusted_proxies = ['::1', 5]",
        "2: server.trusted_proxies[1]: found 5; allowed: a list of IP addresses and networks, such as 10.0.0.0/8",
    ),
    "no list": (
        "[models]\nhide = 5",
        "2: models.hide: found 5; allowed: a list of names; *, ? and [...] match as in a shell",
    ),
    "a table for a value": (
        "[server.port]\na = 1",
        '1: server.port: found {"a": 1}; allowed: a whole number from 0 to 65535',
    ),
    "a value for a table": ("server = 'canary'", "1: server: allowed: a table [server]"),
    "inside an inline table": (
        "# first\nserver = { host = '', port = 1 }",
        '2: server.host: found ""; allowed: a host name or an IP address',
    ),
    "header injection": (
        '[upstream]\nuser_agent = "a\\r\\nb"',
        r'2: upstream.user_agent: found "a\r\nb"; allowed: one line of printable ASCII, or empty',
    ),
    "key without certificate": (
        "[server]\ntls_key = 'k'",
        '2: server.tls_key: found "k"; allowed: a path if tls_cert is set, else empty',
    ),
    "certificate without key": (
        "[server]\ntls_cert = 'c'",
        '1: server.tls_key: found ""; allowed: a path if tls_cert is set, else empty',
    ),
    "a secret of the wrong form": (
        "[upstream]\ncf_clearance = 'canary\t'",
        "2: upstream.cf_clearance: found a secret (not shown); allowed: a cookie's value, without its name, or empty",
    ),
    "a secret of the wrong type": (
        "[upstream]\ncf_clearance = ['canary']",
        "2: upstream.cf_clearance: found a secret (not shown); allowed: a cookie's value, without its name, or empty",
    ),
    "Redis": (
        "[redis]\nurl = 'redis://:canary@localhost/name'",
        f"2: redis.url: found a secret (not shown); allowed: {FORMS}",
    ),
    "workers without Redis": (
        "[server]\nworkers = 2",
        "2: server.workers: more than 1 needs redis.url, where the processes share their state",
    ),
    "misspelt key": ("[server]\nprot = 1", "2: server.prot: unknown name; did you mean server.port?"),
    "key of another section": ("[server]\nrpm = 1", "2: server.rpm: unknown name; did you mean limits.rpm?"),
    "key of no section": ("port = 1", "1: port: unknown name; did you mean server.port?"),
    "misspelt section": ("[sever]\nport = 1", "1: sever: unknown name; did you mean server?"),
    "misspelt secret": (
        "[upstream]\ncf_clearence = 'canary'",
        "2: upstream.cf_clearence: unknown name; did you mean upstream.cf_clearance?",
    ),
    "like nothing": ("xyzzy = 1", "1: xyzzy: unknown name"),
    "our own attribute": ("source = 'x'", "1: source: unknown name"),
    "quoted and spaced": (
        '[ "server" ]\n  "port"=-1',
        "2: server.port: found -1; allowed: a whole number from 0 to 65535",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong(text: str, said: str) -> None:
    assert complaint(text) == f"bridge.toml:{said}"
    assert "canary" not in said


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("LIMITS__RPM", "0", "limits.rpm: found 0; allowed: a whole number from 1 to 1000000"),
        ("LIMITS__RPM", "", 'limits.rpm: found ""; allowed: a whole number from 1 to 1000000'),
        ("LIMITS__RPMS", "0", "limits.rpms: unknown name; did you mean limits.rpm?"),
        ("LIMIT__RPM", "0", "limit: unknown name; did you mean limits?"),
        ("UPSTREAM__USER_AGENT", "é", 'upstream.user_agent: found "é"; allowed: one line of printable ASCII, or empty'),
    ],
)  # fmt: skip
def test_wrong_variables(variable: str, text: str, said: str) -> None:
    assert complaint("", {f"LMARENA_BRIDGE_{variable}": text}) == f"LMARENA_BRIDGE_{variable}: {said}"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("PORT", "SERVER__PORT"),
        ("SERVER_PORT", "SERVER__PORT"),
        ("STATE_DIR", "SERVER__STATE_DIR"),
        ("CF_CLEARANCE", "UPSTREAM__CF_CLEARANCE"),
        ("UPSTREAM_BASE_URL", "UPSTREAM__BASE_URL"),
        ("BASEURL", "UPSTREAM__BASE_URL"),
        ("LOG_LEVEL", "LOG__LEVEL"),
    ],
)
def test_a_variable_without_a_section_is_refused_with_the_right_name(variable: str, meant: str) -> None:
    said = f"LMARENA_BRIDGE_{variable}: names no section; did you mean LMARENA_BRIDGE_{meant}?"
    assert complaint("", {f"LMARENA_BRIDGE_{variable}": "canary"}) == said


def test_a_file_error_is_reported_together_with_the_other_problems() -> None:
    found = problems("[server]\nport = 'x'", {"LMARENA_BRIDGE_PORT": "1", "LMARENA_BRIDGE_NO_SKIP": "1", "PORT": "2"})
    assert [problem.where for problem in found] == ["LMARENA_BRIDGE_PORT", "bridge.toml:2"]


def test_a_wrong_credential_is_reported_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "server.port").write_text("x")
    (problem,) = problems("", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (problem.where, problem.found) == (str(tmp_path / "server.port"), '"x"')


def test_all_problems_are_reported_at_once() -> None:
    text = "port = 1\n[server]\nport = 'x'\nhost = 3\n[log]\nlevel = 'loud'"
    found = problems(text, {"LMARENA_BRIDGE_STREAM__KEEPALIVE": "on"})
    assert {(problem.where, problem.key) for problem in found} == {
        ("bridge.toml:1", "port"),
        ("bridge.toml:3", "server.port"),
        ("bridge.toml:4", "server.host"),
        ("bridge.toml:6", "log.level"),
        ("LMARENA_BRIDGE_STREAM__KEEPALIVE", "stream.keepalive"),
    }


def test_a_long_value_is_cut() -> None:
    (problem,) = problems(f"[log]\nlevel = '{'x' * 1000}'")
    assert len(problem.found) < 100


def test_secrets_are_in_no_traceback() -> None:
    with pytest.raises(ConfigError) as caught:
        load(write("[upstream]\ncf_clearance = 'canary\t'"), {})
    assert "canary" not in str(caught.value.__cause__)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@a_share(of=20)
@given(st.sampled_from(list(KEYS)), _VALUES)
def test_any_value_of_a_key_is_read_or_reported(name: str, value: object) -> None:
    section, key = name.split(".")
    told = []
    try:
        hash(Config.read({section: {key: value}}))  # whose values cannot be changed, either
    except ConfigError as error:
        told = [problem.key for problem in error.problems]
    assert all(where == "server.tls_key" or where.startswith(name) for where in told)


@pytest.mark.parametrize("name", KEYS)
def test_every_range_admits_its_ends_and_no_more(name: str) -> None:
    section, key = name.split(".")
    bounds = re.fullmatch(r"a (whole )?number (from|above) (\d+)(?: to|, at most) (\d+)", KEYS[name].kind.allowed)
    if not bounds:
        return
    low, high = int(bounds[3]), int(bounds[4])
    smallest = low if bounds[2] == "from" else 0.001
    for value in (smallest, high) if name != "server.workers" else (1,):  # more needs Redis
        assert getattr(getattr(load(write(f"[{section}]\n{key} = {value}"), {}), section), key) == value
    for value in (low - 1 if bounds[2] == "from" else low, high + 1):
        assert name in complaint(f"[{section}]\n{key} = {value}")
