"""Reads back what is written to a caller: the arena remembers the answer that went out, not the one it meant."""

from __future__ import annotations

import json
from typing import Any

from upstream.arena.evaluations import Evaluation, Message


class Written:
    """Follows one answer to an evaluation, and ends its turn: at the first `ad:`, or when the answering stops."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._tail: list[bytes] = []
        self._deltas: list[bytes] = []
        self._images: list[dict[str, Any]] = []
        self._settled = False

    def feed(self, data: bytes) -> None:
        """The next bytes of the body; called before they are sent, so that no caller can be quicker."""
        if b"\n" not in data:
            self._tail.append(data)
            return
        *lines, tail = b"".join((*self._tail, data)).split(b"\n")
        self._tail = [tail]
        for line in lines:
            self._read(line)

    def feed_eof(self) -> None:
        """Nothing more is written."""
        self._read(b"".join(self._tail))
        self._settle(None)

    def _read(self, line: bytes) -> None:
        line = line.removeprefix(b"data: ")
        tag, value = line[:3], line[3:]
        if tag == b"a0:":
            self._deltas.append(value)
            return
        if tag not in (b"a2:", b"a3:", b"ad:"):
            return
        try:
            match tag, json.loads(value):
                case b"a2:", [*images]:
                    self._images += images
                case b"ad:", dict(finish) if finish.get("finishReason") != "error":
                    self._settle(self._message())
                case _:
                    self._settle(None)
        except ValueError:
            self._settle(None)  # broken JSON went out: no caller can have read that answer

    def _message(self) -> Message:
        """The answer as read so far; ValueError if one of its deltas is no JSON."""
        deltas: list[str] = json.loads(b"[%s]" % b",".join(self._deltas))
        text = "".join(deltas).encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # joins split emoji
        return Message("assistant", text, tuple(self._images))

    def _settle(self, message: Message | None) -> None:
        if self._settled:
            return
        self._settled = True
        self._evaluation.answering = False
        if message is not None:
            self._evaluation.messages.append(message)
