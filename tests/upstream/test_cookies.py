"""Every form in which a session can be pasted gives the same session, and no error quotes a secret."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from upstream.cookies import CookieError, Session, cookie_header, decode, rotated
from upstream.pastes import read_pasted

NAME = "arena-auth-prod-v1"
CLEARANCE = "cL3ar.ance-1763-1.2.1.1-x_y"
AGENT = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko; "it\'s") Chrome/142.0.0.0'
EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"
USER = {"id": "u-1", "email": "ada@example.org"}


def encoded(value: object, *, standard: bool = False, padded: bool = False) -> str:
    raw = json.dumps(value, ensure_ascii=False).encode()
    text = (base64.b64encode if standard else base64.urlsafe_b64encode)(raw).decode()
    return text if padded else text.rstrip("=")


def jwt(**claims: object) -> str:
    return f"{encoded({'alg': 'HS256'})}.{encoded(claims)}.c2lnbmF0dXJl"


def session_json(**changes: object) -> dict[str, object]:
    """A session; a field given as `...` is left out."""
    whole: dict[str, object] = {
        "access_token": jwt(exp=1_800_000_000, sub="u-1"),
        "token_type": "bearer",
        "refresh_token": "r3fresh",
        "expires_at": 1_800_000_001,
        "user": USER,
    }
    return {key: value for key, value in (whole | changes).items() if value is not ...}


def cookie(**changes: object) -> str:
    return "base64-" + encoded(session_json(**changes))


def long_cookie(seed: int = 1, length: int = 3_000) -> str:
    filler = "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz", k=length))
    return cookie(provider_token=filler)


def cut(value: str, size: int = 3180) -> list[str]:
    return [value[start : start + size] for start in range(0, len(value), size)]


def named(pieces: list[str]) -> list[tuple[str, str]]:
    return [(f"{NAME}.{index}", piece) for index, piece in enumerate(pieces)]


VALUE = cookie()


def expected(value: str, user_id: str = "u-1", email: str | None = "ada@example.org", expires_at: float = 1_800_000_001.0) -> Session:
    """The session in a cookie made by `session_json` without an issue date."""
    return Session(value, user_id, email, expires_at, guest=False, renewable=True, issued_at=expires_at - 3600)


SESSION = expected(VALUE)
LONG = long_cookie()  # two pieces
LONGER = long_cookie(length=6_000)  # three


def header(value: str, size: int = 3180) -> str:
    """A browser's `Cookie` header: the session, in pieces when it is long, among other cookies."""
    pieces = cut(value, size)
    ours = [(NAME, value)] if len(pieces) == 1 else named(pieces)
    return "; ".join(
        f"{name}={text}" for name, text in [("_ga", "GA1.1"), ("cf_clearance", CLEARANCE), *ours, ("p", "1=2")]
    )


def bash_single(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def bash_double(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`") + '"'


def bash_ansi(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("!", "\\u0021").replace("(", "\\x28")
    return f"$'{escaped}'"


def windows(text: str) -> str:
    return '^"' + text.replace('"', '\\"').replace("(", "^(").replace("%", "^%^") + '^"'


def curl(
    value: str, quoted: Callable[[str], str], *, size: int = 3180, option: str = "-b", newline: str = " \\\n  "
) -> str:
    cookies = header(value, size)
    words = [
        f"curl {quoted('https://arena.example/?mode=direct')}",
        f"-H {quoted('accept: */*')}",
        f"{option} {quoted(cookies if option in ('-b', '--cookie') else f'cookie: {cookies}')}",
        f"-H {quoted(f'User-Agent: {AGENT}')}",
        f"--data-raw {quoted('a prompt: cf_clearance=wrong; user-agent: wrong 你好')}",
    ]
    return newline.join(words)


def rows(pairs: list[tuple[str, str]]) -> str:
    return "\n".join(
        f"{name}\t{value}\tarena.example\t/\t2027-01-15T08:00:01.000Z\t{len(value)}\t✓" for name, value in pairs
    )


def export(pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"domain": ".arena.example", "value": value, "httpOnly": True, "name": name} for name, value in pairs]


def forms(value: str, size: int = 3180) -> dict[str, str]:
    """Every form of a paste of this session, with its pieces of `size` characters."""
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


@pytest.mark.parametrize("form", forms(VALUE))
@pytest.mark.parametrize("value", [VALUE, LONG, LONGER], ids=["one piece", "two pieces", "three pieces"])
def test_every_form_gives_the_same_session(value: str, form: str) -> None:
    session = read_pasted(forms(value)[form]).session
    assert session == expected(value)


@pytest.mark.parametrize("form", [form for form in forms(VALUE) if form.startswith("curl")] + ["all headers"])
def test_clearance_and_user_agent_come_along(form: str) -> None:
    pasted = read_pasted(forms(LONG)[form])
    assert (pasted.cf_clearance, pasted.user_agent) == (CLEARANCE, AGENT)


def test_user_agent_by_its_own_option() -> None:
    pasted = read_pasted(f"$ curl https://arena.example -A '{AGENT[:40]}' -b {NAME}={VALUE}")
    assert (pasted.session, pasted.user_agent) == (SESSION, AGENT[:40])


def test_a_header_brings_the_clearance_without_a_user_agent() -> None:
    pasted = read_pasted(header(VALUE))
    assert (pasted.cf_clearance, pasted.user_agent) == (CLEARANCE, None)


def test_a_clearance_and_its_user_agent_need_no_session() -> None:
    pasted = read_pasted(f"curl 'https://arena.example' -b 'cf_clearance={CLEARANCE}' -H 'user-agent: {AGENT[:30]}'")
    assert (pasted.session, pasted.cf_clearance, pasted.user_agent) == (None, CLEARANCE, AGENT[:30])


def test_the_first_of_several_clearances_counts() -> None:
    assert read_pasted(f"cf_clearance=first; {NAME}={VALUE}; cf_clearance=second").cf_clearance == "first"


def test_a_whole_cookie_goes_before_stale_pieces() -> None:
    assert read_pasted(f"{NAME}.0=stale; {NAME}.2=stale; {NAME}={VALUE}").session == SESSION


def test_an_empty_cookie_beside_pieces_is_none() -> None:
    zero, one = cut(LONG)
    session = read_pasted(f"{NAME}=; {NAME}.0={zero}; {NAME}.1={one}; {NAME}.2=").session
    assert session is not None
    assert session.value == LONG


def test_the_login_s_other_cookie_is_not_the_session() -> None:
    assert read_pasted(f"{NAME}-code-verifier=base64-abc; sb-{NAME}=base64-abc; {NAME}={VALUE}").session == SESSION


@pytest.mark.parametrize("standard", [False, True], ids=["url-safe", "standard"])
@pytest.mark.parametrize("padded", [False, True], ids=["unpadded", "padded"])
def test_both_alphabets_padded_or_not(standard: bool, padded: bool) -> None:
    for filler in ("", "?", "??", "ÿ~>"):  # every length of padding, and both odd characters
        value = "base64-" + encoded(session_json(x=filler), standard=standard, padded=padded)
        assert decode(value) == expected(value)


@pytest.mark.parametrize(
    ("changes", "session"),
    [
        pytest.param({"expires_at": ...}, ("u-1", "ada@example.org", 1_800_000_000.0), id="expiry from the token"),
        pytest.param({"expires_at": "soon"}, ("u-1", "ada@example.org", 1_800_000_000.0), id="expiry no number"),
        pytest.param({"expires_at": True}, ("u-1", "ada@example.org", 1_800_000_000.0), id="expiry a boolean"),
        pytest.param({"expires_at": 1.5}, ("u-1", "ada@example.org", 1.5), id="expiry a fraction"),
        pytest.param({"user": ...}, ("u-1", None, 1_800_000_001.0), id="user from the token"),
        pytest.param({"user": {"id": "u-2"}}, ("u-2", None, 1_800_000_001.0), id="no email"),
        pytest.param({"user": USER | {"email": ""}}, ("u-1", None, 1_800_000_001.0), id="empty email"),
        pytest.param({"refresh_token": ...}, ("u-1", "ada@example.org", 1_800_000_001.0), id="no refresh token"),
        pytest.param({"access_token": "opaque"}, ("u-1", "ada@example.org", 1_800_000_001.0), id="an opaque token"),
    ],
)
def test_what_a_session_says(changes: dict[str, object], session: tuple[str, str | None, float]) -> None:
    found = decode(cookie(**changes))
    assert (found.user_id, found.email, found.expires_at) == session


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("", "does not begin with base64-", id="empty"),
        pytest.param(VALUE[7:], "does not begin with base64-", id="no prefix"),
        pytest.param("base64-a", "not base64", id="a length base64 cannot have"),
        pytest.param("base64-abc.def", "not base64", id="another alphabet"),
        pytest.param("base64-ab=c", "not base64", id="padding in the middle"),
        pytest.param(VALUE[:-8], "cut short", id="cut"),
        pytest.param("base64-", "cut short", id="nothing in it"),
        pytest.param("base64-" + encoded([1]), "no session", id="a list"),
        pytest.param(cookie(access_token=...), "no access_token", id="no token"),
        pytest.param(cookie(access_token=1), "no access_token", id="a number as token"),
        pytest.param(cookie(access_token="a.b.c", user={}), "names no user", id="no user"),
        pytest.param(cookie(access_token="a.b.c", user={"id": 7}), "names no user", id="a number as user"),
        pytest.param(cookie(access_token=jwt(sub="u"), expires_at=...), "no expires_at", id="no expiry"),
        pytest.param(VALUE + "\n", "characters that no cookie has", id="a line end"),
        pytest.param(VALUE + "ж", "characters that no cookie has", id="cyrillic"),
    ],
)
def test_what_is_no_session(value: str, message: str) -> None:
    with pytest.raises(CookieError, match=message):
        decode(value)


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
        pytest.param(f"{NAME}.0={cut(LONG)[0]}\n{NAME}.0={cut(LONG)[1]}", "stands in it twice", id="one piece twice"),
        pytest.param(f"{NAME}={VALUE}\n{NAME}={LONG}", "stands in it twice", id="two accounts"),
        pytest.param(f"{VALUE}\n{LONG}", "two session cookies", id="two bare values"),
        pytest.param(f"{NAME}=eyJhbGciOi.eyJzdWIi.c2ln", "does not begin with base64-", id="a token"),
        pytest.param(f"{NAME}=base64-*", "not base64", id="not base64"),
        pytest.param(f"{NAME}={VALUE}жж", "characters that no cookie has", id="cyrillic in the value"),
        pytest.param(f"{NAME}={VALUE}%0d%0aX:1", "characters that no cookie has", id="an encoded line end"),
        pytest.param(f"{NAME}={VALUE}\x1b[201~", "control characters", id="an escape sequence"),
        pytest.param(f"{NAME}={VALUE}\x00", "control characters", id="a null"),
        pytest.param(json.dumps(export([(NAME, VALUE + "\x7f")])), "control characters", id="a control in an export"),
        pytest.param(f"{NAME}={VALUE}; cf_clearance=ключ", "value of cf_clearance", id="cyrillic clearance"),
        pytest.param(f"cookie: {NAME}={VALUE}\nuser-agent: Мозилла", "the user agent", id="cyrillic user agent"),
    ],
)
def test_what_a_paste_lacks(text: str, message: str) -> None:
    with pytest.raises(CookieError, match=message) as caught:
        read_pasted(text)
    assert not any(secret in str(caught.value) for secret in (VALUE[:20], LONG[:20], CLEARANCE, "eyJ"))


def test_no_repr_shows_a_secret() -> None:
    pasted = read_pasted(curl(LONG, bash_single))
    assert "u-1" in repr(pasted)
    assert LONG[7:30] not in repr(pasted)
    assert CLEARANCE not in repr(pasted)


def test_cookie_header_whole_and_in_pieces() -> None:
    assert cookie_header(VALUE, CLEARANCE) == f"cf_clearance={CLEARANCE}; {NAME}={VALUE}"
    zero, one, two = cut(LONGER)
    assert cookie_header(LONGER, "") == f"{NAME}.0={zero}; {NAME}.1={one}; {NAME}.2={two}"
    assert cookie_header("", CLEARANCE) == f"cf_clearance={CLEARANCE}"


@pytest.mark.parametrize(("length", "pieces"), [(3180, 1), (3181, 2), (6360, 2), (6361, 3)])
def test_where_a_session_is_cut(length: int, pieces: int) -> None:
    sent = cookie_header("a" * length, "").split("; ")
    assert len(sent) == pieces
    assert "".join(each.partition("=")[2] for each in sent) == "a" * length


@pytest.mark.parametrize("bad", ["a\r\nX: 1", "a;b=1", "a b", 'a"', "ключ", "a\x00"], ids=ascii)
def test_cookie_header_refuses_what_no_cookie_holds(bad: str) -> None:
    for values in ((bad, CLEARANCE), (VALUE, bad)):
        with pytest.raises(CookieError, match="characters that no cookie has") as caught:
            cookie_header(*values)
        assert bad not in str(caught.value)


ATTRIBUTES = "; Path=/; Expires=Sat, 01 Jan 2028 00:00:00 GMT; Max-Age=34560000; SameSite=Lax"
NEW = cookie(expires_at=1_800_003_600)
NEW_LONG = long_cookie(seed=2)
SAME_HEAD = "base64-" + encoded(session_json(provider_token="x" * 3_000) | {"last": "changed"})
BEFORE_HEAD = "base64-" + encoded(session_json(provider_token="x" * 3_000) | {"last": "initial"})


def put(value: str, *, attributes: str = ATTRIBUTES) -> list[str]:
    pairs = [(NAME, value)] if len(value) <= 3180 else named(cut(value))
    return [f"{name}={text}{attributes}" for name, text in pairs]


def drop(*suffixes: str, attributes: str = "; Path=/; Max-Age=0") -> list[str]:
    return [f"{NAME}{suffix}={attributes}" for suffix in suffixes]


@pytest.mark.parametrize(
    ("headers", "current", "session"),
    [
        pytest.param(put(NEW), VALUE, NEW, id="whole"),
        pytest.param(put(NEW, attributes=""), VALUE, NEW, id="without attributes"),
        pytest.param([f'{NAME}="{NEW}"; Path=/'], VALUE, NEW, id="quoted"),
        pytest.param([f"{NAME}={quote(NEW, safe='')}"], VALUE, NEW, id="percent-encoded"),
        pytest.param(["_ga=1; Max-Age=0", *put(NEW), "cf_clearance=x"], VALUE, NEW, id="among others"),
        pytest.param(put(NEW_LONG), LONG, NEW_LONG, id="pieces"),
        pytest.param(put(NEW_LONG)[::-1], LONG, NEW_LONG, id="pieces backwards"),
        pytest.param([*drop(""), *put(NEW_LONG)], VALUE, NEW_LONG, id="whole to pieces"),
        pytest.param(put(NEW_LONG), VALUE, NEW_LONG, id="whole to pieces, whole not deleted"),
        pytest.param([*drop(".0", ".1"), *put(NEW)], LONG, NEW, id="pieces to whole"),
        pytest.param([*put(NEW), *drop(".0", ".1")], LONG, NEW, id="whole, then stale pieces deleted"),
        pytest.param([*put(NEW_LONG), *drop(".2")], LONGER, NEW_LONG, id="three pieces to two"),
        pytest.param(put(NEW_LONG), LONGER, NEW_LONG, id="three pieces to two, the third left to rot"),
        pytest.param(put(SAME_HEAD)[1:], BEFORE_HEAD, SAME_HEAD, id="the last piece only"),
        pytest.param([*put(VALUE), *put(NEW)], VALUE, NEW, id="the later header wins"),
        pytest.param(put(NEW, attributes=f"; Expires={EPOCH}; Max-Age=60"), VALUE, NEW, id="Max-Age beats Expires"),
        pytest.param([], VALUE, None, id="no headers"),
        pytest.param(["_ga=1", "", ";", "="], VALUE, None, id="nothing of ours"),
        pytest.param(put(VALUE), VALUE, None, id="the same"),
        pytest.param(put(LONG), LONG, None, id="the same in pieces"),
        pytest.param(put(LONG)[1:], LONG, None, id="the same last piece"),
        pytest.param(drop(""), VALUE, None, id="deleted"),
        pytest.param(drop(".0", ".1"), LONG, None, id="pieces deleted"),
        pytest.param(drop(".1"), LONG, None, id="one piece deleted"),
        pytest.param(put(NEW, attributes="; Max-Age=0"), VALUE, None, id="deleted by Max-Age"),
        pytest.param(put(NEW, attributes="; max-age=-1"), VALUE, None, id="deleted by a negative max-age"),
        pytest.param(put(NEW, attributes=f"; Expires={EPOCH}"), VALUE, None, id="deleted by Expires"),
        pytest.param(put(NEW, attributes="; expires=Thu, 01-Jan-1970 00:00:01 GMT"), VALUE, None, id="old date form"),
        pytest.param([f"{NAME}=base64-broken"], VALUE, None, id="broken"),
        pytest.param([f"{NAME}={NEW[:-9]}"], VALUE, None, id="cut short"),
        pytest.param([f"{NAME}.0=base64-e30"], LONGER, None, id="a first piece that fits no other"),
        pytest.param(put(NEW_LONG)[1:], VALUE, None, id="a second piece without a first"),
        pytest.param([f"{NAME}={NEW}\x00"], VALUE, None, id="a control character"),
    ],
)
def test_rotation(headers: list[str], current: str, session: str | None) -> None:
    assert rotated(headers, current) == session
    assert rotated(iter(headers), current) == session


text = st.text(max_size=20)
sessions = st.builds(
    session_json,
    user=st.fixed_dictionaries({"id": st.text(min_size=1, max_size=20), "email": st.none() | st.text(min_size=1)}),
    expires_at=st.integers(0, 2**53) | st.floats(0, 1e12),
    refresh_token=text,
    user_metadata=st.dictionaries(text, text, max_size=3),
    provider_token=st.integers(0, 400).map("x".__mul__),
)


@a_share(of=5)
@given(sessions, st.booleans(), st.booleans(), st.integers(60, 900), st.sampled_from(sorted(forms(VALUE))))
def test_random_sessions_in_every_form(
    whole: dict[str, Any], standard: bool, padded: bool, size: int, form: str
) -> None:
    value = "base64-" + encoded(whole, standard=standard, padded=padded)
    session = replace(decode(value), user_id=whole["user"]["id"], email=whole["user"]["email"], expires_at=float(whole["expires_at"]))
    assert read_pasted(forms(value, size)[form]).session == session
    assert decode(value) == session


@a_share(of=5)
@given(sessions, sessions)
def test_what_we_send_and_what_the_server_sets_are_read_alike(old: dict[str, Any], new: dict[str, Any]) -> None:
    before, after = ("base64-" + encoded(each | {"pad": "y" * 3_000}) for each in (old, new))
    assert read_pasted(cookie_header(before, CLEARANCE)).session == decode(before)
    assert rotated(put(after), before) == (after if after != before else None)


@given(st.text() | st.text(alphabet=f"{NAME}.01=;\t\n\"' cf_clearance$\\^{{[base64-"))
def test_no_text_breaks_it_in_another_way(pasted: str) -> None:
    for prefix in ("", "curl ", f"{NAME}=", "base64-", "[", '{"cookies":['):
        with suppress(CookieError):
            read_pasted(prefix + pasted)


def test_a_paste_of_spaces_is_read_at_once() -> None:
    """Trying every space for the end of the line would take minutes."""
    with pytest.raises(CookieError):
        read_pasted(f"user-agent: x{' ' * 250_000}y")
