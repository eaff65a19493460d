"""Fault injection: the table of all faults, and those that are armed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeAlias, assert_never

from upstream.arena import replies, stream_faults
from upstream.arena.calls import Call
from upstream.arena.replies import Issue, RefusedError, Reply
from upstream.arena.steps import Abort, Close, Flow

STREAM_KINDS: Final = frozenset({"create", "follow-up", "regenerate"})
_GROUPS: Final = {"stream": STREAM_KINDS, "action": frozenset({"upload-url", "sign"})}
_READS: Final = frozenset({"page", "script", "catalog", "me", "evaluation"})
KINDS: Final = frozenset({"put", "get", *_READS, *_GROUPS}).union(*_GROUPS.values())


@dataclass(frozen=True, slots=True)
class Refusal:
    """Replaces the answer; the evaluation is not affected."""

    about: str
    act: Callable[..., Reply]
    on: str = "stream"  # the kind of call, by default


@dataclass(frozen=True, slots=True)
class StreamChange:
    """Changes the steps of the normal answer; the turn has begun."""

    about: str
    act: Callable[..., Flow]
    on: str = "stream"


@dataclass(frozen=True, slots=True)
class CallChange:
    """Changes the call before it is answered normally: its session, or the result of an action."""

    about: str
    act: Callable[..., None]
    on: str = "stream"


Fault: TypeAlias = Refusal | StreamChange | CallChange
ChangeStream: TypeAlias = Callable[[Flow], Flow]


def _rotated(call: Call, *, pieces: bool = False) -> None:
    if call.session is not None:
        call.session.rotate(pieces=pieces)


def _action_failed(call: Call, *, message: str = "Something went wrong") -> None:
    call.action_error = message


def _expired_url(call: Call, *, seconds: float = 3600.0) -> None:
    call.signed_ago = seconds


def _battle_turn(call: Call) -> None:
    call.battle_required = True


def _rejected(*, message: str = "Model is not available") -> Reply:
    return replies.error(400, message)


def _rejected_zod(*, message: str = "String must contain at most 113000 character(s)") -> Reply:
    return replies.invalid([Issue(("userMessage", "content"), message)])


# One row for each fault: its name, description and function, whose keyword arguments are the fault's parameters.
FAULTS: Final[Mapping[str, Fault]] = {
    "challenge": Refusal("the page `Just a moment...`; status: 403, 429 or 503", replies.challenge),
    "blocked": Refusal("403, the page `Attention Required!`", replies.blocked),
    "recaptcha": Refusal("403 JSON, a human is demanded", replies.recaptcha),
    "expired": Refusal("401, as for a dead session cookie", replies.unauthorized),
    "wrong_account": Refusal("401, the evaluation is another account's", replies.wrong_account),
    "rate_limited": Refusal("429; retry_after: seconds as text, or null for no such header", replies.rate_limited),
    "prompt_failed": Refusal("429 JSON that is not a limit; retry_after: as above", replies.prompt_failed),
    "login_gate": Refusal("401, only for users who have signed in", replies.login_gate),
    "terms": Refusal("403, the terms of use have not been accepted", replies.terms_not_accepted),
    "rejected": Refusal('400 {"error": message}', _rejected),
    "rejected_zod": Refusal("400, a complaint of the site's schema", _rejected_zod),
    "moderated": Refusal("422, moderation refused the prompt", replies.moderated),
    "clock_offset": Refusal("400, the id's time is far from the site's", replies.clock_offset),
    "battle_turn": CallChange("400, the site demands a battle, from now on always", _battle_turn, "follow-up"),
    "evaluation_gone": Refusal("404, no such evaluation", replies.evaluation_gone),
    "not_found": Refusal("the page for an unknown path; status: 200 or 404", replies.not_found),
    "not_allowed": Refusal("405", replies.not_allowed),
    "gone": Refusal("410", replies.gone),
    "unsupported_media": Refusal("415", replies.unsupported_media),
    "client_error": Refusal("any other 4xx; status, message", replies.client_error),
    "odd_status": Refusal("101, or another 2xx than 200, without a body; status", replies.odd_status),
    "server_error": Refusal("5xx page; status: which", replies.server_error),
    "html": Refusal("200, but a page", replies.html),
    "redirect": Refusal("a redirect; location, status", replies.redirect),
    "login_redirect": Refusal("302 to the page for logging in; next", replies.login_redirect),
    "wrong_content_type": StreamChange("200 with another content_type", stream_faults.retyped),
    "huge_header": StreamChange("a very long header; bytes: its length", stream_faults.huge_header),
    "encoded": StreamChange("a content coding that was not requested; coding", stream_faults.encoded),
    "reset_before_headers": StreamChange("RST, no answer", lambda steps: stream_faults.before(steps, Abort())),
    "close_before_headers": StreamChange(
        "the connection is closed, no answer", lambda steps: stream_faults.before(steps, Close())
    ),
    "no_headers": StreamChange("silence, no answer; release: event", stream_faults.silent),
    "silent_start": StreamChange("headers, then silence; release: event", stream_faults.silent_start),
    "silent_middle": StreamChange("silence after some deltas; after, release: event", stream_faults.silent_middle),
    "reset_middle": StreamChange("RST after some deltas; after", stream_faults.reset_middle),
    "eof_middle": StreamChange("a clean end after some deltas, without a finish; after", stream_faults.eof_middle),
    "cut_chunked": StreamChange("HTTP framing broken off after some deltas; after", stream_faults.cut_chunked),
    "model_failed_first": StreamChange(
        "a3: as the first line; message",
        lambda steps, *, message="An error occurred": stream_faults.model_failed(steps, after=0, message=message),
    ),
    "model_failed_middle": StreamChange("a3: after some deltas; after, message", stream_faults.model_failed),
    "model_failed_object": StreamChange("a3: with an object; after, message", stream_faults.model_failed_object),
    "model_failed_json": StreamChange("a3: with JSON in its string; after, message", stream_faults.model_failed_json),
    "arena_error": StreamChange("the delta `hasArenaError`, then the end; after", stream_faults.arena_error),
    "heartbeats": StreamChange("heartbeats before the answer; count, every, release: event", stream_faults.heartbeats),
    "heartbeats_only": StreamChange(
        "heartbeats and nothing else; every, release: event", stream_faults.heartbeats_only
    ),
    "finish_error": StreamChange("finish reason `error`", stream_faults.finish("error")),
    "finish_missing_reason": StreamChange("a finish without a reason", stream_faults.finish(None)),
    "finish_unknown": StreamChange("finish reason `unknown`", stream_faults.finish("unknown")),
    "finish_length": StreamChange("finish reason `length`", stream_faults.finish("length")),
    "content_filter": StreamChange("finish reason `content-filter`", stream_faults.finish("content-filter")),
    "empty_answer": StreamChange("a finish and nothing else", stream_faults.empty_answer),
    "explained_empty": StreamChange("no text; ae: says why; message", stream_faults.explained_empty),
    "double_finish": StreamChange("two finishes", stream_faults.double_finish),
    "text_after_finish": StreamChange("text after the finish", stream_faults.text_after_finish),
    "broken_json": StreamChange("a delta that is not JSON, in the middle; after", stream_faults.broken_json),
    "unknown_tags": StreamChange("bookkeeping and unknown tags in the middle; after", stream_faults.unknown_tags),
    "unknown_items": StreamChange("items that are not pictures, in the middle; after", stream_faults.unknown_items),
    "no_tag_line": StreamChange("a line without a tag in the middle; after", stream_faults.no_tag_line),
    "endless_line": StreamChange("one line that never ends; bytes: how many", stream_faults.endless_line),
    "split_emoji": StreamChange("an emoji as surrogate escapes in two deltas; after", stream_faults.split_emoji),
    "crlf": StreamChange("lines end in CR LF", stream_faults.crlf),
    "data_prefix": StreamChange("lines begin with `data: `", stream_faults.data_prefix),
    "one_byte_writes": StreamChange("a write for each byte", stream_faults.one_byte_writes),
    "no_final_newline": StreamChange("the last line has no newline", stream_faults.no_final_newline),
    "slow": StreamChange("a pause before each line; delta_seconds", stream_faults.slow),
    "rotate_cookie": CallChange("Set-Cookie with a new session cookie, which revokes the old; pieces: bool", _rotated),
    # Uploads and downloads. Faults above that count deltas count pieces of the body on `put`, `get` and `action`.
    "stale_action": Refusal("404, an action id of another deployment", replies.stale_action, "action"),
    "action_failed": CallChange('{"success": false, "error": message}', _action_failed, "action"),
    "expired_url": CallChange("a URL that was signed some time ago; seconds", _expired_url, "action"),
    "put_unavailable": Refusal("503 XML, SlowDown", replies.storage_unavailable, "put"),
    "put_expired": Refusal("403 XML, the URL has expired", replies.url_expired, "put"),
    "put_forged": Refusal("403 XML, a different type or key than signed", replies.url_forged, "put"),
    "huge_body": StreamChange("a very large picture, with its length; bytes", stream_faults.huge_body, "get"),
    "endless_body": StreamChange(
        "a picture that does not end; bytes: the most sent", stream_faults.endless_body, "get"
    ),
}


@dataclass(slots=True)
class ArmedFault:
    """A fault armed for `times` calls (None: for all) of one kind, by one account if that is given."""

    name: str
    fault: Fault
    times: int | None
    on: str
    account: str | None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def matches(self, call: Call) -> bool:
        """Whether it is armed for calls like this one."""
        return call.kind in _GROUPS.get(self.on, {self.on}) and self.account in (None, call.account)


class Faults:
    """The armed faults of one arena. Only the first one that matches is applied to a call."""

    def __init__(self) -> None:
        self._armed: list[ArmedFault] = []

    def arm(
        self, name: str, times: int | None = 1, *, on: str | None = None, account: str | None = None, **parameters: Any
    ) -> None:
        """Arm fault `name` for the next `times` valid calls of kind `on`, by default the fault's usual kind.

        The kind `stream` means any stream and `action` any action; more specific kinds can be given as well.

        Raises:
            ValueError: the name, a parameter, `on` or `times` is invalid; the text lists the valid ones.
        """
        fault = FAULTS.get(name)
        if fault is None:
            raise ValueError(f"there is no fault {name!r}; known are {', '.join(FAULTS)}")
        on = fault.on if on is None else on
        if on not in KINDS:
            raise ValueError(f"there is no kind of call {on!r}; known are {', '.join(sorted(KINDS))}")
        if times is not None and (not isinstance(times, int) or times < 1):
            raise ValueError(f"times must be an integer from 1, or None, not {times!r}")
        allowed = [
            known
            for known, parameter in inspect.signature(fault.act).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        if unknown := parameters.keys() - set(allowed):
            has = f"has {', '.join(allowed)}" if allowed else "has none"
            raise ValueError(f"{name} has no parameter {', '.join(sorted(unknown))}; it {has}")
        if isinstance(fault, Refusal):
            fault.act(**parameters)  # raises for an invalid value now rather than during a call
        self._armed.append(ArmedFault(name, fault, times, on, account, parameters))

    def clear(self) -> None:
        """Disarm all."""
        self._armed.clear()

    def armed(self) -> tuple[ArmedFault, ...]:
        """The armed faults, in the order in which they were armed."""
        return tuple(self._armed)

    def apply(self, call: Call) -> ChangeStream | None:
        """Apply an armed fault to a call that has passed all checks; return the change of its stream, if there is one.

        Raises:
            RefusedError: the fault replaces the answer.
        """
        armed = self._take(call)
        if armed is None:
            return None
        match armed.fault:
            case Refusal(act=act):
                raise RefusedError(replace(act(**armed.parameters), why=f"fault {armed.name}"))
            case CallChange(act=act):
                act(call, **armed.parameters)
                return None
            case StreamChange(act=act):
                return partial(act, **armed.parameters)
            case _:
                assert_never(armed.fault)

    def _take(self, call: Call) -> ArmedFault | None:
        """Find the fault for this call, and count it as used once."""
        found = next((armed for armed in self._armed if armed.matches(call)), None)
        if found is None:
            return None
        call.fault = found.name
        if found.times is not None:
            found.times -= 1
            if found.times == 0:
                self._armed.remove(found)
        return found
