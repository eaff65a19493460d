"""Decoding a session cookie, sending it, and replacing it when the site sets another."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from examples import a_share
from hypothesis import given
from session_cookies import (
    CLEARANCE,
    LONG,
    LONGER,
    NAME,
    USER,
    VALUE,
    cookie,
    cut,
    encoded,
    expected,
    jwt,
    long_cookie,
    named,
    session_json,
    sessions,
)

from upstream.protocol.cookies import CookieError, contents, cookie_header, decode, encode, rotated
from upstream.protocol.pastes import read_pasted

EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"


@pytest.mark.parametrize("standard", [False, True], ids=["url-safe", "standard"])
@pytest.mark.parametrize("padded", [False, True], ids=["unpadded", "padded"])
def test_a_cookie_is_decoded_from_both_base64_alphabets_padded_or_not(standard: bool, padded: bool) -> None:
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
def test_a_session_is_decoded(changes: dict[str, object], session: tuple[str, str | None, float]) -> None:
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
        pytest.param("base64-" + encoded([1]), "not a session", id="a list"),
        pytest.param(cookie(access_token=...), "no access_token", id="no token"),
        pytest.param(cookie(access_token=1), "no access_token", id="a number as token"),
        pytest.param(cookie(access_token="a.b.c", user={}), "names no user", id="no user"),
        pytest.param(cookie(access_token="a.b.c", user={"id": 7}), "names no user", id="a number as user"),
        pytest.param(cookie(access_token=jwt(sub="u"), expires_at=...), "no expires_at", id="no expiry"),
        pytest.param(VALUE + "\n", "not allowed in a cookie", id="a line end"),
        pytest.param(VALUE + "ж", "not allowed in a cookie", id="cyrillic"),
    ],
)
def test_an_invalid_session_is_refused(value: str, message: str) -> None:
    with pytest.raises(CookieError, match=message):
        decode(value)


def test_the_cookie_header_contains_a_session_whole_or_in_pieces() -> None:
    assert cookie_header(VALUE, CLEARANCE) == f"cf_clearance={CLEARANCE}; {NAME}={VALUE}"
    zero, one, two = cut(LONGER)
    assert cookie_header(LONGER, "") == f"{NAME}.0={zero}; {NAME}.1={one}; {NAME}.2={two}"
    assert cookie_header("", CLEARANCE) == f"cf_clearance={CLEARANCE}"


@pytest.mark.parametrize(("length", "pieces"), [(3180, 1), (3181, 2), (6360, 2), (6361, 3)])
def test_a_long_session_is_split_into_pieces(length: int, pieces: int) -> None:
    sent = cookie_header("a" * length, "").split("; ")
    assert len(sent) == pieces
    assert "".join(each.partition("=")[2] for each in sent) == "a" * length


@pytest.mark.parametrize("bad", ["a\r\nX: 1", "a;b=1", "a b", 'a"', "ключ", "a\x00"], ids=ascii)
def test_the_cookie_header_refuses_invalid_characters(bad: str) -> None:
    for values in ((bad, CLEARANCE), (VALUE, bad)):
        with pytest.raises(CookieError, match="not allowed in a cookie") as caught:
            cookie_header(*values)
        assert bad not in str(caught.value)


GUEST = {"id": "u-1", "is_anonymous": True}
ATTRIBUTES = "; Path=/; Expires=Sat, 01 Jan 2028 00:00:00 GMT; Max-Age=34560000; SameSite=Lax"
NEW = cookie(expires_at=1_800_003_600)
NEW_LONG = long_cookie(seed=2)
SAME_HEAD = "base64-" + encoded(session_json(provider_token="x" * 3_000) | {"last": "changed"})
BEFORE_HEAD = "base64-" + encoded(session_json(provider_token="x" * 3_000) | {"last": "initial"})


def put(value: str, *, attributes: str = ATTRIBUTES) -> list[str]:
    pairs = [(NAME, value)] if len(value) <= 3180 else named(cut(value))
    return [f"{name}={text}{attributes}" for name, text in pairs]


def drop(*suffixes: str) -> list[str]:
    return [f"{NAME}{suffix}=; Path=/; Max-Age=0" for suffix in suffixes]


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
        pytest.param([*put(NEW), *drop("")], VALUE, NEW, id="then deleted for another domain"),
        pytest.param([*put(NEW_LONG), *drop(".0", ".1")], LONG, NEW_LONG, id="pieces, then deleted for another domain"),
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
        pytest.param(put(cookie(user=GUEST | {"id": "u-2"})), VALUE, None, id="a visitor's session, another user's"),
    ],
)
def test_set_cookie_headers_rotate_a_session_only_to_another_valid_one(
    headers: list[str], current: str, session: str | None
) -> None:
    assert rotated(headers, current) == session
    assert rotated(iter(headers), current) == session


@a_share(of=5)
@given(sessions, sessions)
def test_sent_and_set_cookies_are_decoded_alike(old: dict[str, Any], new: dict[str, Any]) -> None:
    new["user"] = old["user"]
    before, after = ("base64-" + encoded(each | {"pad": "y" * 3_000}) for each in (old, new))
    assert read_pasted(cookie_header(before, CLEARANCE)).session == decode(before)
    assert rotated(put(after), before) == (after if after != before else None)


@pytest.mark.parametrize(
    ("changes", "guest"),
    [
        pytest.param({}, False, id="an account"),
        pytest.param({"user": GUEST}, True, id="the user says so"),
        pytest.param({"user": GUEST | {"email": ""}}, True, id="an empty e-mail"),
        pytest.param({"user": GUEST | {"email": "ada@example.org"}}, False, id="an e-mail counts for more"),
        pytest.param({"user": {"id": "u-1"}}, False, id="no e-mail, and no word of a guest"),
        pytest.param({"user": {"id": "u-1", "role": "anon"}}, True, id="the user's role"),
        pytest.param({"user": {"id": "u-1", "is_anonymous": "yes"}}, False, id="not true, but a text"),
        pytest.param({"user": ..., "access_token": jwt(sub="u-1", is_anonymous=True)}, True, id="the token says so"),
        pytest.param({"user": ..., "access_token": jwt(sub="u-1", role="anon")}, True, id="the token's role"),
        pytest.param(
            {"user": ..., "access_token": jwt(sub="u-1", is_anonymous=True, email="a@b.c")},
            False,
            id="a token with e-mail",
        ),
    ],
)
def test_sessions_of_guests_are_recognised(changes: dict[str, object], guest: bool) -> None:
    assert decode(cookie(**changes)).guest is guest


@pytest.mark.parametrize(("token", "renewable"), [("r", True), ("", False), (None, False), (7, False), (..., False)])
def test_a_session_with_a_refresh_token_is_renewable(token: object, renewable: bool) -> None:
    assert decode(cookie(refresh_token=token)).renewable is renewable


@pytest.mark.parametrize(
    ("changes", "issued_at"),
    [
        pytest.param({"access_token": jwt(iat=1_799_990_000)}, 1_799_990_000.0, id="the token says so"),
        pytest.param({"access_token": jwt(iat=1_799_990_000), "expires_in": 60}, 1_799_990_000.0, id="the token first"),
        pytest.param({"expires_in": 7200}, 1_799_992_801.0, id="from its life"),
        pytest.param({"access_token": jwt(iat="then"), "expires_in": "long"}, 1_799_996_401.0, id="no numbers"),
        pytest.param({}, 1_799_996_401.0, id="an hour, if nothing says so"),
    ],
)
def test_the_issue_date_of_a_session_comes_from_its_token_or_its_life(
    changes: dict[str, object], issued_at: float
) -> None:
    assert decode(cookie(**changes)).issued_at == issued_at


@a_share(of=5)
@given(sessions)
def test_a_session_given_as_json_is_encoded_as_a_cookie_and_decoded_unchanged(session: dict[str, Any]) -> None:
    value = encode(session)
    assert contents(value) == session
    assert "=" not in value
    assert decode(value).user_id == session["user"]["id"]


def test_json_too_deep_for_a_cookie_is_refused() -> None:
    deep: dict[str, object] = {}
    for _ in range(500):
        deep = {"in": deep}
    with pytest.raises(CookieError, match="cannot be encoded as a cookie"):
        encode(deep)
