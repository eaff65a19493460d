"""Recorded answers of the real site, given again by the embedded arena in the order in which they came.

Chats are always answered by what was recorded; other calls only where the site refused them, or read an evaluation
back, since the arena answers the rest as the site does.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from upstream.arena.calls import Call
from upstream.arena.steps import Close, Eof, Flow, Open, Pause, Raw, Step, Unframed, Until

#: What a call of this kind is called in a recording.
_KINDS: Final = {"create": "chat", "follow-up": "chat", "regenerate": "chat", "upload-url": "action", "sign": "action"}
#: The ids in a chat's body, by which the site names what it answers.
_IDS: Final = ("id", "userMessageId", "modelAMessageId")
_UUID: Final = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Stands in a recorded redirect for the site's own origin.
_SITE: Final = "{site}"
#: What HTTP itself says of a message, which the arena's server says anew; and cookies, which are not the recorded ones.
_OWN_HEADERS: Final = frozenset(
    ("connection", "content-length", "date", "keep-alive", "server", "set-cookie", "transfer-encoding")
)


@dataclass(frozen=True, slots=True)
class PlayedAnswer:
    """One recorded answer: each piece comes after a pause in seconds; `sent` is the body of the call that it answers.

    `end` is how it ended: complete, broke, silent, not http; any other means that the bridge closed it.
    """

    kind: str
    sent: bytes
    status: int | None
    headers: tuple[tuple[str, str], ...]
    pieces: tuple[tuple[float, bytes], ...]
    end: str


class Playback:
    """Gives recorded answers. `surplus` counts the chats for which none was left."""

    def __init__(self, answers: Iterable[PlayedAnswer]) -> None:
        self._answers: defaultdict[str, deque[PlayedAnswer]] = defaultdict(deque)
        for answer in answers:
            if answer.kind in ("chat", "evaluation") or answer.status != 200:
                self._answers[answer.kind].append(answer)
        self._renamed: dict[bytes, bytes] = {}
        self.surplus = 0
        #: The kinds of chats that were asked for: create, follow-up, regenerate.
        self.asked: list[str] = []
        #: Set when the last chat's answer has been sent as far as it was recorded.
        self.played = asyncio.Event()

    def left(self) -> int:
        """The recorded answers that nobody has asked for."""
        return sum(map(len, self._answers.values()))

    def take(self, call: Call, origin: str) -> Flow | None:
        """The recorded answer to a call, None where the arena answers by itself."""
        kind = _KINDS.get(call.kind, call.kind)
        answers = self._answers[kind]
        if kind == "chat":
            self.asked.append(call.kind)
        if not answers:
            if kind != "chat":
                return None
            self.surplus += 1
            return self._flow([Open(500, (("content-type", "text/plain"),)), Eof()], last=True)
        answer = answers.popleft()
        if kind == "chat":
            self._learn(answer.sent, call.body)
        return self._flow(self._steps(answer, origin), last=kind == "chat" and not answers)

    async def _flow(self, steps: Iterable[Step], *, last: bool) -> Flow:
        for step in steps:
            if last and isinstance(step, Eof | Close | Until):
                self.played.set()
            yield step

    def _learn(self, recorded: bytes, sent: bytes) -> None:
        """Know the ids of this call by those that it had when it was recorded."""
        before, now = _ids(recorded), _ids(sent)
        self._renamed |= {before[name]: now[name] for name in before.keys() & now.keys()}

    def _steps(self, answer: PlayedAnswer, origin: str) -> Iterable[Step]:
        if answer.status is not None:
            yield Open(answer.status, tuple(_headers(answer.headers, origin)))
        elif answer.end == "not http":
            yield Unframed(b"this is no HTTP\r\n\r\n")
        for pause, data in answer.pieces:
            if pause:
                yield Pause(pause)
            yield Raw(_UUID.sub(lambda found: self._renamed.get(found[0], found[0]), data))
        match answer.end:
            case "complete":
                yield Eof()
            case "broke" | "not http" | "not sent":
                yield Close()
            case _:  # it was the bridge that ended it
                yield Until(asyncio.Event())


def _headers(headers: Iterable[tuple[str, str]], origin: str) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        if name.lower() not in _OWN_HEADERS:
            yield name, value.replace(_SITE, origin, 1) if name.lower() == "location" else value


def _ids(body: bytes) -> Mapping[str, bytes]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    fields = document if isinstance(document, dict) else {}
    return {name: value.encode() for name in _IDS if isinstance(value := fields.get(name), str)}
