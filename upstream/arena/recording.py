"""Parses what is sent to a caller: the arena records the answer that was sent, not the one that a model made."""

from __future__ import annotations

import json
from typing import Any, Final

from upstream.arena.evaluations import Evaluation, Message
from upstream.arena.steps import Flow, Line, Raw

ARENA_ERROR: Final = "hasArenaError"  # a text delta that consists of this word means that the model failed
_FAILED: Final = "An error occurred"


class AnswerParser:
    """Parses the bytes of one answer until its outcome is known: `message` if it succeeded, else `failure`."""

    def __init__(self) -> None:
        self.message: Message | None = None
        self.failure: str | None = None
        self._tail: list[bytes] = []
        self._deltas: list[bytes] = []
        self._images: list[dict[str, Any]] = []

    @property
    def has_outcome(self) -> bool:
        """Whether the answer has succeeded or failed."""
        return self.message is not None or self.failure is not None

    def text(self) -> str:
        """The text so far. Raises ValueError if a delta is not JSON."""
        deltas: list[str] = json.loads(b"[%s]" % b",".join(self._deltas))
        return "".join(deltas).encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # joins split emoji

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the body."""
        if b"\n" not in data:
            self._tail.append(data)
            return
        *lines, tail = b"".join((*self._tail, data)).split(b"\n")
        self._tail = [tail]
        for line in lines:
            self._read(line)

    def feed_eof(self) -> None:
        """Handle the end of the body."""
        self._read(b"".join(self._tail))
        self._tail = []

    def _read(self, line: bytes) -> None:
        line = line.removeprefix(b"data: ")
        tag, value = line[:3], line[3:]
        if self.has_outcome or tag not in (b"a0:", b"a2:", b"a3:", b"ad:"):
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
            self.failure = _FAILED  # broken JSON was sent, so the caller cannot have parsed the answer


class AnswerRecorder:
    """Records one answer in its evaluation, and ends the turn at the first `ad:` or the end of the answer.

    With `keep`, an answer whose transport broke is recorded completely, if its whole source passes through `observed`.
    """

    def __init__(self, evaluation: Evaluation, *, keep: bool = False) -> None:
        self._evaluation = evaluation
        self._entry = evaluation.entries[-1]
        self._entry.written = self._part
        self._parser = AnswerParser()
        self._whole = AnswerParser() if keep else None
        self._settled = False

    @property
    def needs_rest(self) -> bool:
        """Whether the rest of the source is needed although the caller has left."""
        return self._whole is not None and not self._settled

    async def observed(self, source: Flow) -> Flow:
        """Yield the same steps, and parse each."""
        try:
            async for step in source:
                self._observe(step)
                yield step
        finally:
            await source.aclose()

    def feed(self, data: bytes) -> None:
        """Record the next bytes of the body; call this before sending them, so that the caller cannot be faster."""
        self._parser.feed(data)
        if self._parser.has_outcome:
            self._settle(self._parser)

    def feed_eof(self) -> None:
        """Record that nothing more is sent."""
        self._parser.feed_eof()
        whole = self._whole
        self._settle(self._parser if self._parser.has_outcome or whole is None or not whole.message else whole)

    def _observe(self, step: object) -> None:
        if self._whole is not None:
            match step:
                case Line():
                    self._whole.feed(step.encode())
                case Raw(data):
                    self._whole.feed(data)

    def _part(self) -> str:
        try:
            return self._parser.text()
        except ValueError:  # a delta that is not JSON was sent
            return ""

    def _settle(self, parser: AnswerParser) -> None:
        if self._settled:
            return
        self._settled = True
        self._evaluation.answering = False
        entry = self._entry
        entry.written = None
        entry.content = self._part()
        if parser.message is not None:
            entry.content, entry.status = parser.message.content, "success"
            self._evaluation.messages.append(parser.message)
        elif parser.failure is not None:
            entry.status, entry.failure_reason = "failed", parser.failure
