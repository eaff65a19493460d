"""Every form in which a cookie is pasted gives the same session, and no error quotes it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from paste_forms import AGENT, bash_single, curl, export, header
from session_cookies import (
    CLEARANCE,
    LONG,
    LONGER,
    NAME,
    SESSION,
    VALUE,
    cut,
    encoded,
    expected,
    named,
    sessions,
)

from upstream.protocol.cookies import CookieError, decode
from upstream.protocol.pastes import read_pasted


def bash_double(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`") + '"'


def bash_ansi(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("!", "\\u0021").replace("(", "\\x28")
    return f"$'{escaped}'"


def windows(text: str) -> str:
    return '^"' + text.replace('"', '\\"').replace("(", "^(").replace("%", "^%^") + '^"'


def rows(pairs: list[tuple[str, str]]) -> str:
    return "\n".join(
        f"{name}\t{value}\tarena.example\t/\t2027-01-15T08:00:01.000Z\t{len(value)}\t✓" for name, value in pairs
    )


def forms(value: str, size: int = 3180) -> dict[str, str]:
    """This session in every form of a paste, in pieces of `size` characters."""
    pieces = cut(value, size)
    pairs = named(pieces)
    assignments = [f"{name}={piece}" for name, piece in pairs]
    return {
        "bare": value,
        "bare, quoted": f' "{value}"\r\n',
        "bare, percent-encoded": quote(value, safe=""),
        "bare, wrapped": "\n".join(cut(value, 76)),
        "bare pieces": "\n".join(pieces),
        "bare pieces in quotes and commas": ", ".join(f"'{piece}'" for piece in pieces),
        "bare, twice": f"{value}\n{value}",
        "named": f"{NAME}={value}",
        "named, with quotes": f'{NAME}="{value}"',
        "named, quoted": f"'{NAME}={value}'",
        "named, colon": f'{NAME}: "{value}"',
        "named, percent-encoded": f"{NAME}={quote(value, safe='')};",
        "named, on two lines": f"{NAME}\r\n{value}\r\n",
        "with a byte order mark": f"\ufeff{NAME}={value}",
        "set-cookie": f"Set-Cookie: {NAME}={value}; Path=/; Max-Age=34560000; SameSite=Lax",
        "pieces on a line": "; ".join(assignments),
        "pieces one a line": "\n".join(assignments),
        "pieces backwards": "\r\n".join(reversed(assignments)),
        "pieces, percent-encoded whole": "; ".join(
            f"{name}={piece}" for name, piece in named(cut(quote(value, safe=""), size))
        ),
        "row": rows([(NAME, value)]),
        "rows whose tabs became spaces": rows(pairs).replace("\t", "    "),
        "rows backwards": rows([*reversed(pairs), ("other", "1")]),
        "cookies.txt": "\n".join(f".arena.example\tTRUE\t/\tTRUE\t1800000001\t{name}\t{text}" for name, text in pairs),
        "header": header(value, size),
        "header with its word": f"Cookie: {header(value, size)}\r\n",
        "header, lower case": f"cookie:{header(value, size)}",
        "all headers": f"accept: */*\r\ncookie: {header(value, size)}\r\nuser-agent: {AGENT}\r\n",
        "curl, single quotes": curl(value, bash_single, size=size),
        "curl, double quotes": curl(value, bash_double, size=size, option="--cookie"),
        "curl, ansi quotes": curl(value, bash_ansi, size=size, option="-H"),
        "curl, header option": curl(value, bash_single, size=size, option="--header"),
        "curl on one line": curl(value, bash_single, size=size, newline=" "),
        "curl with CRLF": curl(value, bash_double, size=size, newline=" \\\r\n  "),
        "curl, windows": curl(value, windows, size=size, newline=" ^\r\n  "),
        "json list": json.dumps(export([("other", "x"), *reversed(pairs)]), indent=2),
        "json, whole": json.dumps(export([(NAME, value)])),
        "json storage state": json.dumps({"cookies": export(pairs), "origins": []}),
        "json mapping": json.dumps(dict(pairs) | {"n": 1}),
    }


@pytest.mark.parametrize("value", [VALUE, LONG, LONGER], ids=["one piece", "two pieces", "three pieces"])
def test_every_form_of_a_pasted_cookie_gives_the_same_session(value: str) -> None:
    for form, paste in forms(value).items():
        assert read_pasted(paste).session == expected(value), form


@pytest.mark.parametrize("form", [form for form in forms(VALUE) if form.startswith("curl")] + ["all headers"])
def test_the_clearance_and_the_user_agent_are_found_in_a_paste(form: str) -> None:
    pasted = read_pasted(forms(LONG)[form])
    assert (pasted.cf_clearance, pasted.user_agent) == (CLEARANCE, AGENT)


def test_the_user_agent_is_read_from_the_option_of_a_curl_command() -> None:
    pasted = read_pasted(f"$ curl https://arena.example -A '{AGENT[:40]}' -b {NAME}={VALUE}")
    assert (pasted.session, pasted.user_agent) == (SESSION, AGENT[:40])


def test_a_pasted_cookie_header_has_a_clearance_but_no_user_agent() -> None:
    pasted = read_pasted(header(VALUE))
    assert (pasted.cf_clearance, pasted.user_agent) == (CLEARANCE, None)


def test_a_clearance_with_its_user_agent_may_be_pasted_without_a_session() -> None:
    pasted = read_pasted(f"curl 'https://arena.example' -b 'cf_clearance={CLEARANCE}' -H 'user-agent: {AGENT[:30]}'")
    assert (pasted.session, pasted.cf_clearance, pasted.user_agent) == (None, CLEARANCE, AGENT[:30])


def test_the_first_of_several_pasted_clearances_is_used() -> None:
    assert read_pasted(f"cf_clearance=first; {NAME}={VALUE}; cf_clearance=second").cf_clearance == "first"


def test_a_whole_cookie_takes_precedence_over_stale_pieces() -> None:
    assert read_pasted(f"{NAME}.0=stale; {NAME}.2=stale; {NAME}={VALUE}").session == SESSION


def test_an_empty_cookie_beside_pieces_is_ignored() -> None:
    zero, one = cut(LONG)
    session = read_pasted(f"{NAME}=; {NAME}.0={zero}; {NAME}.1={one}; {NAME}.2=").session
    assert session is not None
    assert session.value == LONG


def test_the_code_verifier_cookie_of_a_login_is_not_read_as_the_session() -> None:
    assert read_pasted(f"{NAME}-code-verifier=base64-abc; sb-{NAME}=base64-abc; {NAME}={VALUE}").session == SESSION


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "no session cookie in it", id="nothing"),
        pytest.param("hello world", "no session cookie in it", id="prose"),
        pytest.param("привет", "no session cookie in it", id="cyrillic prose"),
        pytest.param("_ga=1; theme=dark", "no session cookie in it", id="other cookies"),
        pytest.param(f"{NAME}=", "no session cookie in it", id="an empty cookie"),
        pytest.param(f"{NAME}.0\n{NAME}.1", "no session cookie in it", id="names only"),
        pytest.param("[]", "no session cookie in it", id="an empty export"),
        pytest.param('[1, {"name": 2, "value": 3}]', "no session cookie in it", id="an odd export"),
        pytest.param("[{", "no session cookie in it", id="a broken export"),
        pytest.param("curl 'https://arena.example'", "no session cookie in it", id="a bare curl"),
        pytest.param("curl 'unmatched -b \\", "no session cookie in it", id="an unmatched quote"),
        pytest.param(f"cf_clearance={CLEARANCE}", "this is cf_clearance only", id="clearance only"),
        pytest.param(rows([("cf_clearance", CLEARANCE)]), "this is cf_clearance only", id="its row only"),
        pytest.param(rows(named(cut(LONG))[1:]), "piece 0 of the session cookie is missing", id="no first piece"),
        pytest.param(
            rows([named(cut(LONGER))[i] for i in (0, 2)]),
            "piece 1 of the session cookie is missing",
            id="no middle piece",
        ),
        pytest.param(rows(named(cut(LONG))[:1]), "cut short", id="no last piece"),
        pytest.param(f"{NAME}.0={cut(LONG)[0]}\n{NAME}.0={cut(LONG)[1]}", "occurs twice", id="one piece twice"),
        pytest.param(f"{NAME}={VALUE}\n{NAME}={LONG}", "occurs twice", id="two accounts"),
        pytest.param(f"{VALUE}\n{LONG}", "two session cookies", id="two bare values"),
        pytest.param(f"{NAME}=eyJhbGciOi.eyJzdWIi.c2ln", "does not begin with base64-", id="a token"),
        pytest.param(f"{NAME}=base64-*", "not base64", id="not base64"),
        pytest.param(f"{NAME}={VALUE}жж", "not allowed in a cookie", id="cyrillic in the value"),
        pytest.param(f"{NAME}={VALUE}%0d%0aX:1", "not allowed in a cookie", id="an encoded line end"),
        pytest.param(f"{NAME}={VALUE}\x1b[201~", "control characters", id="an escape sequence"),
        pytest.param(f"{NAME}={VALUE}\x00", "control characters", id="a null"),
        pytest.param(json.dumps(export([(NAME, VALUE + "\x7f")])), "control characters", id="a control in an export"),
        pytest.param(f"{NAME}={VALUE}; cf_clearance=ключ", "value of cf_clearance", id="cyrillic clearance"),
        pytest.param(f"cookie: {NAME}={VALUE}\nuser-agent: Мозилла", "the user agent", id="cyrillic user agent"),
    ],
)
def test_an_incomplete_paste_is_explained(text: str, message: str) -> None:
    with pytest.raises(CookieError, match=message) as caught:
        read_pasted(text)
    assert not any(secret in str(caught.value) for secret in (VALUE[:20], LONG[:20], CLEARANCE, "eyJ"))


def test_no_repr_shows_a_secret() -> None:
    pasted = read_pasted(curl(LONG, bash_single))
    assert "u-1" in repr(pasted)
    assert LONG[7:30] not in repr(pasted)
    assert CLEARANCE not in repr(pasted)


@a_share(of=5)
@given(sessions, st.booleans(), st.booleans(), st.integers(60, 900), st.sampled_from(sorted(forms(VALUE))))
def test_random_sessions_are_read_from_every_form_of_paste(
    whole: dict[str, Any], standard: bool, padded: bool, size: int, form: str
) -> None:
    value = "base64-" + encoded(whole, standard=standard, padded=padded)
    session = replace(
        decode(value), user_id=whole["user"]["id"], email=whole["user"]["email"], expires_at=float(whole["expires_at"])
    )
    read = read_pasted(forms(value, size)[form]).session
    assert read is not None
    assert read.value.rstrip("=") == value.rstrip("=")  # a piece that is nothing but padding may be left out
    assert replace(read, value=value) == session
    assert decode(value) == session


@given(st.text() | st.text(alphabet=f"{NAME}.01=;\t\n\"' cf_clearance$\\^{{[base64-"))
def test_any_text_gives_a_paste_or_a_cookie_error(pasted: str) -> None:
    for prefix in ("", "curl ", f"{NAME}=", "base64-", "[", '{"cookies":['):
        with suppress(CookieError):
            read_pasted(prefix + pasted)


def test_a_paste_of_many_spaces_is_refused_quickly() -> None:
    """Backtracking over the spaces would take minutes."""
    with pytest.raises(CookieError):
        read_pasted(f"user-agent: x{' ' * 250_000}y")
