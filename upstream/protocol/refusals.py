"""Sans-I/O parsing of an answer that is not a stream: turns status, headers and body into one of our errors.

Source: docs/protocol.md, "Errors outside the stream".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import orjson

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
from upstream.protocol.printable import printable

#: The longest `Retry-After` that is accepted, in seconds: the site's longest rate-limit window is a day.
MAX_RETRY_SECONDS: Final = 86_400.0
_SECONDS: Final = re.compile(r"\d+(\.\d+)?", re.ASCII)
_MAX_DATE_CHARS: Final = 64

#: The longest text of upstream that an error quotes.
MAX_DETAIL_CHARS = 300

#: Not any `<`: `expected string to have <=113000 characters` is a reason that the caller needs.
_HTML_TAG = re.compile(r"<[!/a-z]", re.IGNORECASE)

#: 400: `'direct' mode is not allowed when starting a new conversation`; the schema complains as `mode: …`.
_WRONG_MODE = re.compile(r"mode is not allowed")
_STALE_MODEL = re.compile(r"Models? not found|no longer available", re.IGNORECASE)
#: The site's exact text for terms that were not accepted is unknown: it is recognised by these words near each other.
_CONSENT = r"(?:accept|agree|consent)"
_TERMS = re.compile(rf"\bterms\b[^<]{{0,200}}{_CONSENT}|{_CONSENT}[^<]{{0,200}}\bterms\b", re.IGNORECASE)

#: The page for an unknown path, with status 200. The bodies of other pages may contain the same words.
_NOT_FOUND = re.compile(r"<title>[^<]{0,200}\b(?:404|not (?:be )?found)\b", re.IGNORECASE)

#: How much of a refusal is searched for the terms of use.
_SHORT_CHARS: Final = 4000
#: The most issues of a ZodError, and characters of a content type, that are quoted.
_MAX_ISSUES: Final = 20
_MAX_TYPE_CHARS: Final = 80

#: How far the first tag of a page is searched: only white space and comments may precede it.
_PAGE_START_CHARS = 1000

#: Content types that a line stream may have, as opposed to an HTML page or a JSON document.
_STREAM_TYPES = frozenset({"text/event-stream", "text/plain", "application/octet-stream", ""})


def read_refusal(status: int, headers: Mapping[str, str], body: bytes, now: float | None = None) -> UpstreamError:
    """Return the error for a status that is neither 200 nor a redirect.

    `headers` must be case-insensitive. `now` is unix time by the site's clock, for a `Retry-After` with a date in an
    answer without `Date`.
    """
    text = body.decode("utf-8", "replace")
    wall = _read_wall(status, headers, text)
    if wall is not None:
        return wall
    detail = read_detail(text)
    match status:
        case 400:
            return _read_bad_request(text, detail)
        case 401 if "LOGIN_GATE" in text:
            return GuestSession("LMArena allows a guest session to chat in battles only.", status=status)
        case 401 if "does not have access to evaluation session" in text:
            return WrongAccount("The evaluation belongs to another account.", status=status)
        case 401:
            return SessionExpired("LMArena does not accept the account's session cookie.", status=status)
        case 403 if "recaptcha" in text.lower():
            return RecaptchaRequired("LMArena demands a human in a browser for this request.", status=status)
        case 403 if _TERMS.search(text[:_SHORT_CHARS]):
            return TermsNotAccepted("LMArena's terms of use have not been accepted by this account.", status=status)
        case 403:
            return _rejected(status, detail)
        case 404 if "x-nextjs-action-not-found" in headers:
            return StaleAction("LMArena was deployed again: the id of the page's action is stale.", status=status)
        case 404 if _STALE_MODEL.search(text):
            message = f"LMArena has no model with this id{_quoted(detail)}."
            return StaleModel(message, status=status, detail=detail)
        case 404 if _HTML_TAG.search(text):
            return NotFound("LMArena has nothing at this address (404).", status=status)
        case 404:
            message = f"LMArena does not know the evaluation (any more){_quoted(detail)}."
            return EvaluationGone(message, status=status, detail=detail)
        case 422:
            return Moderated(f"LMArena's moderation refused the prompt{_quoted(detail)}.", status=status, detail=detail)
        case 429:
            return _read_too_many_requests(headers, text, now)
        case 503:
            return Unavailable("LMArena is not available (503).", status=status)
        case 504:
            return TimedOut("LMArena's own gateway timed out (504).", status=status)
        case _ if 500 <= status < 600:
            return ServerFailed(f"LMArena failed ({status}).", status=status)
        case _:
            return SiteChanged(
                f"LMArena answered with a status that the bridge does not know ({status}){_quoted(detail)}.",
                status=status,
                detail=detail,
            )


def _read_bad_request(text: str, detail: str) -> UpstreamError:
    """Distinguish refusals that the next attempt can correct from those that only the caller can."""
    quoted = _quoted(detail)
    if _WRONG_MODE.search(text) or (detail.startswith("mode: ") and ";" not in detail):
        return ModeRefused(f"LMArena does not allow a new chat in this mode{quoted}.", status=400, detail=detail)
    if "expected a BATTLE turn" in text:
        return BattleRequired(f"LMArena requires a battle as the chat's next turn{quoted}.", status=400, detail=detail)
    if _STALE_MODEL.search(text):
        return StaleModel(f"LMArena has no model with this id{quoted}.", status=400, detail=detail)
    if "seems spoofed" in text or "offset too big" in text:
        return IdsRefused(f"LMArena's clock differs from this machine's{quoted}.", status=400, detail=detail)
    return _rejected(400, detail)


def _read_too_many_requests(headers: Mapping[str, str], text: str, now: float | None) -> UpstreamError:
    """Return the error for a 429: a rate limit, or the site's doubt that the user is human."""
    retry_after = read_retry_after(headers.get("retry-after"), headers.get("date"), now)
    if "prompt failed" in text.lower() or "PromptFailedError" in text:
        return PromptFailed(
            "LMArena doubts that a human uses this account (429, prompt failed).", retry_after=retry_after
        )
    return RateLimited("LMArena's limit for the account is reached.", retry_after=retry_after)


def _rejected(status: int, detail: str) -> Rejected:
    return Rejected(f"LMArena refused the request ({status}){_quoted(detail)}.", status=status, detail=detail)


def is_stream(content_type: str) -> bool:
    """Whether a 200 with this content type is a line stream."""
    return content_type.partition(";")[0].strip().lower() in _STREAM_TYPES


def read_page(content_type: str, body: bytes) -> UpstreamError:
    """Return the error for a 200 that is not a line stream: a wall in front of the site, or an unknown page."""
    text = body.decode("utf-8", "replace")
    if wall := _read_wall(200, {}, text):
        return wall
    if _NOT_FOUND.search(text):
        return NotFound("LMArena has nothing at this address (it sent its page for unknown paths).", status=200)
    kind = quotable(content_type[:_MAX_TYPE_CHARS]) or "an invalid content type"
    return ProtocolViolated(f"LMArena answered with {kind}, not a stream.", status=200)


def read_retry_after(value: str | None, date: str | None = None, now: float | None = None) -> float | None:
    """Parse `Retry-After` into seconds, at most a day; None if it is absent or invalid.

    A date is relative to the answer's own, `date`, or else to `now`, unix time.
    """
    value = (value or "").strip()
    if len(value) > _MAX_DATE_CHARS:
        return None
    if _SECONDS.fullmatch(value):
        return min(float(value), MAX_RETRY_SECONDS)
    until, since = _read_date(value), _read_date(date or "")
    since = now if since is None else since
    return None if until is None or since is None else min(max(0.0, until - since), MAX_RETRY_SECONDS)


def _read_date(text: str) -> float | None:
    """Parse an HTTP date into unix time."""
    try:
        return parsedate_to_datetime(text[:_MAX_DATE_CHARS]).timestamp()
    except (ValueError, OverflowError):
        return None


def read_detail(text: str) -> str:
    """Upstream's own reason from a JSON error, if it may be shown (never HTML), else ''."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return quotable(text)
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict):
        issues = error.get("issues")
        if isinstance(issues, list):
            read = (_read_issue(issue) for issue in issues[:_MAX_ISSUES] if isinstance(issue, dict))
            return quotable("; ".join(filter(None, read)))
        error = error.get("message")
    return quotable(error) if isinstance(error, str) else ""


def quotable(text: str) -> str:
    """Make upstream's text safe to show: printable, at most `MAX_DETAIL_CHARS`; '' for HTML."""
    if _HTML_TAG.search(text):
        return ""
    return printable(text[:MAX_DETAIL_CHARS], " ").strip()


def _read_issue(issue: dict[str, object]) -> str:
    """Format one entry of a ZodError: `{"path": ["modelAId"], "message": "Required"}`."""
    path, message = issue.get("path"), issue.get("message")
    place = ".".join(str(step) for step in path) if isinstance(path, list) else ""
    return ": ".join(part for part in (place, message) if isinstance(part, str) and part)


def _read_wall(status: int, headers: Mapping[str, str], text: str) -> UpstreamError | None:
    """Recognise the pages in front of the site, with any status: a challenge, or a block.

    Only a page counts: a JSON error may contain the same words.
    """
    page = _HTML_TAG.search(text[:_PAGE_START_CHARS]) is not None
    if headers.get("cf-mitigated", "") == "challenge" or (page and "Just a moment..." in text):
        return Challenge("LMArena shows a challenge page: `cf_clearance` has expired.", status=status)
    if page and "Attention Required!" in text:
        return Blocked("LMArena blocks this network address or client.", status=status)
    return None


def _quoted(detail: str) -> str:
    """The site's own text as the end of a sentence, to which the caller adds the full stop."""
    return f": {detail.removesuffix('.')}" if detail else ""
