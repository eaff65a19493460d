"""Problems in a configuration: all are reported at once, each with its place and without a secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from config_files import complaint, problems, write
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.file import load
from bridge.config.problems import ConfigError
from bridge.config.schema import KEYS, Config
from bridge.shared.address import FORMS

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

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
def test_an_invalid_setting_is_reported_with_its_line_and_the_allowed_values(text: str, said: str) -> None:
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
def test_an_invalid_environment_variable_is_reported_with_its_name(variable: str, text: str, said: str) -> None:
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
def test_a_variable_without_a_section_is_rejected_with_the_name_that_was_meant(variable: str, meant: str) -> None:
    said = f"LMARENA_BRIDGE_{variable}: names no section; did you mean LMARENA_BRIDGE_{meant}?"
    assert complaint("", {f"LMARENA_BRIDGE_{variable}": "canary"}) == said


def test_problems_of_variables_and_of_the_file_are_reported_together() -> None:
    found = problems("[server]\nport = 'x'", {"LMARENA_BRIDGE_PORT": "1", "LMARENA_BRIDGE_NO_SKIP": "1", "PORT": "2"})
    assert [problem.where for problem in found] == ["LMARENA_BRIDGE_PORT", "bridge.toml:2"]


def test_an_invalid_credential_is_reported_with_its_file(tmp_path: Path) -> None:
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


def test_a_long_invalid_value_is_shortened_in_the_report() -> None:
    (problem,) = problems(f"[log]\nlevel = '{'x' * 1000}'")
    assert len(problem.found) < 100


def test_an_invalid_secret_does_not_appear_in_the_traceback() -> None:
    with pytest.raises(ConfigError) as caught:
        load(write("[upstream]\ncf_clearance = 'canary\t'"), {})
    assert "canary" not in str(caught.value.__cause__)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@a_share(of=20)
@given(st.sampled_from(list(KEYS)), _VALUES)
def test_any_value_of_a_setting_is_accepted_or_reported(name: str, value: object) -> None:
    section, key = name.split(".")
    told = []
    try:
        hash(Config.read({section: {key: value}}))  # hashable, since its values are immutable too
    except ConfigError as error:
        told = [problem.key for problem in error.problems]
    assert all(where == "server.tls_key" or where.startswith(name) for where in told)


@pytest.mark.parametrize("name", KEYS)
def test_every_range_of_a_setting_admits_its_ends_and_nothing_beyond(name: str) -> None:
    section, key = name.split(".")
    bounds = re.fullmatch(r"a (whole )?number (from|above) (\d+)(?: to|, at most) (\d+)", KEYS[name].kind.allowed)
    if not bounds:
        return
    low, high = int(bounds[3]), int(bounds[4])
    smallest = low if bounds[2] == "from" else 0.001
    for value in (smallest, high) if name != "server.workers" else (1,):  # more workers need Redis
        assert getattr(getattr(load(write(f"[{section}]\n{key} = {value}"), {}), section), key) == value
    for value in (low - 1 if bounds[2] == "from" else low, high + 1):
        assert name in complaint(f"[{section}]\n{key} = {value}")
