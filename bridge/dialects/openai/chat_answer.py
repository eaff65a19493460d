"""Encodes answers of the Chat Completions API, streamed or as one completion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Final, NamedTuple

import orjson

from bridge.answering.chat import Usage
from bridge.answering.events import MAX_WHOLE_CHARS, AnswerEvent, ToolCalls
from bridge.answering.messages import ToolCall, image_markdown
from bridge.dialects import sse
from bridge.dialects.openai.errors import error_body, error_object
from bridge.dialects.sources import merge_sources, places
from bridge.errors import ApiError, answer_too_long
from upstream.protocol.events import Citations, Images, ReasoningDeltas, Source, TextDeltas

#: OpenAI's finish reasons by upstream's; any other is a `stop`.
FINISH_REASONS: Final = {
    "stop": "stop",
    "length": "length",
    "content-filter": "content_filter",
    "tool_calls": "tool_calls",
}
#: At OpenAI, this identifies the configuration of the model, which is unknown here.
SYSTEM_FINGERPRINT: Final = "fp_lmarena_bridge"


class Header(NamedTuple):
    """The fields that all objects of one answer share. `created` is Unix time in seconds, `model` the requested name.

    `choice_model` is the model of a choice if several models were asked.
    """

    id: str
    created: int
    model: str
    choice_model: str | None = None


class ChunkEncoder:
    """Encodes one streamed answer. The JSON string of each delta is inserted unchanged into a prebuilt chunk.

    `index` is that of the answer among several. With `older_form`, a call is sent as a `function_call`.
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
        """Encode the first chunk: the role, and null as content if the answer begins with calls."""
        content = b"null" if self._begins_with_calls else b'""'
        return self._head + b'"role":"assistant","content":' + content + self._tail

    def idle(self) -> bytes:
        """Encode an empty delta, a keep-alive for clients that ignore comments."""
        return self._text + b'""' + self._tail

    def encode(self, batch: Sequence[AnswerEvent]) -> bytes:
        """Encode a batch, which has no terminal event."""
        event = batch[0] if len(batch) == 1 else None
        if type(event) is TextDeltas and event.json.isascii() and b"\n" not in event.json:  # as in most reads
            return self._text + event.json + self._tail
        if ToolCalls in map(type, batch):  # for the first batch, `start` is called after this
            self._begins_with_calls = not any(isinstance(event, TextDeltas | Images) for event in batch)
        return b"".join(map(self._encode, batch))

    def _encode_calls(self, calls: Sequence[ToolCall]) -> bytes:
        """Encode each call as one chunk."""
        if self._older_form:
            parts = [b'"function_call":' + orjson.dumps(function_call(call)) for call in calls[:1]]
        else:
            numbered = [{"index": index, **tool_call(call)} for index, call in enumerate(calls)]
            parts = [b'"tool_calls":' + orjson.dumps([call]) for call in numbered]
        return b"".join([self._head + sse.line_safe(part) + self._tail for part in parts])

    def _encode(self, event: AnswerEvent) -> bytes:
        match event:
            case TextDeltas(json=json):
                return self._run(self._text, json)
            case ReasoningDeltas(json=json):
                return self._run(self._head + b'"reasoning_content":', json)
            case Images():
                return self._text + sse.line_safe(orjson.dumps(image_markdown(event.urls))) + self._tail
            case Citations(sources=sources):
                merge_sources(self._sources, sources)
            case ToolCalls(calls=calls):
                return self._encode_calls(calls)
        return b""

    def _run(self, opening: bytes, json: bytes) -> bytes:
        """Encode a run of deltas, each as one chunk."""
        return opening + sse.line_safe(json).replace(b"\n", self._tail + opening) + self._tail

    def finish(self, reason: str | None, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of a complete answer: annotations, if any, the finish reason, usage if asked for, `[DONE]`."""
        return self.end_choice(reason) + self.end(usage)

    def end_choice(self, reason: str | None, usage: Callable[[], Usage] | None = None) -> bytes:
        """Encode the end of this answer, but not of the stream, with its own `usage` if usage was asked for."""
        end = b'"' + finish_reason(reason, older_form=self._older_form).encode() + b'"'
        if usage is not None and self._include_usage:
            end += b',"usage":' + orjson.dumps(usage_object(usage()))
        return self._annotations() + self._last(end)

    def fail_choice(self, error: ApiError) -> bytes:
        """Encode the end of this answer, which failed, while others continue."""
        return self._last(b'"error","error":' + sse.line_safe(orjson.dumps(error_object(error, in_stream=True))))

    def _last(self, reason: bytes) -> bytes:
        last = self._head[: self._head.rindex(b"{")] + b'{},"finish_reason":' + reason + b"}]"
        return last + (b',"usage":null}\n\n' if self._include_usage else b"}\n\n")

    def end(self, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of the stream: usage if it was asked for, and `[DONE]`."""
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
        """Encode the event that ends a failed stream; no `[DONE]` follows."""
        return sse.frame(error_body(error, in_stream=True))


_CHOICE: Final = b'{"index":'


def sse_head(header: Header, index: int = 0) -> bytes:
    """Build the beginning of every chunk, up to the opening brace of its delta."""
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
class CompletionCollector:
    """Collects one answer that is not streamed. `chars` is its length so far, `size` the bytes that it takes."""

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
        """Add a batch. Raises ApiError (502) if the answer is too long to keep."""
        for event in batch:
            match event:
                case TextDeltas(text=text):
                    self._write(self._text, text)
                case ReasoningDeltas(text=text):
                    self._has_reasoning = True
                    self._write(self._reasoning, text)
                case Images():
                    self._write(self._text, image_markdown(event.urls))
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
        """Build the choice of a complete answer, with its own usage if that is given."""
        choice = self._choice(finish_reason(reason, older_form=self.older_form))
        return choice if usage is None else {**choice, "usage": usage_object(usage)}

    def failed_choice(self, error: ApiError) -> dict[str, object]:
        """Build the choice of an answer that failed, with what there is of it."""
        return {**self._choice("error"), "error": error_object(error, in_stream=True)}

    def _choice(self, reason: str) -> dict[str, object]:
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
        return {"index": self.index, **named, "message": message, "logprobs": None, "finish_reason": reason}


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
    """Build the object of a call."""
    if call.kind == "custom":
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": function_call(call)}


def function_call(call: ToolCall) -> dict[str, object]:
    """Build the object of a call in the older form, which has no ids."""
    return {"name": call.name, "arguments": call.arguments}


def finish_reason(reason: str | None, *, older_form: bool = False) -> str:
    """Translate a finish reason of upstream or of a stage into OpenAI's."""
    if older_form and reason == "tool_calls":
        return "function_call"
    return FINISH_REASONS.get(reason or "", "stop")


def usage_object(usage: Usage) -> dict[str, object]:
    """Build the usage object; the numbers are estimates."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    }


def url_citations(sources: dict[str, Source]) -> list[dict[str, object]]:
    """Build the annotations: one for each place that cites a source, at offset 0 if the place is unknown."""
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
