"""Sans-I/O reading of an answer that is no stream: status, headers and body → one of our errors.

Source: PROTOCOL, "Errors outside the stream".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from upstream.errors import (
    Blocked,
    Challenge,
    EvaluationGone,
    Moderated,
    ProtocolViolated,
    RateLimited,
    RecaptchaDemanded,
    Rejected,
    ServerFailed,
    SessionExpired,
    StaleAction,
    TimedOut,
    Unavailable,
    UpstreamError,
    WrongAccount,
)

#: Longest run of upstream's words that an error quotes.
MAX_DETAIL_CHARS = 300

#: Not any `<`: `expected string to have <=113000 characters` is a reason that the caller needs.
_HTML_TAG = re.compile(r"<[!/a-z]", re.IGNORECASE)

#: Content types that a stream of lines may have; an HTML page or a JSON document is something else.
_STREAM_TYPES = frozenset({"text/event-stream", "text/plain", "application/octet-stream", ""})


def read_refusal(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Say what upstream meant by a status of 400 or more. `headers` must look names up case-insensitively."""
    text = body.decode("utf-8", "replace")
    if status in (403, 503):
        wall = _read_wall(status, headers, text)
        if wall is not None:
            return wall
    detail = read_detail(text)
    match status:
        case 401 if "does not have access to evaluation session" in text:
            return WrongAccount("The evaluation belongs to another account.", status=status)
        case 401:
            return SessionExpired("LMArena does not accept the account's session cookie.", status=status)
        case 403 if "recaptcha" in text.lower():
            return RecaptchaDemanded("LMArena demands a human in a browser for this request.", status=status)
        case 404 if "x-nextjs-action-not-found" in headers:
            return StaleAction("LMArena was deployed anew: the id of the page's action is stale.", status=status)
        case 404:
            return EvaluationGone("LMArena does not know the evaluation (any more).", status=status)
        case 422:
            return Moderated(f"LMArena's moderation refused the prompt{_quoted(detail)}.", status=status, detail=detail)
        case 429:
            return RateLimited(
                "LMArena's limit for the account is reached.", retry_after=read_retry_after(headers.get("retry-after"))
            )
        case 503:
            return Unavailable("LMArena is not available (503).", status=status)
        case 504:
            return TimedOut("LMArena's own gateway timed out (504).", status=status)
        case _ if status >= 500:
            return ServerFailed(f"LMArena failed ({status}).", status=status)
        case _:
            return Rejected(f"LMArena refused the request ({status}){_quoted(detail)}.", status=status, detail=detail)


def is_stream(content_type: str) -> bool:
    """Whether a 200 of this content type is a stream of lines."""
    return content_type.partition(";")[0].strip().lower() in _STREAM_TYPES


def read_page(content_type: str, body: bytes) -> UpstreamError:
    """Say what a 200 means that is no stream of lines: a wall before the site, or a site that has changed."""
    text = body.decode("utf-8", "replace")
    return _read_wall(200, {}, text) or ProtocolViolated(
        f"LMArena answered with {content_type}, not a stream.", status=200
    )


def read_retry_after(value: str | None) -> float | None:
    """Read `Retry-After` in seconds; None where it is absent or a form that the site does not send."""
    value = (value or "").strip()
    return float(value) if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value, re.ASCII) else None


def read_detail(text: str) -> str:
    """Find upstream's own reason in a JSON error; '' where there is none that may be shown (never HTML)."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return quotable(text)
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict):
        issues = error.get("issues")
        if isinstance(issues, list):
            return quotable(
                "; ".join(filter(None, (_read_issue(issue) for issue in issues if isinstance(issue, dict))))
            )
        error = error.get("message")
    return quotable(error) if isinstance(error, str) else ""


def quotable(text: str) -> str:
    """Make upstream's words fit to be shown: printable, at most `MAX_DETAIL_CHARS`; '' for HTML."""
    if _HTML_TAG.search(text):
        return ""
    return "".join(char if char.isprintable() else " " for char in text[:MAX_DETAIL_CHARS]).strip()


def _read_issue(issue: dict[str, object]) -> str:
    """Read one entry of a ZodError: `{"path": ["modelAId"], "message": "Required"}`."""
    path, message = issue.get("path"), issue.get("message")
    place = ".".join(str(step) for step in path) if isinstance(path, list) else ""
    return ": ".join(part for part in (place, message) if isinstance(part, str) and part)


def _read_wall(status: int, headers: Mapping[str, str], text: str) -> UpstreamError | None:
    """Recognise the pages that stand before the site: a challenge, or a block."""
    if "Just a moment..." in text or headers.get("cf-mitigated", "") == "challenge":
        return Challenge("LMArena shows a challenge page: `cf_clearance` has expired.", status=status)
    if "Attention Required!" in text:
        return Blocked("LMArena blocks this network address or client.", status=status)
    return None


def _quoted(detail: str) -> str:
    return f": {detail}" if detail else ""
