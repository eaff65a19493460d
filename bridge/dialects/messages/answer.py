"""Encodes answers of the Messages API, streamed or as one message.

A message is a sequence of content blocks, of which at most one is open:

    message_start ─▶ [content_block_start ─▶ content_block_delta … ─▶ content_block_stop] …
                  ─▶ message_delta ─▶ message_stop
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Final, Literal, NamedTuple, TypeAlias

import orjson
import pybase64

from bridge.answering.chat import Usage
from bridge.answering.events import MAX_WHOLE_CHARS, AnswerEvent, Stopped, ToolCalls
from bridge.answering.messages import ToolCall, image_markdown
from bridge.dialects import sse
from bridge.dialects.messages.errors import error_object
from bridge.dialects.sources import merge_sources
from bridge.errors import ApiError, answer_too_long
from upstream.protocol.events import Citations, Images, ReasoningDeltas, Source, TextDeltas

#: The kinds of blocks that consist of deltas.
BlockKind: TypeAlias = Literal["text", "thinking"]

STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content-filter": "refusal",
}


class MessageHead(NamedTuple):
    """The beginning of a message. `input_tokens` is the size of the whole prompt.

    How much of it was read from a cache is known only at the end; the usage there replaces this.
    """

    id: str
    model: str
    input_tokens: int


class MessageEncoder:
    """Encodes one streamed message, without reasoning unless `thinking`."""

    keepalive: Final = sse.named("ping", b'{"type":"ping"}')

    def __init__(self, head: MessageHead, *, thinking: bool) -> None:
        self._head = head
        self._thinking = thinking
        self._index = -1  # of the open or last block
        self._open: BlockKind | None = None
        self._delta = b""  # the beginning of each delta of the open block
        self._thought = StringIO()
        self._sources: dict[str, Source] = {}
        self._stop: str | None = None  # the stop string that ended the answer

    def start(self) -> bytes:
        """Encode the message without content."""
        usage: dict[str, object] = {"input_tokens": self._head.input_tokens, "output_tokens": 0}
        message = _message(self._head, [], None, None, usage)
        return sse.named("message_start", orjson.dumps({"type": "message_start", "message": message}))

    def idle(self) -> bytes:
        """Encode a ping, which is also the usual keep-alive."""
        return self.keepalive

    def encode(self, batch: Sequence[AnswerEvent]) -> bytes:
        """Encode a batch."""
        event = batch[0] if len(batch) == 1 else None
        if type(event) is TextDeltas and self._open == "text":  # as in most reads
            json = event.json
            if json.isascii() and b"\n" not in json:
                return self._delta + json + _DELTA_END
        return b"".join([self._encode(event) for event in batch])

    def _encode(self, event: AnswerEvent) -> bytes:
        match event:
            case TextDeltas(json=json):
                return self._run("text", json)
            case ReasoningDeltas(text=text, json=json) if self._thinking:
                self._thought.write(text)
                return self._run("thinking", json)
            case Images(urls=urls):
                return self._run("text", orjson.dumps(image_markdown(urls)))
            case Citations(sources=sources):
                merge_sources(self._sources, sources)
            case ToolCalls(calls=calls):
                return self._close() + b"".join(map(self._call, calls))
            case Stopped(stop=stop):
                self._stop = stop
        return b""

    def _run(self, kind: BlockKind, json: bytes) -> bytes:
        """Encode a run of deltas, each as one event, in a block of their kind."""
        opening = b"" if self._open == kind else self._close() + self._begin(kind)
        return opening + self._delta + sse.line_safe(json).replace(b"\n", _DELTA_END + self._delta) + _DELTA_END

    def _begin(self, kind: BlockKind) -> bytes:
        self._open = kind
        self._index += 1
        self._delta = _DELTA_HEAD % self._index + _DELTAS[kind]
        return self._start_block({"type": "text", "text": ""} if kind == "text" else _thinking("", ""))

    def _start_block(self, block: dict[str, object]) -> bytes:
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        return sse.named("content_block_start", orjson.dumps(start))

    def _close(self) -> bytes:
        """Close the open block, if there is one, with its signature or citations."""
        kind, self._open = self._open, None
        if kind is None:
            return b""
        if kind == "thinking":
            last: list[object] = [{"type": "signature_delta", "signature": _signature(self._thought.getvalue())}]
            self._thought = StringIO()
        else:
            last = [{"type": "citations_delta", "citation": citation} for citation in _citations(self._sources)]
            self._sources = {}
        stop = sse.named("content_block_stop", b'{"type":"content_block_stop","index":%d}' % self._index)
        return b"".join(map(self._delta_of, last)) + stop

    def _delta_of(self, delta: object) -> bytes:
        value = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return sse.named("content_block_delta", orjson.dumps(value))

    def _call(self, call: ToolCall) -> bytes:
        self._index += 1
        stop = sse.named("content_block_stop", b'{"type":"content_block_stop","index":%d}' % self._index)
        delta = {"type": "input_json_delta", "partial_json": call.arguments}
        return self._start_block(_tool_use(call, {})) + self._delta_of(delta) + stop

    def finish(self, reason: str | None, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of a complete message."""
        begin = b""
        if self._sources and self._open != "text":  # citations can only be in a text block
            begin = self._close() + self._begin("text")
        delta = {"stop_reason": stop_reason(reason, self._stop), "stop_sequence": self._stop}
        last = {"type": "message_delta", "delta": delta, "usage": usage_object(usage())}
        return b"".join(
            (
                begin,
                self._close(),
                sse.named("message_delta", orjson.dumps(last)),
                sse.named("message_stop", b'{"type":"message_stop"}'),
            )
        )

    def error(self, error: ApiError) -> bytes:
        """Encode the event that ends a failed stream."""
        return sse.named("error", orjson.dumps(error_object(error, in_stream=True)))


_DELTA_HEAD: Final = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":'
_DELTAS: Final = {"text": b'"text_delta","text":', "thinking": b'"thinking_delta","thinking":'}
_DELTA_END: Final = b"}}\n\n"


class MessageCollector:
    """Collects one whole message, with the same blocks in the same order as in a stream."""

    def __init__(self, head: MessageHead, *, thinking: bool) -> None:
        self._head = head
        self._thinking = thinking
        self._content: list[dict[str, object]] = []
        self._open: BlockKind | None = None
        self._text = StringIO()  # of the open block
        self._sources: dict[str, Source] = {}
        self._stop: str | None = None  # the stop string that ended the answer
        self._chars = 0
        #: The number of bytes buffered so far.
        self.size = 0

    def add(self, batch: Sequence[AnswerEvent]) -> None:
        """Add a batch. Raises ApiError (502) if the answer is too long to keep."""
        for event in batch:
            match event:
                case TextDeltas(text=text):
                    self._write("text", text)
                case ReasoningDeltas(text=text) if self._thinking:
                    self._write("thinking", text)
                case Images(urls=urls):
                    self._write("text", image_markdown(urls))
                case Citations(sources=sources):
                    merge_sources(self._sources, sources)
                case ToolCalls(calls=calls):
                    self._close()
                    self._content += [_tool_use(call, orjson.Fragment(call.arguments)) for call in calls]
                case Stopped(stop=stop):
                    self._stop = stop
        if self._chars > MAX_WHOLE_CHARS:
            raise answer_too_long(MAX_WHOLE_CHARS)

    def _write(self, kind: BlockKind, text: str) -> None:
        if self._open != kind:
            self._close()
            self._open = kind
        chars = self._text.write(text)
        self._chars += chars
        self.size += chars if text.isascii() else 4 * chars

    def _close(self) -> None:
        kind, self._open = self._open, None
        text, self._text = self._text.getvalue(), StringIO()
        if kind == "thinking":
            self._content.append(_thinking(text, _signature(text)))
        elif kind == "text":
            citations, self._sources = _citations(self._sources), {}
            self._content.append({"type": "text", "text": text, **({"citations": citations} if citations else {})})

    def finish(self, reason: str | None, usage: Usage) -> bytes:
        """Encode the whole message."""
        if self._sources and self._open != "text":  # citations can only be in a text block
            self._write("text", "")
        self._close()
        api_reason = stop_reason(reason, self._stop)
        return orjson.dumps(_message(self._head, self._content, api_reason, self._stop, usage_object(usage)))


def stop_reason(reason: str | None, stop: str | None) -> str:
    """Return this API's stop reason for a finish reason and the stop string that ended the answer, if one did."""
    return "stop_sequence" if stop is not None else STOP_REASONS.get(reason or "", "end_turn")


def usage_object(usage: Usage) -> dict[str, object]:
    """Build the usage object; what was not sent again counts as read from a cache, and not as `input_tokens`."""
    return {
        "input_tokens": usage.prompt - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }


def _message(
    head: MessageHead, content: list[dict[str, object]], reason: str | None, stop: str | None, usage: dict[str, object]
) -> dict[str, object]:
    return {
        "id": head.id,
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": stop,
        "usage": usage,
    }


def _thinking(text: str, signature: str) -> dict[str, object]:
    return {"type": "thinking", "thinking": text, "signature": signature}


def _signature(text: str) -> str:
    """Make a signature, which clients send back and nobody checks, since models are not shown reasoning again."""
    return pybase64.b64encode(hashlib.sha256(text.encode(errors="replace")).digest()).decode()


def _tool_use(call: ToolCall, arguments: object) -> dict[str, object]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _citations(sources: dict[str, Source]) -> list[dict[str, object]]:
    return [
        {
            "type": "web_search_result_location",
            "url": source.url,
            "title": source.title or source.url,
            "cited_text": "",
            "encrypted_index": "",
        }
        for source in sources.values()
    ]
