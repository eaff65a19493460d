"""Encodes answers of the Completions API, streamed or as one `text_completion`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import StringIO
from typing import Final

import orjson

from bridge.answering.chat import Usage
from bridge.answering.events import MAX_WHOLE_CHARS, AnswerEvent
from bridge.answering.messages import image_markdown
from bridge.dialects import sse
from bridge.dialects.openai.chat_answer import (
    SYSTEM_FINGERPRINT,
    Header,
    finish_reason,
    usage_object,
)
from bridge.dialects.openai.errors import error_body
from bridge.errors import ApiError, answer_too_long
from upstream.protocol.events import Images, TextDeltas


class TextCompletionEncoder:
    """Encodes one or several answers as one stream; `echoed` has the text with which each begins."""

    keepalive: Final = sse.KEEPALIVE

    def __init__(self, header: Header, echoed: Sequence[str], *, include_usage: bool) -> None:
        self._header = header
        self._include_usage = include_usage
        head = b"data: " + sse.line_safe(orjson.dumps(_about(header))[:-1]) + b',"choices":[{"index":'
        self._heads = [head + b'%d,"text":' % index for index in range(len(echoed))]
        self._begin = [self._chunk(index, text, None) if text else b"" for index, text in enumerate(echoed)]
        usage = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._tail = b',"logprobs":null,"finish_reason":null}]' + usage

    def start(self) -> bytes:
        """Encode nothing, since each answer begins with its first data."""
        return b""

    def idle(self) -> bytes:
        """Encode an empty delta."""
        return self._chunk(0, "", None)

    def encode(self, batch: Sequence[AnswerEvent]) -> bytes:
        """Encode a batch of the only answer."""
        return self.encode_choice(0, batch)

    def encode_choice(self, index: int, batch: Sequence[AnswerEvent]) -> bytes:
        """Encode a batch of one answer. This API has no reasoning."""
        event = batch[0] if len(batch) == 1 else None
        if type(event) is TextDeltas and not self._begin[index]:  # as in most reads
            json = event.json
            if json.isascii() and b"\n" not in json:
                return self._heads[index] + json + self._tail
        data = b"".join([self._encode(index, event) for event in batch])
        return self._take_begin(index) + data if data else b""

    def _encode(self, index: int, event: AnswerEvent) -> bytes:
        match event:
            case TextDeltas(json=json):
                head = self._heads[index]
                return head + sse.line_safe(json).replace(b"\n", self._tail + head) + self._tail
            case Images(urls=urls):
                return self._chunk(index, image_markdown(urls), None)
        return b""

    def _take_begin(self, index: int) -> bytes:
        begin, self._begin[index] = self._begin[index], b""
        return begin

    def finish(self, reason: str | None, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of the only answer and of the stream."""
        return self.finish_one(0, reason) + self.end(usage)

    def finish_one(self, index: int, reason: str | None) -> bytes:
        """Encode the end of one answer."""
        return self._take_begin(index) + self._chunk(index, "", finish_reason(reason))

    def end(self, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of the stream: usage if it was asked for, and `[DONE]`."""
        if not self._include_usage:
            return sse.DONE
        last = {**_about(self._header), "choices": [], "usage": usage_object(usage())}
        return sse.frame(orjson.dumps(last)) + sse.DONE

    def error(self, error: ApiError) -> bytes:
        """Encode the event that ends a failed stream."""
        return sse.frame(error_body(error, in_stream=True))

    def _chunk(self, index: int, text: str, reason: str | None) -> bytes:
        choice = {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self._include_usage else {}
        return sse.frame(orjson.dumps({**_about(self._header), "choices": [choice], **usage}))


class SeveralTextCompletionsEncoder:
    """Adapts the encoder to the `SeveralEncoder` protocol."""

    def __init__(self, choices: TextCompletionEncoder) -> None:
        self.keepalive = choices.keepalive
        self.start = choices.start
        self.idle = choices.idle
        self.encode = choices.encode_choice
        self.finish_one = choices.finish_one
        self.finish = choices.end
        self.error = choices.error


class TextCompletionCollector:
    """Collects one or several whole answers."""

    def __init__(self, header: Header, echoed: Sequence[str]) -> None:
        self._header = header
        self._texts = [StringIO() for _ in echoed]
        for text, echo in zip(self._texts, echoed, strict=True):
            text.write(echo)
        self._sizes = [0] * len(echoed)
        self._reasons: dict[int, str] = {}

    @property
    def size(self) -> int:
        """The number of bytes buffered so far for the only answer."""
        return self._sizes[0]

    def add(self, batch: Sequence[AnswerEvent]) -> None:
        """Add a batch of the only answer. Raises ApiError (502) if it is too long to keep."""
        self.add_to_choice(0, batch)

    def add_to_choice(self, index: int, batch: Sequence[AnswerEvent]) -> int:
        """Add a batch of one answer; return the bytes buffered for it. Raises ApiError (502) if it is too long."""
        for event in batch:
            match event:
                case TextDeltas(text=text):
                    self._write(index, text)
                case Images(urls=urls):
                    self._write(index, image_markdown(urls))
        if self._texts[index].tell() > MAX_WHOLE_CHARS:
            raise answer_too_long(MAX_WHOLE_CHARS)
        return self._sizes[index]

    def _write(self, index: int, text: str) -> None:
        chars = self._texts[index].write(text)
        self._sizes[index] += chars if text.isascii() else 4 * chars

    def finish_one(self, index: int, reason: str | None) -> None:
        """Mark one answer as complete."""
        self._reasons[index] = finish_reason(reason)

    def finish(self, reason: str | None, usage: Usage) -> bytes:
        """Encode the `text_completion` object of the only answer."""
        self.finish_one(0, reason)
        return self.end(usage)

    def end(self, usage: Usage) -> bytes:
        """Encode the `text_completion` object."""
        choices = [
            {"index": index, "text": text.getvalue(), "logprobs": None, "finish_reason": self._reasons[index]}
            for index, text in enumerate(self._texts)
        ]
        return orjson.dumps({**_about(self._header), "choices": choices, "usage": usage_object(usage)})


class SeveralTextCompletionsCollector:
    """Adapts the collector to the `SeveralCollector` protocol."""

    def __init__(self, completion: TextCompletionCollector) -> None:
        self.add = completion.add_to_choice
        self.finish_one = completion.finish_one
        self.finish = completion.end


def _about(header: Header) -> dict[str, object]:
    return {
        "id": header.id,
        "object": "text_completion",
        "created": header.created,
        "model": header.model,
        "system_fingerprint": SYSTEM_FINGERPRINT,
    }
