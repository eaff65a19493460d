"""Tables of the site's faults and of the errors that callers must get for them, whichever API they use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from running import Overrides, RunningBridge, running_bridge

from upstream.arena import Arena

PROMPT = "/say one two three four five"
TEXT = "one two three four five"
MAY_BE_REPEATED = "You can retry your request."  # for errors without a status that says so
FIRST_DELTAS = "one two "  # the text that has been sent before a fault in the middle
UPSTREAM = "upstream_error"
INVALID = "invalid_request_error"
LOGIN = ("stream", "me")  # the site refuses an invalid login for both kinds of calls


@dataclass(frozen=True, slots=True)
class Row:
    """A fault, armed for every upstream call of the kinds `on`, and the expected error and number of calls."""

    fault: str
    status: int
    type: str
    code: str
    reason: str
    calls: int = 1
    says: str = ""
    retry_after: str | None = None
    should_retry: str | None = "false"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    patience: float = 60.0  # first_byte_timeout and idle_timeout
    on: tuple[str, ...] = ("stream",)  # the kinds of upstream calls with the fault


def bad_gateway(fault: str, *, calls: int, reason: str = "upstream_error", says: str = "", **parameters: Any) -> Row:
    return Row(fault, 502, UPSTREAM, "upstream_error", reason, calls, says, parameters=parameters)


def site_changed(fault: str, says: str, **parameters: Any) -> Row:
    return bad_gateway(fault, calls=1, reason="site_changed", says=says, **parameters)


def challenge(fault: str, reason: str, says: str) -> Row:
    return Row(fault, 503, UPSTREAM, "upstream_challenge", reason, says=says)


def silence(fault: str, *, calls: int = 1, says: str = "has not begun to answer") -> Row:
    return Row(fault, 504, UPSTREAM, "upstream_timeout", "timeout", calls, says, patience=1.0)


def rate_limited(named: str | None, retry_after: str, *, calls: int, should_retry: str | None) -> Row:
    return Row(
        "rate_limited",
        429,
        "rate_limit_error",
        "upstream_rate_limited",
        "rate_limited",
        calls,
        retry_after=retry_after,
        should_retry=should_retry,
        parameters={"retry_after": named},
    )


def refused(fault: str, code: str, reason: str, says: str, **parameters: Any) -> Row:
    return Row(fault, 400, INVALID, code, reason, says=says, should_retry=None, parameters=parameters)


BEFORE_THE_ANSWER = {
    # faults that need human intervention
    "challenge page": challenge("challenge", "challenge", "cf_clearance"),
    "blocked": challenge("blocked", "blocked", "on the same network"),
    "recaptcha demanded": challenge("recaptcha", "recaptcha", "demands a human"),
    "session expired": Row("expired", 503, UPSTREAM, "no_account", "no_account", says="accounts add", on=LOGIN),
    "redirect to a login page": Row(
        "login_redirect", 503, UPSTREAM, "no_account", "no_account", says="accounts add", on=LOGIN
    ),
    "redirect to another page": bad_gateway("redirect", calls=1, reason="site_changed", says="may need an update"),
    "redirect to another origin": Row(
        "redirect",
        502,
        UPSTREAM,
        "upstream_redirect",
        "upstream_error",
        says='upstream.base_url = "https://elsewhere.example"',
        parameters={"location": "https://elsewhere.example/nextjs-api/stream/create-evaluation"},
    ),
    # 429: the only account is on cooldown
    "429, seven seconds": rate_limited("7", "7", calls=1, should_retry=None),
    "429, an hour": rate_limited("3600", "3600", calls=1, should_retry="false"),
    "429, no time named": rate_limited(None, "60", calls=1, should_retry="false"),
    "429, at once": rate_limited("0", "1", calls=3, should_retry=None),
    # refusals with the site's own message
    "400": refused("rejected", "upstream_rejected", "rejected", "Model is not available"),
    "400 of the schema": refused("rejected_zod", "upstream_rejected", "rejected", "userMessage.content: String must"),
    "422": refused("moderated", "content_filter", "moderated", "flagged by our content moderation"),
    "400, a word about signs": refused(
        "rejected", "upstream_rejected", "rejected", "x < 5 & y > 3", message="x < 5 & y > 3"
    ),
    "400, HTML": refused("rejected", "upstream_rejected", "rejected", "(400).", message="<b>not</b> this"),
    # the site no longer accepts this form of the call
    "404 with a page": site_changed("not_found", "nothing at this address", status=404),
    "200 with a page that says 404": site_changed("not_found", "nothing at this address", status=200),
    "405": site_changed("not_allowed", "(405): Method Not Allowed."),
    "410": site_changed("gone", "(410): Gone."),
    "415": site_changed("unsupported_media", "(415): Unsupported Media Type."),
    "418": site_changed("client_error", "(418): Not understood.", status=418),
    "409": site_changed("client_error", "(409): Conflict.", status=409, message="Conflict"),
    "101": site_changed("odd_status", "(101).", status=101),
    "201": site_changed("odd_status", "(201).", status=201),
    "204": site_changed("odd_status", "(204).", status=204),
    "205": site_changed("odd_status", "(205).", status=205),
    # refused, hence safe to repeat
    "404, each time": bad_gateway("evaluation_gone", calls=3, reason="wrong_account"),
    "another account's, each time": bad_gateway("wrong_account", calls=3, reason="wrong_account"),
    "503": bad_gateway("server_error", calls=3, says="503", status=503),
    # possibly accepted, hence repeated only once
    "500": bad_gateway("server_error", calls=2, says="500", status=500),
    "502": bad_gateway("server_error", calls=2, says="502", status=502),
    "507": bad_gateway("server_error", calls=2, says="507", status=507),
    "reset before headers": bad_gateway("reset_before_headers", calls=2),
    "closed before headers": bad_gateway("close_before_headers", calls=2),
    "a3 first": bad_gateway("model_failed_first", calls=2, says="Out of capacity", message="Out of capacity"),
    "a3 first, HTML": bad_gateway("model_failed_first", calls=2, says="The model failed.", message="<h1>Oops</h1>"),
    "an empty answer": bad_gateway("empty_answer", calls=2, says="empty"),
    "end before the first delta": bad_gateway("eof_middle", calls=2, reason="truncated", after=0),
    "headers, then silence": silence("silent_start", calls=2, says="sent no answer"),
    # never repeated
    "504": Row("server_error", 504, UPSTREAM, "upstream_timeout", "timeout", says="504", parameters={"status": 504}),
    "no headers": silence("no_headers"),
    "200 with a page": bad_gateway("html", calls=1, says="text/html"),
    "200 with JSON": bad_gateway("wrong_content_type", calls=1, says="json", content_type="application/json"),
    "a coding nobody asked for": bad_gateway("encoded", calls=1, says="br"),
    "a header too long": bad_gateway("huge_header", calls=1, says="header"),
    "a line without end": bad_gateway("endless_line", calls=1, says="a line of more than", bytes=9 * 1024 * 1024),
}


@asynccontextmanager
async def answered_by(arena: Arena, path: Path, row: Row) -> AsyncIterator[RunningBridge]:
    """Run a bridge for whose upstream calls the row's fault is armed."""
    patience = {"first_byte_timeout": row.patience, "idle_timeout": row.patience}
    async with running_bridge(arena, path / "state", {"upstream": patience}) as bridge:
        await bridge.logins_checked()
        for on in row.on:
            arena.faults.arm(row.fault, None, on=on, **row.parameters)
        yield bridge


@dataclass(frozen=True, slots=True)
class Break:
    """A fault that breaks off an answer after its first deltas, and the expected error."""

    fault: str
    reason: str
    says: str = ""
    status: int = 502
    code: str = "upstream_error"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    patience: float = 60.0  # idle_timeout; long, so that a busy machine is not taken for a silent site

    @property
    def overrides(self) -> Overrides:
        """The configuration of a bridge for this fault."""
        return {"upstream": {"idle_timeout": self.patience}}


IN_THE_MIDDLE = {
    "a3": Break("model_failed_middle", "upstream_error", "Out of capacity", parameters={"message": "Out of capacity"}),
    "clean end without a finish": Break("eof_middle", "truncated", "broke off"),
    "reset": Break("reset_middle", "truncated", "broke off"),
    "chunked framing cut": Break("cut_chunked", "truncated", "broke off"),
    "broken JSON": Break("broken_json", "upstream_error", "cannot be read"),
    "silence": Break("silent_middle", "timeout", "fell silent", 504, "upstream_timeout", patience=1.0),
}


#: Faults after which the answer is still complete, each with its parameters and the finish reason.
HARMLESS: dict[str, tuple[str, dict[str, Any], str]] = {
    "another stream type": ("wrong_content_type", {}, "stop"),
    "a long header": ("huge_header", {"bytes": 20_000}, "stop"),
    "a finish without a reason": ("finish_missing_reason", {}, "stop"),
    "an unknown finish": ("finish_unknown", {}, "stop"),
    "length": ("finish_length", {}, "length"),
    "content-filter": ("content_filter", {}, "content_filter"),
    "two finishes": ("double_finish", {}, "stop"),
    "text behind the finish": ("text_after_finish", {}, "stop"),
    "unknown tags": ("unknown_tags", {}, "stop"),
    "a line without a tag": ("no_tag_line", {}, "stop"),
    "CR LF": ("crlf", {}, "stop"),
    "the prefix data:": ("data_prefix", {}, "stop"),
    "one byte a write": ("one_byte_writes", {}, "stop"),
    "no final newline": ("no_final_newline", {}, "stop"),
    "a rotated cookie": ("rotate_cookie", {}, "stop"),
}
