"""OpenAI's chat completions: batches of events → the bytes of a stream, or of one completion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Final, NamedTuple

import orjson

from bridge.answering.chat import Usage
from bridge.answering.events import MAX_WHOLE_CHARS, AnswerEvent, ToolCalls
from bridge.answering.messages import ToolCall, markdown
from bridge.dialects import sse
from bridge.dialects.openai.errors import error_body, error_object
from bridge.dialects.sources import merge_sources, places
from bridge.errors import ApiError, answer_too_long
from upstream.protocol.events import Citations, Images, ReasoningDeltas, Source, TextDeltas

#: Upstream's finish reasons in OpenAI's words; whatever else it says is a plain stop.
FINISH_REASONS: Final = {
    "stop": "stop",
    "length": "length",
    "content-filter": "content_filter",
    "tool_calls": "tool_calls",
}
#: OpenAI's clients take it for the configuration that a model runs with; nothing is known of it.
SYSTEM_FINGERPRINT: Final = "fp_lmarena_bridge"


class Header(NamedTuple):
    """What every object of one answer repeats. `created` is unix time in seconds; `model` the name as asked.

    `choice_model` names the model of a choice where several models were asked.
    """

    id: str
    created: int
    model: str
    choice_model: str | None = None


class ChunkEncoder:
    """Encodes one streamed answer. A delta's JSON string is spliced into a prebuilt chunk as it came.

    `index` is the answer's among several. With `older_form` a call is told as a `function_call`.
    """

    keepalive: Final = sse.KEEPALIVE

    def __init__(self, header: Header, *, include_usage: bool, index: int = 0, older_form: bool = False) -> None:
        self._head = sse_head(header, index)
        self._include_usage = include_usage
        self._older_form = older_form
        self._tail = b'},"finish_reason":null}]' + (b',"usage":null' if include_usage else b"") + b"}\n\n"
        self._text = self._head + b'"content":'
        self._sources: dict[str, Source] = {}
        self._begins_with_calls = False

    def start(self) -> bytes:
        """Encode the first chunk: the role, and no content where calls have come before any text."""
        content = b"null" if self._begins_with_calls else b'""'
        return self._head + b'"role":"assistant","content":' + content + self._tail

    def idle(self) -> bytes:
        """Encode an empty delta: a keep-alive for clients that count chunks, not comments."""
        return self._text + b'""' + self._tail

    def encode(self, batch: Sequence[AnswerEvent]) -> bytes:
        """Encode what one read held; its terminal event, if it has one, is `finish`'s or `error`'s."""
        event = batch[0] if len(batch) == 1 else None
        if type(event) is TextDeltas and event.json.isascii() and b"\n" not in event.json:  # as in most reads
            return self._text + event.json + self._tail
        if any(type(event) is ToolCalls for event in batch):  # if this is the first of the stream, `start` comes next
            self._begins_with_calls = not any(isinstance(event, TextDeltas | Images) for event in batch)
        return b"".join([self._encode(event) for event in batch])

    def _encode_calls(self, calls: Sequence[ToolCall]) -> bytes:
        """Encode calls, a chunk for each with all of it."""
        if self._older_form:
            parts = [b'"function_call":' + orjson.dumps(function_call(call)) for call in calls[:1]]
        else:
            told = [{"index": index, **tool_call(call)} for index, call in enumerate(calls)]
            parts = [b'"tool_calls":' + orjson.dumps([call]) for call in told]
        return b"".join([self._head + sse.line_safe(part) + self._tail for part in parts])

    def _encode(self, event: AnswerEvent) -> bytes:
        match event:
            case TextDeltas(json=json):
                return self._run(self._text, json)
            case ReasoningDeltas(json=json):
                return self._run(self._head + b'"reasoning_content":', json)
            case Images():
                return self._text + sse.line_safe(orjson.dumps(markdown(event.images))) + self._tail
            case Citations(sources=sources):
                merge_sources(self._sources, sources)
            case ToolCalls(calls=calls):
                return self._encode_calls(calls)
        return b""

    def _run(self, opening: bytes, json: bytes) -> bytes:
        """Encode a run of deltas, a chunk for each."""
        return opening + sse.line_safe(json).replace(b"\n", self._tail + opening) + self._tail

    def finish(self, reason: str | None, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of a complete answer: annotations, if any, the finish reason, usage if asked for, `[DONE]`."""
        return self.end_choice(reason) + self.end(usage)

    def end_choice(self, reason: str | None, usage: Callable[[], Usage] | None = None) -> bytes:
        """Encode the end of this answer alone; its own `usage` stands beside it if usage was asked for."""
        told = b'"' + finish_reason(reason, older_form=self._older_form).encode() + b'"'
        if usage is not None and self._include_usage:
            told += b',"usage":' + orjson.dumps(usage_object(usage()))
        return self._annotations() + self._last(told)

    def fail_choice(self, error: ApiError) -> bytes:
        """Encode the end of this answer alone, where others go on: it broke off, or has not begun."""
        return self._last(b'"error","error":' + sse.line_safe(orjson.dumps(error_object(error, in_stream=True))))

    def _last(self, reason: bytes) -> bytes:
        last = self._head[: self._head.rindex(b"{")] + b'{},"finish_reason":' + reason + b"}]"
        return last + (b',"usage":null}\n\n' if self._include_usage else b"}\n\n")

    def end(self, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of the stream: usage, if it was asked for, and `[DONE]`."""
        if not self._include_usage:
            return sse.DONE
        head = self._head[: self._head.rindex(_CHOICE)]
        return head + b'],"usage":' + orjson.dumps(usage_object(usage())) + b"}\n\n" + sse.DONE

    def _annotations(self) -> bytes:
        if not self._sources:
            return b""
        notes = sse.line_safe(orjson.dumps(url_citations(self._sources)))
        return self._head + b'"content":"","annotations":' + notes + self._tail

    @staticmethod
    def error(error: ApiError) -> bytes:
        """Encode the one event that ends a broken stream; no `[DONE]` follows it."""
        return sse.frame(error_body(error, in_stream=True))


_CHOICE: Final = b'{"index":'


def sse_head(header: Header, index: int = 0) -> bytes:
    """Build what every chunk begins with, up to the opening brace of its delta."""
    about = orjson.dumps(
        {
            "id": header.id,
            "object": "chat.completion.chunk",
            "created": header.created,
            "model": header.model,
            "system_fingerprint": SYSTEM_FINGERPRINT,
        }
    )
    choice = _CHOICE + b"%d," % index
    if header.choice_model is not None:
        choice += b'"model":' + sse.line_safe(orjson.dumps(header.choice_model)) + b","
    return b"data: " + sse.line_safe(about[:-1]) + b',"choices":[' + choice + b'"delta":{'


@dataclass(slots=True)
class Completion:
    """Collects one answer that is not streamed: `chars` so far, which take `size` bytes."""

    header: Header
    index: int = 0
    older_form: bool = False
    chars: int = 0
    size: int = 0
    _text: StringIO = field(default_factory=StringIO)  # a list of short texts would take far more memory
    _reasoning: StringIO = field(default_factory=StringIO)
    _has_reasoning: bool = False
    _sources: dict[str, Source] = field(default_factory=dict)
    _calls: tuple[ToolCall, ...] = ()

    def add(self, batch: Sequence[AnswerEvent]) -> None:
        """Take what one read held. Raises ApiError (502) where the answer is longer than is kept."""
        for event in batch:
            match event:
                case TextDeltas(text=text):
                    self._write(self._text, text)
                case ReasoningDeltas(text=text):
                    self._has_reasoning = True
                    self._write(self._reasoning, text)
                case Images():
                    self._write(self._text, markdown(event.images))
                case Citations(sources=sources):
                    merge_sources(self._sources, sources)
                case ToolCalls(calls=calls):
                    self._calls = calls
        if self.chars > MAX_WHOLE_CHARS:
            raise answer_too_long(MAX_WHOLE_CHARS)

    def _write(self, texts: StringIO, text: str) -> None:
        chars = texts.write(text)
        self.chars += chars
        self.size += chars if text.isascii() else 4 * chars

    def finish(self, reason: str | None, usage: Usage) -> bytes:
        """Encode the `chat.completion` object of a complete answer."""
        return completion(self.header, [self.choice(reason)], usage)

    def choice(self, reason: str | None, usage: Usage | None = None) -> dict[str, object]:
        """Write the answer as one choice, with its own usage where that is given."""
        choice = self._choice(finish_reason(reason, older_form=self.older_form))
        return choice if usage is None else {**choice, "usage": usage_object(usage)}

    def failed_choice(self, error: ApiError) -> dict[str, object]:
        """Write what there is of an answer that broke off, or has not begun, where others are complete."""
        return {**self._choice("error"), "error": error_object(error, in_stream=True)}

    def _choice(self, word: str) -> dict[str, object]:
        message: dict[str, object] = {"role": "assistant", "content": self._text.getvalue(), "refusal": None}
        if self._calls:
            message["content"] = message["content"] or None
            if self.older_form:
                message["function_call"] = function_call(self._calls[0])
            else:
                message["tool_calls"] = [tool_call(call) for call in self._calls]
        if self._has_reasoning:
            message["reasoning_content"] = self._reasoning.getvalue()
        if self._sources:
            message["annotations"] = url_citations(self._sources)
        named = {} if self.header.choice_model is None else {"model": self.header.choice_model}
        return {"index": self.index, **named, "message": message, "logprobs": None, "finish_reason": word}


def completion(header: Header, choices: Sequence[object], usage: Usage) -> bytes:
    """Encode a `chat.completion` object."""
    return orjson.dumps(
        {
            "id": header.id,
            "object": "chat.completion",
            "created": header.created,
            "model": header.model,
            "system_fingerprint": SYSTEM_FINGERPRINT,
            "choices": choices,
            "usage": usage_object(usage),
        }
    )


def tool_call(call: ToolCall) -> dict[str, object]:
    """Write a call as OpenAI does."""
    if call.kind == "custom":
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": function_call(call)}


def function_call(call: ToolCall) -> dict[str, object]:
    """Write a call in the older form, in which there are no ids."""
    return {"name": call.name, "arguments": call.arguments}


def finish_reason(reason: str | None, *, older_form: bool = False) -> str:
    """Upstream's finish reason, or a stage's, in OpenAI's words."""
    if older_form and reason == "tool_calls":
        return "function_call"
    return FINISH_REASONS.get(reason or "", "stop")


def usage_object(usage: Usage) -> dict[str, object]:
    """OpenAI's usage object; the numbers are estimates."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    }


def url_citations(sources: dict[str, Source]) -> list[dict[str, object]]:
    """Citations as OpenAI's annotations: one for each place that leans on a source, or one at 0 where none is named."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "url": source.url,
                "title": source.title or source.url,
                "start_index": offset,
                "end_index": offset,
            },
        }
        for source, offset in places(sources)
    ]
