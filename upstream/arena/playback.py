"""Replays recorded answers of the real site in the embedded arena, in the order in which they were recorded.

Every chat gets a recorded answer. Other calls get one only if the site refused them, or if they read an evaluation
back: the arena answers the others as the site does.
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

#: The kinds of calls that have another name in a recording.
_KINDS: Final = {"create": "chat", "follow-up": "chat", "regenerate": "chat", "upload-url": "action", "sign": "action"}
#: The ids in a chat's body, which the answer may contain.
_IDS: Final = ("id", "userMessageId", "modelAMessageId")
_UUID: Final = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: The placeholder for the site's origin in a recorded redirect.
_SITE: Final = "{site}"
#: Headers that the arena's server sets itself, and cookies: sessions are not those of the recording.
_NOT_REPLAYED: Final = frozenset(
    ("connection", "content-length", "date", "keep-alive", "server", "set-cookie", "transfer-encoding")
)


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """One recorded answer. `sent` is the body of its call; each of the `pieces` is sent after a pause in seconds.

    `end` is one of the values of `upstream.capture.End`.
    """

    kind: str
    sent: bytes
    status: int | None
    headers: tuple[tuple[str, str], ...]
    pieces: tuple[tuple[float, bytes], ...]
    end: str


class Playback:
    """The recorded answers of one run. `surplus` counts the chats for which none was left."""

    def __init__(self, answers: Iterable[RecordedAnswer]) -> None:
        self._answers: defaultdict[str, deque[RecordedAnswer]] = defaultdict(deque)
        for answer in answers:
            if answer.kind in ("chat", "evaluation") or answer.status != 200:
                self._answers[answer.kind].append(answer)
        self._ids: dict[bytes, bytes] = {}  # those of this run by the recorded ones
        self.surplus = 0
        #: The kinds of the chats so far: create, follow-up, regenerate.
        self.chats: list[str] = []
        #: Set once all that was recorded of the last chat's answer has been sent.
        self.played = asyncio.Event()

    def unused(self) -> int:
        """The number of recorded answers that no call has got."""
        return sum(map(len, self._answers.values()))

    def take(self, call: Call, origin: str) -> Flow | None:
        """The recorded answer for a call; None if the arena is to answer it."""
        kind = _KINDS.get(call.kind, call.kind)
        answers = self._answers[kind]
        if kind == "chat":
            self.chats.append(call.kind)
        if not answers:
            if kind != "chat":
                return None
            self.surplus += 1
            return self._flow([Open(500, (("content-type", "text/plain"),)), Eof()], last=True)
        answer = answers.popleft()
        if kind == "chat":
            self._map_ids(answer.sent, call.body)
        return self._flow(self._steps(answer, origin), last=kind == "chat" and not answers)

    async def _flow(self, steps: Iterable[Step], *, last: bool) -> Flow:
        for step in steps:
            if last and isinstance(step, Eof | Close | Until):
                self.played.set()
            yield step

    def _map_ids(self, recorded: bytes, sent: bytes) -> None:
        """Map the ids in a call's recorded body to those in the body that was sent now."""
        before, now = _ids_in(recorded), _ids_in(sent)
        self._ids |= {before[name]: now[name] for name in before.keys() & now.keys()}

    def _steps(self, answer: RecordedAnswer, origin: str) -> Iterable[Step]:
        if answer.status is not None:
            yield Open(answer.status, tuple(_headers(answer.headers, origin)))
        elif answer.end == "not http":
            yield Unframed(b"this is not HTTP\r\n\r\n")
        for pause, data in answer.pieces:
            if pause:
                yield Pause(pause)
            yield Raw(_UUID.sub(lambda found: self._ids.get(found[0], found[0]), data))
        match answer.end:
            case "complete":
                yield Eof()
            case "broke" | "not http" | "not sent":
                yield Close()
            case _:  # the bridge ended it
                yield Until(asyncio.Event())


def _headers(headers: Iterable[tuple[str, str]], origin: str) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        if name.lower() not in _NOT_REPLAYED:
            yield name, value.replace(_SITE, origin, 1) if name.lower() == "location" else value


def _ids_in(body: bytes) -> Mapping[str, bytes]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    fields = document if isinstance(document, dict) else {}
    return {name: value.encode() for name in _IDS if isinstance(value := fields.get(name), str)}
