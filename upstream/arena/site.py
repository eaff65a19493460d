"""The site without sockets: answers each call by the rules of the protocol, or refuses it as the site would.

A call is checked in this order: moved site, clearance, moved page, account, body, evaluation, armed fault. Nothing is
changed before all checks have passed.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Final, TypeAlias
from urllib.parse import quote, urlencode

from upstream.arena import replies, tool_models
from upstream.arena.accounts import Session
from upstream.arena.assets import MakeReply, make_asset
from upstream.arena.behaviour import answer
from upstream.arena.calls import Call
from upstream.arena.chats import begin_turn
from upstream.arena.evaluations import Turn
from upstream.arena.faults import STREAM_KINDS
from upstream.arena.recording import AnswerRecorder
from upstream.arena.replies import Header, RefusedError, Reply
from upstream.arena.routes import moved_page, route
from upstream.arena.steps import Flow, Open, Step, flowing
from upstream.arena.streams import Stream
from upstream.arena.tokens import joined, read_cookies
from upstream.arena.world import World

Cookies: TypeAlias = Mapping[str, str]

_RENEWING: Final = frozenset({"page", "me", "evaluation"})  # GETs that renew a session near the end of its token
_FOR_VISITORS: Final = frozenset({"page", "script", "catalog", "unknown", "forbidden", "wrong method"})


class Site(World):
    """LMArena's site: `receive` answers a call."""

    def receive(self, call: Call) -> Reply | Stream:
        """Answer a call, and record its kind and the reason of a refusal in it."""
        self.calls.append(call)
        cookies = read_cookies(call.headers.get("cookie", ""))
        try:
            answer = self._answer(call, cookies)
        except RefusedError as refused:
            answer = refused.reply
            if call.fault is not None:
                call.renews = False  # the fault is in front of the site, which then does not renew the session
        if isinstance(answer, Reply):
            call.refusal = answer.why
            answer = answer.with_headers(self._set_cookies(call, cookies))
        return answer

    def _answer(self, call: Call, cookies: Cookies) -> Reply | Stream:
        if self.moved_to is not None:
            call.kind, _ = route(self, call.method, call.path, call.query)
            query = f"?{urlencode(call.query)}" if call.query else ""
            raise RefusedError(replies.moved(f"{self.moved_to}{quote(call.path)}{query}"))
        moved = moved_page(self, call.method, call.path)
        call.kind, names = (moved, {}) if moved else route(self, call.method, call.path, call.query)
        if self.playback is not None and (played := self.playback.take(call, self.origin)) is not None:
            return Stream(played, played, bursts=False)
        if self.clearance is not None and cookies.get("cf_clearance") != self.clearance:
            return replies.challenge()
        if moved:
            raise RefusedError(replies.moved(self.page_path))
        call.session = self._recognise(call, cookies)
        if call.kind in STREAM_KINDS and call.session is not None:
            return self._answer_chat(call, call.session, cookies, names)
        return self._answer_other(call, cookies, names)

    def _recognise(self, call: Call, cookies: Cookies) -> Session | None:
        """The session of the call; None for a visitor, who may read parts of the site.

        In 2025 an invalid cookie is refused everywhere. In 2026 its call counts as a visitor's where visitors are
        allowed, and only a GET renews a session whose token expires soon or has expired.
        """
        visitor = call.kind in _FOR_VISITORS
        if visitor and not joined(cookies):
            return None
        now = self.clock()
        try:
            if self.era == 2025 or call.kind not in _RENEWING:
                return self.accounts.recognise(cookies, now)
            session = self.accounts.recognise_renewable(cookies, now, self.renew_within)
        except RefusedError:
            if visitor and self.era == 2026:
                return None
            raise
        call.renews = session.renewable and session.expires_at - now <= self.renew_within
        return session

    # All but chats

    def _answer_other(self, call: Call, cookies: Cookies, names: Mapping[str, str]) -> Reply | Stream:
        make = make_asset(self, call, names)
        change = self.faults.apply(call)
        if change is None:
            return make()
        source = self._deferred(call, cookies, make)
        return Stream(change(source), source)

    async def _deferred(self, call: Call, cookies: Cookies, make: MakeReply) -> Flow:
        """Make the answer only when it is sent: a fault in front of the site must not affect the session."""
        opening, pieces = make().with_headers(self._set_cookies(call, cookies)).steps()
        yield opening
        for piece in pieces:
            yield piece

    # Chats

    def _answer_chat(self, call: Call, session: Session, cookies: Cookies, names: Mapping[str, str]) -> Stream:
        begin = begin_turn(self, call, session, names)
        change = self.faults.apply(call)
        evaluation = begin()
        steps = self._model_steps(Turn(evaluation.model, evaluation, tuple(evaluation.messages)))
        headers = [("content-type", "text/event-stream"), ("cache-control", "no-cache"), *self.ratelimit(session)]
        opening = Open(200, (*headers, *self._set_cookies(call, cookies)))
        recorder = AnswerRecorder(evaluation, keep=self.keeps_generating)
        source = recorder.observed(flowing(opening, steps)) if self.keeps_generating else flowing(opening, steps)
        return Stream(
            source if change is None else change(source),
            source,
            bursts=not isinstance(steps, AsyncIterable),
            recorder=recorder,
        )

    def _model_steps(self, turn: Turn) -> AsyncIterator[Step] | Iterable[Step]:
        if self.script is not None:
            return self.script(turn)
        if tool_models.is_tool_model(turn.model):
            return tool_models.answer(turn, pace=self.pace)
        return answer(turn, pace=self.pace, picture=self.storage.draw, heartbeats=self.era == 2026)

    # Headers of every answer

    def _set_cookies(self, call: Call, cookies: Cookies) -> list[Header]:
        """`Set-Cookie` headers for a session that this call renews, or whose rotation is due."""
        session = call.session
        if session is None or joined(cookies) != session.cookie_value:
            return []
        now = self.clock()
        if call.renews:
            session.rotation = session.rotation or ("pieces" if self.renew_in_pieces else "whole")
            session.refreshes += 1
        if session.rotation is None:
            return []
        expires_at = session.expires_at if self.era == 2025 else int(now + self.token_seconds)
        return self.accounts.renew(session, cookies, now, expires_at)
