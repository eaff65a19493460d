"""Encodes chat completions with several choices, identified by their indexes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from bridge.answering.chat import Usage
from bridge.answering.events import AnswerEvent
from bridge.dialects import sse
from bridge.dialects.openai.chat_answer import ChunkEncoder, CompletionCollector, Header, completion
from bridge.errors import ApiError


class ChoicesEncoder:
    """Encodes several answers as one stream."""

    keepalive: Final = sse.KEEPALIVE

    def __init__(self, headers: Sequence[Header], *, include_usage: bool, older_form: bool) -> None:
        """`headers` has one header for each answer."""
        self._encoders = [
            ChunkEncoder(header, include_usage=include_usage, index=index, older_form=older_form)
            for index, header in enumerate(headers)
        ]
        self._started = [False] * len(headers)

    def start(self) -> bytes:
        """Encode the opening chunk of the first answer; that of any other precedes its first data."""
        return self._begin(0)

    def idle(self) -> bytes:
        """Encode an empty delta of the first answer."""
        return self._encoders[0].idle()

    def encode(self, index: int, batch: Sequence[AnswerEvent]) -> bytes:
        """Encode a batch of one answer."""
        data = self._encoders[index].encode(batch)
        return self._begin(index) + data if data else b""

    def finish_one(self, index: int, reason: str | None, usage: Callable[[], Usage] | None = None) -> bytes:
        """Encode the end of one answer, with its own usage if that is given."""
        return self._begin(index) + self._encoders[index].end_choice(reason, usage)

    def fail_one(self, index: int, error: ApiError) -> bytes:
        """Encode the end of one answer that failed, while others continue."""
        return self._begin(index) + self._encoders[index].fail_choice(error)

    def finish(self, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of the stream."""
        return self._encoders[0].end(usage)

    def error(self, error: ApiError) -> bytes:
        """Encode the event that ends a failed stream."""
        return ChunkEncoder.error(error)

    def _begin(self, index: int) -> bytes:
        if self._started[index]:
            return b""
        self._started[index] = True
        return self._encoders[index].start()


class ChoicesCollector:
    """Collects several answers that are not streamed."""

    def __init__(self, headers: Sequence[Header], *, older_form: bool) -> None:
        """`headers` has one header for each answer."""
        self._header = headers[0]
        self._answers = [CompletionCollector(header, index, older_form) for index, header in enumerate(headers)]
        self._choices: dict[int, dict[str, object]] = {}

    def add(self, index: int, batch: Sequence[AnswerEvent]) -> int:
        """Add a batch of one answer; return the bytes it takes so far. Raises ApiError (502) if it is too long."""
        answer = self._answers[index]
        answer.add(batch)
        return answer.size

    def finish_one(self, index: int, reason: str | None, usage: Usage | None = None) -> None:
        """Mark one answer as complete, with its own usage if that is given."""
        self._choices[index] = self._answers[index].choice(reason, usage)

    def fail_one(self, index: int, error: ApiError) -> None:
        """Mark one answer as failed, while others continue."""
        self._choices[index] = self._answers[index].failed_choice(error)

    def finish(self, usage: Usage) -> bytes:
        """Encode the `chat.completion` object."""
        return completion(self._header, [self._choices[index] for index in sorted(self._choices)], usage)
