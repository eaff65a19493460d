"""Reads back what is written to a caller: the arena remembers the answer that went out, not the one it meant."""

from __future__ import annotations

import json
from typing import Any, Final

from upstream.arena.evaluations import Evaluation, Message
from upstream.arena.steps import Flow, Line, Raw

ARENA_ERROR: Final = "hasArenaError"  # a text delta of this word alone says that the model failed
_FAILED: Final = "An error occurred"


class Reading:
    """Follows the bytes of one answer until it is decided: `message` if it came to a good end, else `failure`."""

    def __init__(self) -> None:
        self.message: Message | None = None
        self.failure: str | None = None
        self._tail: list[bytes] = []
        self._deltas: list[bytes] = []
        self._images: list[dict[str, Any]] = []

    @property
    def decided(self) -> bool:
        """Whether the answer has succeeded or failed."""
        return self.message is not None or self.failure is not None

    def text(self) -> str:
        """The text so far; ValueError if one of its deltas is not JSON."""
        deltas: list[str] = json.loads(b"[%s]" % b",".join(self._deltas))
        return "".join(deltas).encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # joins split emoji

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""
        if b"\n" not in data:
            self._tail.append(data)
            return
        *lines, tail = b"".join((*self._tail, data)).split(b"\n")
        self._tail = [tail]
        for line in lines:
            self._read(line)

    def feed_eof(self) -> None:
        """The body has ended."""
        self._read(b"".join(self._tail))
        self._tail = []

    def _read(self, line: bytes) -> None:
        line = line.removeprefix(b"data: ")
        tag, value = line[:3], line[3:]
        if self.decided or tag not in (b"a0:", b"a2:", b"a3:", b"ad:"):
            return
        if tag == b"a0:" and value.rstrip(b"\r") != b'"%s"' % ARENA_ERROR.encode():
            self._deltas.append(value)
            return
        try:
            match tag, json.loads(value):
                case b"a2:", [*items]:
                    self._images += [item for item in items if isinstance(item, dict) and item.get("type") == "image"]
                case b"ad:", dict(finish) if finish.get("finishReason") != "error":
                    self.message = Message("assistant", self.text(), tuple(self._images))
                case _, str(reason):
                    self.failure = reason
                case _:
                    self.failure = _FAILED
        except ValueError:
            self.failure = _FAILED  # broken JSON went out: no caller can have read that answer


class Written:
    """Follows one answer to an evaluation, and ends its turn: at the first `ad:`, or when the answering stops.

    With `keep` an answer whose transport broke is remembered as a whole, if all of its source passes `observed`.
    """

    def __init__(self, evaluation: Evaluation, *, keep: bool = False) -> None:
        self._evaluation = evaluation
        self._entry = evaluation.entries[-1]
        self._entry.written = self._part
        self._reading = Reading()
        self._whole = Reading() if keep else None
        self._settled = False

    @property
    def needs_rest(self) -> bool:
        """Whether the rest of the source matters although the caller no longer gets it."""
        return self._whole is not None and not self._settled

    async def observed(self, source: Flow) -> Flow:
        """The same steps, each read on its way."""
        try:
            async for step in source:
                self._observe(step)
                yield step
        finally:
            await source.aclose()

    def feed(self, data: bytes) -> None:
        """The next bytes of the body; called before they are sent, so that no caller can be quicker."""
        self._reading.feed(data)
        if self._reading.decided:
            self._settle(self._reading)

    def feed_eof(self) -> None:
        """Nothing more is written."""
        self._reading.feed_eof()
        whole = self._whole
        self._settle(self._reading if self._reading.decided or whole is None or not whole.message else whole)

    def _observe(self, step: object) -> None:
        if self._whole is not None:
            match step:
                case Line():
                    self._whole.feed(step.encode())
                case Raw(data):
                    self._whole.feed(data)
                case _:
                    pass

    def _part(self) -> str:
        try:
            return self._reading.text()
        except ValueError:  # a delta that is not JSON went out
            return ""

    def _settle(self, reading: Reading) -> None:
        if self._settled:
            return
        self._settled = True
        self._evaluation.answering = False
        entry = self._entry
        entry.written = None
        entry.content = self._part()
        if reading.message is not None:
            entry.content, entry.status = reading.message.content, "success"
            self._evaluation.messages.append(reading.message)
        elif reading.failure is not None:
            entry.status, entry.failure_reason = "failed", reading.failure
