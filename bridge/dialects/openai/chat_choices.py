"""OpenAI's chat completions with several choices: each answer is told by its index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from bridge.answering.chat import Usage
from bridge.answering.events import AnswerEvent
from bridge.dialects import sse
from bridge.dialects.openai.chat_answer import ChunkEncoder, Completion, Header, completion
from bridge.errors import ApiError


class Choices:
    """Encodes several answers as one stream. The first chunk of each comes with the first that is to be told of it."""

    keepalive: Final = sse.KEEPALIVE

    def __init__(self, header: Header, number: int, *, include_usage: bool, older_form: bool) -> None:
        self._encoders = [
            ChunkEncoder(header, include_usage=include_usage, index=index, older_form=older_form)
            for index in range(number)
        ]
        self._started = [False] * number

    def start(self) -> bytes:
        """Encode nothing: each answer begins when something of it has come."""
        return b""

    def idle(self) -> bytes:
        """Encode an empty delta of the first answer."""
        return self._begin(0) or self._encoders[0].idle()

    def encode(self, index: int, batch: Sequence[AnswerEvent]) -> bytes:
        """Encode what one read held of one answer."""
        data = self._encoders[index].encode(batch)
        return self._begin(index) + data if data else b""

    def finish_one(self, index: int, reason: str | None) -> bytes:
        """Encode the end of one answer."""
        return self._begin(index) + self._encoders[index].end_choice(reason)

    def finish(self, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of the stream."""
        return self._encoders[0].end(usage)

    def error(self, error: ApiError) -> bytes:
        """Encode the one event that ends a broken stream."""
        return ChunkEncoder.error(error)

    def _begin(self, index: int) -> bytes:
        if self._started[index]:
            return b""
        self._started[index] = True
        return self._encoders[index].start()


class Completions:
    """Collects several answers that are not streamed."""

    def __init__(self, header: Header, number: int, *, older_form: bool) -> None:
        self._header = header
        self._answers = [Completion(header, index, older_form) for index in range(number)]
        self._choices: dict[int, dict[str, object]] = {}

    def add(self, index: int, batch: Sequence[AnswerEvent]) -> int:
        """Take what one read held of one answer. Raises ApiError (502) where it is longer than is kept."""
        answer = self._answers[index]
        answer.add(batch)
        return answer.size

    def finish_one(self, index: int, reason: str | None) -> None:
        """One answer is complete."""
        self._choices[index] = self._answers[index].choice(reason)

    def finish(self, usage: Usage) -> bytes:
        """Encode the `chat.completion` object."""
        return completion(self._header, [self._choices[index] for index in sorted(self._choices)], usage)
