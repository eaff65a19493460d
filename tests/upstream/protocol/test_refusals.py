"""The meaning of an answer that is not a stream.

Source: docs/protocol.md, "Errors outside the stream"; docs/reliability.md, "Refusals by the site".
"""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from upstream.protocol.errors import (
    BattleRequired,
    Blocked,
    Challenge,
    EvaluationGone,
    GuestSession,
    IdsRefused,
    Moderated,
    ModeRefused,
    NotFound,
    PromptFailed,
    ProtocolViolated,
    RateLimited,
    RecaptchaRequired,
    Rejected,
    Repeat,
    ServerFailed,
    SessionExpired,
    SiteChanged,
    StaleAction,
    StaleModel,
    TermsNotAccepted,
    TimedOut,
    Unavailable,
    UpstreamError,
    WrongAccount,
)
from upstream.protocol.refusals import (
    MAX_DETAIL_CHARS,
    is_stream,
    quotable,
    read_detail,
    read_page,
    read_refusal,
    read_retry_after,
)

CHALLENGE_PAGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>"
BLOCK_PAGE = b"<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head></html>"
OTHER_PAGE = b"<html><body>No.</body></html>"
ZOD_ERROR = (
    b'{"success":false,"error":{"issues":[{"path":["modelAId"],"message":"Required"},'
    b'{"path":["userMessage","content",0],"message":"Too big: expected string to have <=113000 characters"},'
    b'{"path":[],"message":"Odd"},{"path":["mode"]},7],"name":"ZodError"}}'
)
ZOD_REASON = (
    "modelAId: Required; userMessage.content.0: Too big: expected string to have <=113000 characters; Odd; mode"
)


class Case(NamedTuple):
    """An answer and its error, with upstream's own text if it is passed on."""

    status: int
    body: bytes
    error: type[UpstreamError]
    detail: str = ""
    headers: tuple[tuple[str, str], ...] = ()


CASES = {
    "expired cookie": Case(401, b'{"error":"Unauthorized"}', SessionExpired),
    "another account's evaluation": Case(
        401, b'{"error":"User does not have access to evaluation session"}', WrongAccount
    ),
    "challenge by its page": Case(403, CHALLENGE_PAGE, Challenge),
    "challenge by its header": Case(403, b"", Challenge, headers=(("CF-Mitigated", "challenge"),)),
    "challenge with 503": Case(503, CHALLENGE_PAGE, Challenge),
    "block": Case(403, BLOCK_PAGE, Blocked),
    "recaptcha": Case(403, b'{"error":"recaptcha validation failed"}', RecaptchaRequired),
    "403 with a reason": Case(403, b'{"error":"Model is not open to you"}', Rejected, "Model is not open to you"),
    "403 with another page": Case(403, OTHER_PAGE, Rejected),
    "400 with a reason": Case(400, b'{"error":"Model gone"}', Rejected, "Model gone"),
    "400 with a list of reasons": Case(400, ZOD_ERROR, Rejected, ZOD_REASON),
    "400 without a reason": Case(400, b"", Rejected),
    "405": Case(405, b'{"error":"Method not allowed"}', SiteChanged, "Method not allowed"),
    "410": Case(410, b"", SiteChanged),
    "413": Case(413, b"Payload Too Large", SiteChanged, "Payload Too Large"),
    "415": Case(415, OTHER_PAGE, SiteChanged),
    "418, a status of the future": Case(418, b"I'm a teapot", SiteChanged, "I'm a teapot"),
    "an unrequested 101": Case(101, b"", SiteChanged),
    "204 in place of an answer": Case(204, b"", SiteChanged),
    "400 of the mode": Case(
        400,
        b'{"error":"\'direct\' mode is not allowed when starting a new conversation"}',
        ModeRefused,
        "'direct' mode is not allowed when starting a new conversation",
    ),
    "400 of the schema about the mode alone": Case(
        400,
        b'{"success":false,"error":{"issues":[{"path":["mode"],"message":"Invalid"}],"name":"ZodError"}}',
        ModeRefused,
        "mode: Invalid",
    ),
    "400 that wants a battle": Case(
        400,
        b'{"error":"Bad next turn request in Battles in Direct mode. '
        b'DIRECT was requested, but expected a BATTLE turn"}',
        BattleRequired,
        "Bad next turn request in Battles in Direct mode. DIRECT was requested, but expected a BATTLE turn",
    ),
    "400 of ids from another time": Case(
        400,
        b'{"error":"Evaluation session ID seems spoofed, offset too big"}',
        IdsRefused,
        "Evaluation session ID seems spoofed, offset too big",
    ),
    "400 of a stale model": Case(
        400,
        b'{"error":"Chosen Model(s) are no longer available"}',
        StaleModel,
        "Chosen Model(s) are no longer available",
    ),
    "404 of a stale model": Case(404, b'{"error":"Models not found: 0199"}', StaleModel, "Models not found: 0199"),
    "404 with a page": Case(404, OTHER_PAGE, NotFound),
    "401 of a guest": Case(401, b'{"error":"LOGIN_GATE"}', GuestSession),
    "403 until the terms are accepted": Case(
        403, b'{"error":"You must accept the terms of use first"}', TermsNotAccepted
    ),
    "403 of consent": Case(403, b'{"error":"Consent to the new terms is required"}', TermsNotAccepted),
    "429 of a doubted human": Case(429, b'{"error":"prompt failed"}', PromptFailed),
    "429 of a doubted human, by its class": Case(429, b'{"name":"PromptFailedError"}', PromptFailed),
    "429 with the challenge page": Case(429, CHALLENGE_PAGE, Challenge),
    "400 with the challenge's header": Case(400, b"", Challenge, headers=(("CF-Mitigated", "challenge"),)),
    "400 that quotes the challenge page's title": Case(
        400, b'{"error":"Just a moment... is no title"}', Rejected, "Just a moment... is no title"
    ),
    "404 of an evaluation": Case(404, b'{"error":"Not found"}', EvaluationGone, "Not found"),
    "404 of an action": Case(
        404, b"Server action not found.", StaleAction, headers=(("X-NextJS-Action-Not-Found", "1"),)
    ),
    "422": Case(422, b'{"error":"Content was flagged"}', Moderated, "Content was flagged"),
    "429": Case(429, b"Too many requests, please try again later.", RateLimited),
    "500": Case(500, b"Internal Server Error", ServerFailed),
    "502": Case(502, OTHER_PAGE, ServerFailed),
    "503": Case(503, b"Service Unavailable", Unavailable),
    "503 with another page": Case(503, OTHER_PAGE, Unavailable),
    "504": Case(504, OTHER_PAGE, TimedOut),
    "520 of the network before it": Case(520, OTHER_PAGE, ServerFailed),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_refusal_is_read_with_its_class_its_status_and_its_reason(case: Case) -> None:
    error = read_refusal(case.status, CIMultiDict(case.headers), case.body)
    assert (type(error), error.status, error.detail) == (case.error, case.status, case.detail)
    assert case.detail in error.message


@given(st.integers(400, 599), st.binary() | st.text().map(str.encode))
def test_the_error_for_any_body_of_a_refusal_is_one_printable_sentence(status: int, body: bytes) -> None:
    error = read_refusal(status, CIMultiDict(), body)
    assert error.status in (status, None)
    assert error.message.isprintable()
    assert len(error.detail) <= MAX_DETAIL_CHARS


# The length of a rest.

RETRY_AFTER = {
    "seconds": ("12", 12.0),
    "at once": ("0", 0.0),
    "fractions": (" 1.5 ", 1.5),
    "absent": (None, None),
    "empty": ("", None),
    "a date": ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    "negative": ("-1", None),
    "not a number": ("nan", None),
    "without end": ("inf", None),
    "an exponent": ("1e3", None),
    "other digits": ("１２", None),
    "absurd": ("9" * 400, None),
    "a day": ("86400", 86_400.0),
    "more than a day": ("86401", 86_400.0),
    "years": ("999999999", 86_400.0),
    "more years": ("9999999999999", 86_400.0),
    "years and fractions": ("31536000.5", 86_400.0),
}


@pytest.mark.parametrize(("value", "seconds"), RETRY_AFTER.values(), ids=RETRY_AFTER)
def test_retry_after_is_read_in_seconds_of_at_most_a_day(value: str | None, seconds: float | None) -> None:
    assert read_retry_after(value) == seconds


SINCE = "Wed, 21 Oct 2026 07:28:00 GMT"
RETRY_DATES = {
    "in half a minute": ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
    "tomorrow": ("Thu, 22 Oct 2026 07:28:00 GMT", 86_400.0),
    "in a year": ("Thu, 21 Oct 2027 07:28:00 GMT", 86_400.0),
    "at once": (SINCE, 0.0),
    "past": ("Tue, 20 Oct 2026 07:28:00 GMT", 0.0),
    "in the form of RFC 850": ("Wednesday, 21-Oct-26 07:29:00 GMT", 60.0),
    "in another zone": ("Wed, 21 Oct 2026 09:28:10 +0200", 10.0),
    "no day": ("Wed, 31 Feb 2026 07:28:00 GMT", None),
    "no date": ("soon", None),
    "too late for any clock": ("Wed, 21 Oct 99999 07:28:00 GMT", None),
}


@pytest.mark.parametrize(("value", "seconds"), RETRY_DATES.values(), ids=RETRY_DATES)
def test_a_retry_after_date_is_relative_to_the_date_of_the_answer(value: str, seconds: float | None) -> None:
    assert read_retry_after(value, SINCE) == seconds
    assert read_retry_after(value, None, 1_792_567_680.0) == seconds
    error = read_refusal(429, CIMultiDict({"Retry-After": value, "Date": SINCE}), b'{"error":"prompt failed"}')
    assert isinstance(error, PromptFailed)
    assert error.retry_after == seconds


STRANGE_STATUSES = [101, 201, 202, 203, 204, 205, 206, 226, 300, 304, 305, 402, 405, 406, 409, 410, 411, 412, 413, 414]
STRANGE_STATUSES += [415, 417, 418, 421, 423, 424, 425, 426, 428, 431, 451, 499, 600, 999]


@pytest.mark.parametrize("status", STRANGE_STATUSES)
def test_an_unknown_status_is_read_as_a_change_of_the_site(status: int) -> None:
    error = read_refusal(status, CIMultiDict(), b'{"error":"words"}')
    assert isinstance(error, SiteChanged)
    assert (error.status, error.repeat, error.detail) == (status, Repeat.NEVER, "words")


@pytest.mark.parametrize(("headers", "seconds"), [({"Retry-After": "12"}, 12.0), ({}, None)])
def test_a_rate_limit_error_has_the_retry_after_of_the_answer(headers: dict[str, str], seconds: float | None) -> None:
    error = read_refusal(429, CIMultiDict(headers), b"")
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


# Quoting upstream's text.

QUOTES = {
    "plain words": ("Model gone", "Model gone"),
    "a comparison": ("expected a string of <=9 characters, < 10", "expected a string of <=9 characters, < 10"),
    "a page": ("<!DOCTYPE html><p>No</p>", ""),
    "a fragment of a page": ("Sorry <B>you</B>", ""),
    "control characters": ("one\r\ntwo\x00\u2028three\x1b[31m", "one  two  three [31m"),
    "half a character": ("a\ud83d", "a"),
    "too many words": ("w" * 301, "w" * 300),
    "markup after a long text": ("w" * 301 + "<script>", ""),
    "nothing": ("", ""),
}


@pytest.mark.parametrize(("text", "quote"), QUOTES.values(), ids=QUOTES)
def test_only_plain_text_of_a_refusal_is_quoted_without_control_characters(text: str, quote: str) -> None:
    assert quotable(text) == quote


DETAILS = {
    "words": ("Too many requests", "Too many requests"),
    "an error's words": ('{"error":"Model gone"}', "Model gone"),
    "an error's message": ('{"error":{"message":"Model gone"}}', "Model gone"),
    "issues": (ZOD_ERROR.decode(), ZOD_REASON),
    "issues without words": ('{"error":{"issues":[{},{"message":7},null]}}', ""),
    "markup in an error": ('{"error":"<b>No</b>"}', ""),
    "markup in an issue": ('{"error":{"issues":[{"message":"<b>No</b>"}]}}', ""),
    "no error": ('{"success":false}', ""),
    "an error of another shape": ('{"error":["Model gone"]}', ""),
    "no object": ('["Model gone"]', ""),
    "a page": (OTHER_PAGE.decode(), ""),
    "nothing": ("", ""),
}


@pytest.mark.parametrize(("text", "detail"), DETAILS.values(), ids=DETAILS)
def test_the_detail_of_a_refusal_is_its_error_message_without_markup(text: str, detail: str) -> None:
    assert read_detail(text) == detail


# A 200 that is not a stream.


@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream; charset=utf-8", "text/plain", ""])
def test_event_streams_plain_text_and_a_missing_type_are_streams(kind: str) -> None:
    assert is_stream(kind)


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "application/json", "text/x-component"])
def test_pages_and_json_are_not_streams(kind: str) -> None:
    assert not is_stream(kind)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (CHALLENGE_PAGE, Challenge),
        (BLOCK_PAGE, Blocked),
        (b"<html><head><title>404: This page could not be found.</title></head></html>", NotFound),
        (b"<html><head><title>Page not found | Arena</title></head></html>", NotFound),
        (
            b"<html><head><title>Arena</title></head><script>'404: This page could not be found.'</script>",
            ProtocolViolated,
        ),
        (b"<html><head><title>Arena 4040</title></head></html>", ProtocolViolated),
        (OTHER_PAGE, ProtocolViolated),
        (b"\xff", ProtocolViolated),
    ],
)
def test_a_page_in_place_of_a_stream_is_read_as_its_error(body: bytes, error: type[UpstreamError]) -> None:
    page = read_page("text/html", body)
    assert (type(page), page.status, page.detail) == (error, 200, "")


@pytest.mark.parametrize(("said", "told"), [("Please rephrase it.", "Please rephrase it."), ("No", "No.")])
def test_a_quoted_sentence_has_one_full_stop(said: str, told: str) -> None:
    body = json.dumps({"error": said}).encode()
    error = read_refusal(422, {"Content-Type": "application/json"}, body)
    assert error.message == f"LMArena's moderation refused the prompt: {told}"
