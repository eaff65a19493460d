"""Answers that are not streams: pages, and all refusals of the site and the storage.

Source: `docs/protocol.md`, "Errors outside the stream".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import quote

import orjson

from upstream.arena.steps import Open, Raw, Step

Header: TypeAlias = tuple[str, str]

_PIECE_BYTES = 16 * 1024  # a body that a fault may change is sent in pieces of this size

HTML = "text/html; charset=utf-8"
JSON = "application/json"
XML = "application/xml"
PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer. `why` is the reason for a refusal, and None for a success."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[Header, ...] = ()
    why: str | None = None

    def with_headers(self, headers: Iterable[Header]) -> Reply:
        """The same reply with additional headers."""
        return replace(self, headers=(*self.headers, *headers))

    def steps(self) -> tuple[Open, Sequence[Step]]:
        """The reply as steps, which a fault can change."""
        starts = range(0, len(self.body), _PIECE_BYTES)
        pieces = [Raw(self.body[start : start + _PIECE_BYTES]) for start in starts]
        return Open(self.status, (("content-type", self.content_type), *self.headers)), pieces


class RefusedError(Exception):
    """The site refuses a call, with `reply`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.why)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Issue:
    """One complaint of the site's schema: the path within the body, and the message."""

    path: tuple[str | int, ...]
    message: str


def error(status: int, message: str, *headers: Header) -> Reply:
    """`{"error": message}`."""
    return Reply(status, JSON, orjson.dumps({"error": message}), headers, why=message)


def invalid(issues: Sequence[Issue]) -> Reply:
    """400 in the format of the site's schema library: `{"success": false, "error": {"issues": […], …}}`."""
    body = orjson.dumps({"success": False, "error": {"issues": issues, "name": "ZodError"}})
    why = "; ".join(f"{'.'.join(map(str, issue.path))}: {issue.message}" for issue in issues)
    return Reply(400, JSON, body, why=why)


def unauthorized() -> Reply:
    """401: the session cookie is missing, unknown or expired."""
    return error(401, "Unauthorized")


def login_gate() -> Reply:
    """401 for a guest, who may not chat with a model of their choice. The cookie is valid."""
    return error(401, "LOGIN_GATE")


def terms_not_accepted() -> Reply:
    """403: the account has not accepted the terms of use."""
    return error(403, "You must accept the Terms of Use before you can chat")


def login_redirect(*, next: str = "/text/direct") -> Reply:  # noqa: A002  the site's own name for it
    """302 to the login page."""
    return redirect(location=f"/login?next={quote(next, safe='')}", status=302)


def wrong_account(*, user_id: str = "unknown", evaluation_id: str = "unknown") -> Reply:
    """401 for an evaluation of another account."""
    return error(401, f"User {user_id} does not have access to evaluation session {evaluation_id}")


def evaluation_gone() -> Reply:
    """404: no such evaluation (any more)."""
    return error(404, "Evaluation session not found")


def battle_required() -> Reply:
    """400: the next turn of this conversation must be a battle."""
    return error(
        400, "Bad next turn request in Battles in Direct mode. DIRECT was requested, but expected a BATTLE turn"
    )


def mode_not_allowed(mode: str) -> Reply:
    """400: the mode exists, but this account may not use it."""
    return error(400, f"'{mode}' mode is not allowed when starting a new conversation")


def clock_offset() -> Reply:
    """400: the time within an id is far from the site's."""
    return error(400, "Evaluation session ID seems spoofed, offset too big")


def models_not_found(model_id: str) -> Reply:
    """404: no model has that id."""
    return error(404, f"Models not found: {model_id}")


def model_unavailable() -> Reply:
    """400: the model cannot be chosen, or not for this modality."""
    return error(400, "Chosen Model(s) are no longer available")


def recaptcha() -> Reply:
    """403: the site demands a human in a browser."""
    return error(403, "recaptcha validation failed")


def moderated() -> Reply:
    """422: moderation refused the prompt."""
    return error(422, "Your prompt was flagged by our content moderation. Please rephrase it.")


def rate_limited(*, retry_after: str | None = "7", image: bool = False) -> Reply:
    """429 with the given header `retry-after`, None for no such header."""
    limit, window = (1, 86400) if image else (3000, 300)
    headers = [
        ("ratelimit", f"limit={limit}, remaining=0, reset={retry_after or window}"),
        ("ratelimit-policy", f"{limit};w={window}"),
    ]
    if retry_after is not None:
        headers.append(("retry-after", str(retry_after)))
    text = "Too many requests, please try again later."
    return Reply(429, PLAIN, text.encode(), tuple(headers), why=text)


def prompt_failed(*, retry_after: str | None = "1200") -> Reply:
    """429 that is not a rate limit: the site doubts that the user is human."""
    headers = [] if retry_after is None else [("retry-after", str(retry_after))]
    return error(429, "prompt failed", *headers)


def challenge(*, status: int = 403) -> Reply:
    """403, 429 or 503: the clearance cookie is missing or has expired."""
    if status not in (403, 429, 503):
        raise ValueError(f"challenge needs the status 403, 429 or 503, not {status!r}")
    text = "Verifying you are human. This may take a few seconds."
    return _page(status, "Just a moment...", text, ("cf-mitigated", "challenge"))


def blocked() -> Reply:
    """403: the network address or the client is blocked."""
    return _page(403, "Attention Required! | Cloudflare", "Sorry, you have been blocked")


def client_error(*, status: int = 418, message: str = "Not understood") -> Reply:
    """4xx with a JSON error."""
    if status not in range(400, 500):
        raise ValueError(f"client_error needs a status from 400 to 499, not {status!r}")
    return error(status, message)


def odd_status(*, status: int = 204) -> Reply:
    """An unexpected status: 101, or a 2xx other than 200."""
    if status != 101 and status not in range(201, 300):
        raise ValueError(f"odd_status needs 101, or a status from 201 to 299, not {status!r}")
    return Reply(status, PLAIN, b"", why=f"status {status}")


def not_allowed() -> Reply:
    """405: the path does not allow this method."""
    return error(405, "Method Not Allowed")


def gone() -> Reply:
    """410: the path no longer exists."""
    return error(410, "Gone")


def unsupported_media() -> Reply:
    """415: the body has an unsupported type."""
    return error(415, "Unsupported Media Type")


def server_error(*, status: int = 500) -> Reply:
    """5xx with a page, as from the proxy in front of the site."""
    if status not in range(500, 600):
        raise ValueError(f"server_error needs a status from 500 to 599, not {status!r}")
    phrase = HTTPStatus(status).phrase
    return _page(status, f"{status} {phrase}", phrase)


def html() -> Reply:
    """200 with a page instead of an answer."""
    return _page(200, "Arena", "We will be back soon")


def redirect(*, location: str = "/maintenance", status: int = 307) -> Reply:
    """A redirect."""
    return Reply(status, PLAIN, b"", (("location", location),), why=f"redirected to {location}")


def stale_action() -> Reply:
    """404: the action's id belongs to another deployment."""
    return not_found().with_headers([("x-nextjs-action-not-found", "1")])


def storage_error(status: int, code: str, message: str) -> Reply:
    """An error in the format of object storages."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Reply(status, XML, body.encode(), why=f"{code}: {message}")


def storage_unavailable() -> Reply:
    """503: the storage demands fewer requests."""
    return storage_error(503, "SlowDown", "Please reduce your request rate.")


def url_expired() -> Reply:
    """403: the signed URL has expired."""
    return storage_error(403, "AccessDenied", "Request has expired")


def url_forged() -> Reply:
    """403: the method, key, query or type does not match the signature."""
    message = "The request signature we calculated does not match the signature you provided."
    return storage_error(403, "SignatureDoesNotMatch", message)


def moved(location: str) -> Reply:
    """301 to the page's new path."""
    return redirect(location=location, status=301)


def not_found(*, status: int = 404) -> Reply:
    """The page for an unknown path. In 2026 its status is 200."""
    return _page(status, "404: This page could not be found.", "This page could not be found.")


def forbidden() -> Reply:
    """403 for a restricted path."""
    return error(403, "Forbidden")


def _page(status: int, title: str, text: str, *headers: Header) -> Reply:
    body = f'<!DOCTYPE html><html lang="en"><head><title>{title}</title></head><body><h1>{text}</h1></body></html>'
    return Reply(status, HTML, body.encode(), headers, why=title)
