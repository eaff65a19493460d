"""Redaction of secrets that upstream quotes: nothing usable remains, and ordinary text is unchanged."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_cookies import long_cookie, session_json

from upstream.protocol.cookies import PIECE_CHARS
from upstream.protocol.errors import Redirected, Rejected
from upstream.protocol.secrets import MIN_SHARED_CHARS, Secrets

CLEARANCE = "Zk3vQ9.w8Tn_xY2-1764400000-1.2.1.1-aBcDeFgHiJkLmNoP"
SESSION = long_cookie()
CONTENTS = json.loads(base64.urlsafe_b64decode(SESSION.removeprefix("base64-") + "=="))
assert CONTENTS.keys() >= session_json().keys()
SECRETS = Secrets(SESSION, clearance=CLEARANCE)
ACCESS, REFRESH = CONTENTS["access_token"], CONTENTS["refresh_token"]

QUOTES = {
    "the session, whole": SESSION,
    "the session under its name": f"arena-auth-prod-v1={SESSION}; path=/",
    "the session, escaped": quote(SESSION, safe=""),
    "its first piece": f"arena-auth-prod-v1.0={SESSION[:PIECE_CHARS]}",
    "its second piece": f"arena-auth-prod-v1.1={SESSION[PIECE_CHARS:]}",
    "the middle of it": SESSION[1000:1040],
    "its last characters": SESSION[-20:],
    "its first hundred": f"invalid cookie {SESSION[:100]}...",
    "the access token": f"token {ACCESS} has expired",
    "the access token's signature": ACCESS.rpartition(".")[2],
    "the access token as a bearer": f"Authorization: Bearer {ACCESS}",
    "the refresh token": f"refresh token {REFRESH} already used",
    "the session as JSON": json.dumps(CONTENTS),
    "the session as JSON in a string": json.dumps(json.dumps(CONTENTS)),
    "the clearance": f"cf_clearance={CLEARANCE}",
    "the clearance without its name": f"bad clearance '{CLEARANCE}'",
    "a part of the clearance": CLEARANCE[5:30],
    "all of them": f"cookie: cf_clearance={CLEARANCE}; arena-auth-prod-v1={SESSION}",
    "in lines": "\n".join(SESSION[start : start + 76] for start in range(0, len(SESSION), 76)),
}


def shared(text: str, secret: str) -> str:
    """The longest part of the secret that occurs in the text."""
    longest = ""
    for start in range(len(text)):
        while text[start : start + len(longest) + 1] in secret and start + len(longest) < len(text):
            longest = text[start : start + len(longest) + 1]
    return longest


@pytest.mark.parametrize("text", [text[:2000] for text in QUOTES.values()], ids=QUOTES)
def test_known_secrets_are_redacted_from_quotes_of_upstream(text: str) -> None:
    told = SECRETS.redacted(text)
    assert "[secret]" in told
    for secret in (SESSION, ACCESS, REFRESH, CLEARANCE):
        assert len(shared(told, secret)) < min(MIN_SHARED_CHARS, len(secret))
    assert SECRETS.redacted(told) == told


@pytest.mark.parametrize(
    "text",
    [
        f"arena-auth-prod-v1.0={SESSION[:200]}",
        f"invalid cookie {SESSION[:100]}",
        f"token {ACCESS}",
        f'{{"access_token": "{ACCESS}"}}',
        '"refresh_token":"v1bq2kxyzabc"',
        "cf_clearance: 'Zk3vQ9.w8Tn_xY2-1764400000'",
        "Authorization: Bearer abcdef",
        "sk-ant-0123456789abcdef0123",
    ],
)
def test_unknown_secrets_are_recognised_by_their_form_and_redacted(text: str) -> None:
    told = Secrets().redacted(text)
    assert "[secret]" in told
    for secret in (SESSION, ACCESS, "v1bq2kxyzabc", "Zk3vQ9", "abcdef"):
        assert len(shared(told, secret)) < MIN_SHARED_CHARS / 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Chosen Model(s) are no longer available",
        "userMessage.content: String must contain at most 113000 character(s)",
        "You are not authenticated; the session cookie arena-auth-prod-v1 is missing",
        "0190f0e0-7000-7000-8000-000000000000 does not exist",
        "Überlastet 你好 👋 — try again",
        "A bearer of bad news",
    ],
)
def test_ordinary_text_is_not_redacted(text: str) -> None:
    assert SECRETS.redacted(text) == text.replace("bearer of", "bearer [secret]")


def test_a_short_clearance_is_not_redacted_from_ordinary_text() -> None:
    assert Secrets("", clearance="clear").redacted("all is clear") == "all is clear"


def test_all_texts_of_an_error_are_redacted() -> None:
    error = Rejected(f"refused: {SESSION[:300]}", status=400, detail=SESSION[:300])
    SECRETS.redact(error)
    assert (error.message, str(error), error.detail) == ("refused: [secret]", "refused: [secret]", "[secret]")
    moved = Redirected(f"to https://{CLEARANCE}.example", origin=f"https://{CLEARANCE}.example")
    SECRETS.redact(moved)
    assert (moved.message, moved.origin) == ("to https://[secret].example", "https://[secret].example")


def test_no_repr_shows_a_secret() -> None:
    assert repr(SECRETS) == "Secrets()"


words = st.text(st.sampled_from("abc XYZ019-_=.\"'\\\n{}"), max_size=20)


@given(words, st.integers(0, len(SESSION)), st.integers(MIN_SHARED_CHARS, 60), words)
def test_a_part_of_the_cookie_is_redacted_in_any_context(before: str, start: int, size: int, behind: str) -> None:
    part = SESSION[start : start + size]
    told = SECRETS.redacted(before + part + behind)
    assert len(part) < MIN_SHARED_CHARS or part not in told
