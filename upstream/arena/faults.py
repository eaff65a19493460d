"""Trouble on demand: the table of everything that can go wrong, and which of it is armed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeAlias, assert_never

from upstream.arena import bending, replies
from upstream.arena.accounts import Session
from upstream.arena.calls import Call
from upstream.arena.replies import Issue, RefusedError, Reply
from upstream.arena.steps import Abort, Close, Flow

STREAM_KINDS: Final = frozenset({"create", "follow-up", "regenerate"})
_GROUPS: Final = {"stream": STREAM_KINDS, "action": frozenset({"upload-url", "sign"})}
_READS: Final = frozenset({"page", "script", "catalog", "me", "evaluation"})
KINDS: Final = frozenset({"put", "get", *_READS, *_GROUPS}).union(*_GROUPS.values())


@dataclass(frozen=True, slots=True)
class Refuses:
    """Another answer in place of the good one; nothing happens to the evaluation."""

    about: str
    act: Callable[..., Reply]
    on: str = "stream"  # unless arming says otherwise


@dataclass(frozen=True, slots=True)
class Bends:
    """The good answer, its steps changed; the turn has begun."""

    about: str
    act: Callable[..., Flow]
    on: str = "stream"


@dataclass(frozen=True, slots=True)
class Touches:
    """The answer as always, but something befalls the call: its session, or what an action is about to say."""

    about: str
    act: Callable[..., None]
    on: str = "stream"


Fault: TypeAlias = Refuses | Bends | Touches
Bend: TypeAlias = Callable[[Flow], Flow]


def rotate(session: Session, *, pieces: bool = False) -> None:
    """This answer's `Set-Cookie` carries a new session cookie; the old one is dead."""
    session.rotation = "pieces" if pieces else "whole"


def _rotated(call: Call, *, pieces: bool = False) -> None:
    if call.session is not None:
        rotate(call.session, pieces=pieces)


def _action_failed(call: Call, *, message: str = "Something went wrong") -> None:
    call.action_error = message


def _expired_url(call: Call, *, seconds: float = 3600.0) -> None:
    call.signed_ago = seconds


def _battle_turn(call: Call) -> None:
    call.battle_wanted = True


def _rejected(*, message: str = "Model is not available") -> Reply:
    return replies.error(400, message)


def _rejected_zod(*, message: str = "String must contain at most 113000 character(s)") -> Reply:
    return replies.invalid([Issue(("userMessage", "content"), message)])


# A fault is a row: name → what it does, and how. Its parameters are the keyword arguments of the function.
FAULTS: Final[Mapping[str, Fault]] = {
    "challenge": Refuses("the page `Just a moment...`; status: 403, 429 or 503", replies.challenge),
    "blocked": Refuses("403, the page `Attention Required!`", replies.blocked),
    "recaptcha": Refuses("403 JSON, a human is wanted", replies.recaptcha),
    "expired": Refuses("401, as for a dead session cookie", replies.unauthorized),
    "wrong_account": Refuses("401, the evaluation is another account's", replies.wrong_account),
    "rate_limited": Refuses("429; retry_after: seconds as text, or null for no such header", replies.rate_limited),
    "prompt_failed": Refuses("429 JSON that is not a limit; retry_after: as above", replies.prompt_failed),
    "login_gate": Refuses("401, only for those who have signed in", replies.login_gate),
    "terms": Refuses("403, the terms of use have not been accepted", replies.terms_not_accepted),
    "rejected": Refuses('400 {"error": message}', _rejected),
    "rejected_zod": Refuses("400, a complaint of the site's schema", _rejected_zod),
    "moderated": Refuses("422, moderation refused the prompt", replies.moderated),
    "clock_offset": Refuses("400, the id's time is far from the site's", replies.clock_offset),
    "battle_turn": Touches("400, the site insists on a battle, and from then on always", _battle_turn, "follow-up"),
    "evaluation_gone": Refuses("404, no such evaluation", replies.evaluation_gone),
    "not_found": Refuses("the page for a path that is not there; status: 200 or 404", replies.not_found),
    "not_allowed": Refuses("405", replies.not_allowed),
    "gone": Refuses("410", replies.gone),
    "unsupported_media": Refuses("415", replies.unsupported_media),
    "client_error": Refuses("any other 4xx; status, message", replies.client_error),
    "odd_status": Refuses("101, or another 2xx than 200, without a body; status", replies.odd_status),
    "server_error": Refuses("5xx page; status: which", replies.server_error),
    "html": Refuses("200, but a page", replies.html),
    "redirect": Refuses("a redirect; location, status", replies.redirect),
    "login_redirect": Refuses("302 to the page for logging in; next", replies.login_redirect),
    "wrong_content_type": Bends("200 with another content_type", bending.retyped),
    "huge_header": Bends("a header of so many bytes; bytes", bending.huge_header),
    "encoded": Bends("a content coding that nobody asked for; coding", bending.encoded),
    "reset_before_headers": Bends("RST, no answer", lambda steps: bending.before(steps, Abort())),
    "close_before_headers": Bends("the connection is closed, no answer", lambda steps: bending.before(steps, Close())),
    "no_headers": Bends("silence, no answer; release: event", bending.silent),
    "silent_start": Bends("headers, then silence; release: event", bending.silent_start),
    "silent_middle": Bends("silence after some deltas; after, release: event", bending.silent_middle),
    "reset_middle": Bends("RST after some deltas; after", bending.reset_middle),
    "eof_middle": Bends("a clean end after some deltas, without a finish; after", bending.eof_middle),
    "cut_chunked": Bends("HTTP framing broken off after some deltas; after", bending.cut_chunked),
    "model_failed_first": Bends(
        "a3: as the first line; message",
        lambda steps, *, message="An error occurred": bending.model_failed(steps, after=0, message=message),
    ),
    "model_failed_middle": Bends("a3: after some deltas; after, message", bending.model_failed),
    "model_failed_object": Bends("a3: with an object; after, message", bending.model_failed_object),
    "model_failed_json": Bends("a3: with JSON in its string; after, message", bending.model_failed_json),
    "arena_error": Bends("the delta `hasArenaError`, then the end; after", bending.arena_error),
    "heartbeats": Bends("signs of life before the answer; count, every, release: event", bending.heartbeats),
    "heartbeats_only": Bends("signs of life and nothing else; every, release: event", bending.heartbeats_only),
    "finish_error": Bends("finish reason `error`", bending.finish("error")),
    "finish_missing_reason": Bends("a finish without a reason", bending.finish(None)),
    "finish_unknown": Bends("finish reason `unknown`", bending.finish("unknown")),
    "finish_length": Bends("finish reason `length`", bending.finish("length")),
    "content_filter": Bends("finish reason `content-filter`", bending.finish("content-filter")),
    "empty_answer": Bends("a finish and nothing else", bending.empty_answer),
    "explained_empty": Bends("no text; ae: says why; message", bending.explained_empty),
    "double_finish": Bends("two finishes", bending.double_finish),
    "text_after_finish": Bends("text behind the finish", bending.text_after_finish),
    "broken_json": Bends("a delta that is no JSON, in the middle; after", bending.broken_json),
    "unknown_tags": Bends("bookkeeping and unheard-of tags in the middle; after", bending.unknown_tags),
    "unknown_items": Bends("items that are not pictures, in the middle; after", bending.unknown_items),
    "no_tag_line": Bends("a line without a tag in the middle; after", bending.no_tag_line),
    "endless_line": Bends("one line that never ends; bytes: how many", bending.endless_line),
    "split_emoji": Bends("an emoji as surrogate escapes in two deltas; after", bending.split_emoji),
    "crlf": Bends("lines end in CR LF", bending.crlf),
    "data_prefix": Bends("lines begin with `data: `", bending.data_prefix),
    "one_byte_writes": Bends("a write for each byte", bending.one_byte_writes),
    "no_final_newline": Bends("the last line has no newline", bending.no_final_newline),
    "slow": Bends("a pause before each line; delta_seconds", bending.slow),
    "rotate_cookie": Touches("Set-Cookie with a new session cookie, the old one is dead; pieces: bool", _rotated),
    # Pictures in and out. Of those above, any that counts deltas counts the pieces of a body on `put`, `get`, `action`.
    "stale_action": Refuses("404, an action id of another deployment", replies.stale_action, "action"),
    "action_failed": Touches('{"success": false, "error": message}', _action_failed, "action"),
    "expired_url": Touches("a URL that was signed so long ago; seconds", _expired_url, "action"),
    "put_unavailable": Refuses("503 XML, SlowDown", replies.storage_unavailable, "put"),
    "put_expired": Refuses("403 XML, the URL has expired", replies.url_expired, "put"),
    "put_forged": Refuses("403 XML, another type or key than was signed", replies.url_forged, "put"),
    "huge_body": Bends("a picture of so many bytes, announced; bytes", bending.huge_body, "get"),
    "endless_body": Bends("a picture that does not end; bytes: how many at most", bending.endless_body, "get"),
}


@dataclass(slots=True)
class Armed:
    """A fault lying in wait for `times` calls (None: for all), of one kind and perhaps one account."""

    name: str
    fault: Fault
    times: int | None
    on: str
    account: str | None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def fits(self, call: Call) -> bool:
        """Whether it waits for calls like this one."""
        return call.kind in _GROUPS.get(self.on, {self.on}) and self.account in (None, call.account)


class Faults:
    """The faults of one arena. The first armed one that fits acts on a call, and only that one."""

    def __init__(self) -> None:
        self._armed: list[Armed] = []

    def arm(
        self, name: str, times: int | None = 1, *, on: str | None = None, account: str | None = None, **parameters: Any
    ) -> None:
        """Let `name` act on the next `times` good calls of the kind `on`, by default of those that it is made for.

        `stream` is any stream and `action` any action; each kind of them can be named, and so can the others.

        Raises:
            ValueError: the name, a parameter, `on` or `times` is not one that exists; the text lists those that do.
        """
        fault = FAULTS.get(name)
        if fault is None:
            raise ValueError(f"no fault is called {name!r}; known are {', '.join(FAULTS)}")
        on = fault.on if on is None else on
        if on not in KINDS:
            raise ValueError(f"no kind of call is {on!r}; known are {', '.join(sorted(KINDS))}")
        if times is not None and (not isinstance(times, int) or times < 1):
            raise ValueError(f"times is a count from 1 or None, not {times!r}")
        allowed = [
            known
            for known, parameter in inspect.signature(fault.act).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        if unknown := parameters.keys() - set(allowed):
            has = f"has {', '.join(allowed)}" if allowed else "has none"
            raise ValueError(f"{name} has no parameter {', '.join(sorted(unknown))}; it {has}")
        if isinstance(fault, Refuses):
            fault.act(**parameters)  # a bad value speaks up now, not in the middle of a call
        self._armed.append(Armed(name, fault, times, on, account, parameters))

    def clear(self) -> None:
        """Disarm all."""
        self._armed.clear()

    def armed(self) -> tuple[Armed, ...]:
        """What lies in wait, in the order of arming."""
        return tuple(self._armed)

    def disturb(self, call: Call) -> Bend | None:
        """Let an armed fault act on a call that is good so far: it refuses, it touches the call, or it will bend.

        Raises:
            RefusedError: the call is answered otherwise.
        """
        armed = self._take(call)
        if armed is None:
            return None
        match armed.fault:
            case Refuses(act=act):
                raise RefusedError(replace(act(**armed.parameters), why=f"fault {armed.name}"))
            case Touches(act=act):
                act(call, **armed.parameters)
                return None
            case Bends(act=act):
                return partial(act, **armed.parameters)
            case _:
                assert_never(armed.fault)

    def _take(self, call: Call) -> Armed | None:
        """The fault that acts on this call, which counts as one of its times."""
        found = next((armed for armed in self._armed if armed.fits(call)), None)
        if found is None:
            return None
        call.fault = found.name
        if found.times is not None:
            found.times -= 1
            if found.times == 0:
                self._armed.remove(found)
        return found
