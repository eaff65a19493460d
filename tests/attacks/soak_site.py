"""A site that fails and replaces cookies at random, and whose models answer with the turns that they were shown."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from upstream.arena import Arena, Call, Line, Pause, Session, Step, Turn, builtin_models, tool_models
from upstream.arena.behaviour import answer as usual_answer
from upstream.arena.replies import Reply
from upstream.arena.streams import Stream
from upstream.arena.tokens import joined, read_cookies
from upstream.arena.tool_models import answer as tool_answer
from upstream.arena.tool_models import is_tool_model

#: The model that calls tools.
TOOL_MODEL: Final = "tools-asked-for"
#: The mark in each message of a caller: the conversation and the turn.
_MARK: Final = re.compile(r"<<(\w+) (\d+)>>")

#: Faults of chats after which the client still gets the head of the answer in time.
HEARD: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    ("expired", {}),
    ("login_redirect", {}),
    ("rate_limited", {"retry_after": "1"}),
    ("prompt_failed", {"retry_after": "1"}),
    ("server_error", {"status": 500}),
    ("server_error", {"status": 503}),
    ("evaluation_gone", {}),
    ("challenge", {}),
    ("reset_middle", {}),
    ("eof_middle", {}),
    ("cut_chunked", {}),
    ("model_failed_first", {}),
    ("model_failed_middle", {}),
    ("empty_answer", {}),
    ("heartbeats", {}),
    ("silent_start", {}),
    ("silent_middle", {}),
    ("no_headers", {"late": (0.05, 0.5)}),
)
#: The fault of half of the answers that replace the cookie: they arrive when their caller may have left.
LATE: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (HEARD[-1],)
#: Faults of chats after which the head never arrives, or too late: a new cookie in it would be lost.
UNHEARD: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    ("reset_before_headers", {}),
    ("close_before_headers", {}),
    ("no_headers", {"late": (2.0, 8.0)}),
)
OF_READS: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    ("expired", {}),
    ("server_error", {"status": 502}),
    ("reset_before_headers", {}),
    ("html", {}),
)


class BadSite(Arena):
    """An arena that, while `bad` is set, replaces cookies and fails with the probability `failing`.

    Its tokens live for `token_seconds` and are renewed in their last third. Answers to chats never replace the cookies
    of the sessions in `unrotated`, so that their tokens expire.
    """

    def __init__(self, chance: random.Random, *, failing: float = 1 / 6, token_seconds: float = 300.0) -> None:
        super().__init__(pace=0.01, models=(*builtin_models(), *tool_models(TOOL_MODEL)))
        self.bad = False
        self.rotations = 0
        self.battles = 0
        self.failed: Counter[str] = Counter()
        self.sessions: tuple[Session, ...] = ()
        self.unrotated: tuple[Session, ...] = ()
        self._chance = chance
        self._failing = failing
        self._answers = 0
        self.token_seconds, self.renew_within = token_seconds, token_seconds / 3

    def receive(self, call: Call) -> Reply | Stream:
        """Answer a call; the arena's record of calls is cleared regularly to limit memory."""
        if len(self.calls) > 1000:
            self.calls.clear()
        if not self.bad:
            return super().receive(call)
        chat = call.path.startswith("/nextjs-api/stream/")
        before = [session.cookie_value for session in self.sessions]
        shown = joined(read_cookies(call.headers.get("cookie", "")))
        session = next((each for each in self.sessions if each.cookie_value == shown), None)
        rotates = False
        if chat and session is not None and session not in self.unrotated:
            self._answers += 1
            if rotates := self._answers % 10 == 0:
                self.rotate(session, pieces=self._chance.random() < 0.5)
        if rotates and self._chance.random() < 0.5:
            self._arm(call, LATE)
        elif self._chance.random() < self._failing and (chat or call.path == "/api/me"):
            self._arm(call, HEARD if rotates else HEARD + UNHEARD if chat else OF_READS)
        answer = super().receive(call)
        self.faults.clear()
        self.battles += "expected a BATTLE" in (call.refusal or "")
        if call.fault is not None:
            self.failed[call.fault] += 1
        self.rotations += sum(old != each.cookie_value for old, each in zip(before, self.sessions, strict=True))
        return answer

    def _arm(self, call: Call, faults: tuple[tuple[str, Mapping[str, Any]], ...]) -> None:
        name, parameters = self._chance.choice(faults)
        parameters = dict(parameters)
        if (late := parameters.pop("late", None)) is not None:
            parameters["release"] = release = asyncio.Event()
            asyncio.get_running_loop().call_later(self._chance.uniform(*late), release.set)
        self.faults.arm(name, on="me" if call.path == "/api/me" else "stream", **parameters)


class Witness:
    """Makes the models answer with the conversation and the turns that they were shown: see `told`."""

    def __init__(self, site: BadSite) -> None:
        self._site = site
        #: Prompts that mixed two conversations, or had a message twice.
        self.mixed: list[str] = []
        site.script = self._answer

    def _answer(self, turn: Turn) -> Iterable[Step]:
        if is_tool_model(turn.model):
            return tool_answer(turn, pace=self._site.pace)
        marks = _MARK.findall("\n".join(message.content for message in turn.messages))
        if turn.model.modality == "image" or not marks:
            return usual_answer(turn, pace=self._site.pace, picture=self._site.storage.draw, heartbeats=True)
        if len({conversation for conversation, _ in marks}) > 1 or len(set(marks)) < len(marks):
            self.mixed.append(str(marks))
        deltas = re.findall(r"\S+ ?", told(marks[-1][0], [int(at) for _, at in marks]))
        return self._said(deltas)

    def _said(self, deltas: Iterable[str]) -> Iterable[Step]:
        for delta in deltas:
            yield Pause(self._site.pace)
            yield Line("a0", delta)
        yield Line("ad", {"finishReason": "stop"})


def mark(conversation: str, turn: int) -> str:
    """The caller's message in one turn."""
    return f"<<{conversation} {turn}>> Please go on, and do not leave out a thing."


def told(conversation: str, turns: Iterable[int]) -> str:
    """The answer of a model that has been shown exactly these turns of a conversation."""
    seen = ", ".join(map(str, turns))
    return f"In conversation {conversation} I saw turn {seen}; 哦, that is all – and it was a pleasure. 🦦"
