"""The Responses API: batches of events → the events of a stream, or one response object.

A response is a row of output items, each open for a while; a stream tells each step with a number without a gap:

    created ─▶ in_progress ─▶ [output_item.added ─▶ content_part.added ─▶ delta … ─▶ done ─▶ content_part.done
                               ─▶ output_item.done] … ─▶ completed | incomplete | failed
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import Final, Literal, NamedTuple, TypeAlias

import orjson

from bridge.answering.chat import Usage
from bridge.answering.events import AnswerEvent, ToolCalls
from bridge.answering.messages import ToolCall, markdown
from bridge.dialects import sse
from bridge.dialects.dialect import Stamp
from bridge.dialects.responses.stored import item_id, response_id
from bridge.dialects.responses.tools import ToolNames
from bridge.dialects.sources import merge_sources, places
from bridge.errors import ApiError, answer_too_long
from upstream.protocol.events import Citations, Images, ReasoningDeltas, Source, TextDeltas

#: An answer that is not streamed, its reasoning included, in characters.
MAX_WHOLE_CHARS: Final = 16 * 1024 * 1024

_INCOMPLETE: Final = {"length": "max_output_tokens", "content-filter": "content_filter"}

ItemKind: TypeAlias = Literal["message", "reasoning"]


class ResponseHead(NamedTuple):
    """What a response begins with: its stamp, the fields of the request that it repeats, the names of its tools.

    `keep` stores the finished object.
    """

    stamp: Stamp
    echo: Mapping[str, object]
    names: ToolNames
    keep: Callable[[bytes], None]
    now: Callable[[], float]


class Output:
    """The output items of one response, as they grow."""

    def __init__(self, head: ResponseHead) -> None:
        self.head = head
        self.items: list[dict[str, object]] = []
        self.kind: ItemKind | None = None  # of the item that is open
        self.id = ""
        self._text = StringIO()
        self.sources: dict[str, Source] = {}
        self.chars = 0
        #: The bytes that are kept so far.
        self.size = 0

    @property
    def index(self) -> int:
        """The place of the item that is open."""
        return len(self.items)

    def open(self, kind: ItemKind) -> dict[str, object]:
        """Begin an item; return it as it stands then."""
        self.kind = kind
        self.id = item_id("msg" if kind == "message" else "rs", self.head.stamp.id, self.index)
        return self._item("in_progress", [])

    def write(self, text: str) -> None:
        """Add to the open item's text. Raises ApiError (502) where the answer is longer than is kept."""
        chars = self._text.write(text)
        self.chars += chars
        self.size += chars if text.isascii() else 4 * chars

    def part(self) -> dict[str, object]:
        """The one content part of the open item, as it stands now."""
        text = self._text.getvalue()
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": self.annotations(), "logprobs": []}

    def annotations(self) -> list[dict[str, object]]:
        """Citations: one for each place that leans on a source."""
        return [
            {
                "type": "url_citation",
                "url": source.url,
                "title": source.title or source.url,
                "start_index": offset,
                "end_index": offset,
            }
            for source, offset in places(self.sources)
        ]

    def close(self, status: str = "completed") -> dict[str, object]:
        """End the open item; return it whole."""
        item = self._item(status, [self.part()])
        self.items.append(item)
        self.kind, self._text, self.sources = None, StringIO(), {}
        return item

    def call(self, call: ToolCall) -> dict[str, object]:
        """Add a call; return its item."""
        name, namespace = self.head.names.of_call(call.name)
        custom = call.kind == "custom"
        item: dict[str, object] = {
            "type": "custom_tool_call" if custom else "function_call",
            "id": item_id("ctc" if custom else "fc", self.head.stamp.id, self.index),
            "call_id": call.id,
            "name": name,
            "input" if custom else "arguments": call.arguments,
            "status": "completed",
        }
        if namespace is not None:
            item["namespace"] = namespace
        self.items.append(item)
        return item

    def _item(self, status: str, content: list[dict[str, object]]) -> dict[str, object]:
        if self.kind == "reasoning":
            return {"type": "reasoning", "id": self.id, "summary": [], "content": content, "status": status}
        return {"type": "message", "id": self.id, "status": status, "role": "assistant", "content": content}

    def response(
        self,
        status: str,
        *,
        usage: Usage | None = None,
        incomplete: str | None = None,
        error: dict[str, object] | None = None,
    ) -> dict[str, object]:
        """The response object with the items that are whole."""
        ended = status in ("completed", "incomplete")
        return {
            "id": response_id(self.head.stamp.id),
            "object": "response",
            "created_at": self.head.stamp.created,
            "status": status,
            "completed_at": int(self.head.now()) if ended else None,
            "error": error,
            "incomplete_details": None if incomplete is None else {"reason": incomplete},
            "output": self.items,
            "usage": None if usage is None else usage_object(usage),
            **self.head.echo,
        }

    def ended(self, reason: str | None, usage: Usage) -> tuple[str, dict[str, object]]:
        """The status and the object of a response that has its whole answer; it is stored."""
        incomplete = _INCOMPLETE.get(reason or "")
        status = "incomplete" if incomplete else "completed"
        response = self.response(status, usage=usage, incomplete=incomplete)
        self.head.keep(orjson.dumps(response))
        return status, response


class ResponseEncoder:
    """Encodes one streamed response."""

    keepalive: Final = sse.KEEPALIVE

    def __init__(self, head: ResponseHead) -> None:
        self._output = Output(head)
        self._number = 0
        self._started = False
        response = self._output.response("in_progress")
        opening = ("response.created", "response.in_progress")
        self._opening = b"".join([self._event(name, response=response) for name in opening])
        self._delta = b""  # what a delta of the open item looks like

    def start(self) -> bytes:
        """Encode the two events before any output."""
        self._started = True
        return self._opening

    def idle(self) -> bytes:
        """Encode a keep-alive: there is no event of the API's own for it."""
        return self.keepalive

    def encode(self, batch: Sequence[AnswerEvent]) -> bytes:
        """Encode what one read held."""
        return b"".join([self._encode(event) for event in batch])

    def _encode(self, event: AnswerEvent) -> bytes:
        match event:
            case TextDeltas(text=text, json=json):
                return self._run("message", text, json)
            case ReasoningDeltas(text=text, json=json):
                return self._run("reasoning", text, json)
            case Images(images=images):
                text = markdown(images)
                return self._run("message", text, orjson.dumps(text))
            case Citations(sources=sources):
                merge_sources(self._output.sources, sources)
            case ToolCalls(calls=calls):
                return self._close() + b"".join(map(self._call, calls))
        return b""

    def _run(self, kind: ItemKind, text: str, json: bytes) -> bytes:
        """Encode a run of deltas, an event for each, within an item of their kind."""
        output = self._output
        opening = b"" if output.kind == kind else self._close() + self._open(kind)
        output.write(text)
        deltas = []
        for delta in sse.line_safe(json).split(b"\n"):
            deltas.append(self._delta % (self._number, delta))
            self._number += 1
        return opening + b"".join(deltas)

    def _open(self, kind: ItemKind) -> bytes:
        output = self._output
        item = output.open(kind)
        added = self._event("response.output_item.added", output_index=output.index, item=item)
        part = self._part_event("response.content_part.added", part=output.part())
        name = b"response.output_text.delta" if kind == "message" else b"response.reasoning_text.delta"
        tail = b',"logprobs":[]}\n\n' if kind == "message" else b"}\n\n"
        about = b'"item_id":"%b","output_index":%d,"content_index":0' % (output.id.encode(), output.index)
        self._delta = (
            b"event: %b\ndata: {" % name + b'"type":"%b","sequence_number":%%d,' % name + about + b',"delta":%b' + tail
        )
        return added + part

    def _close(self, status: str = "completed") -> bytes:
        """End the item that is open, if one is."""
        output = self._output
        if output.kind is None:
            return b""
        part = output.part()
        events = []
        if output.kind == "message":
            for at, annotation in enumerate(output.annotations()):
                name = "response.output_text.annotation.added"
                events.append(self._part_event(name, annotation_index=at, annotation=annotation))
            events.append(self._part_event("response.output_text.done", text=part["text"], logprobs=[]))
        else:
            events.append(self._part_event("response.reasoning_text.done", text=part["text"]))
        events.append(self._part_event("response.content_part.done", part=part))
        index = output.index
        events.append(self._event("response.output_item.done", output_index=index, item=output.close(status)))
        return b"".join(events)

    def _call(self, call: ToolCall) -> bytes:
        index = self._output.index
        item = self._output.call(call)
        kind = "custom_tool_call_input" if call.kind == "custom" else "function_call_arguments"
        field = "input" if call.kind == "custom" else "arguments"
        about: dict[str, object] = {"item_id": item["id"], "output_index": index}
        named = {"name": item["name"]} if field == "arguments" else {}
        opened = {**item, field: "", "status": "in_progress"}
        return b"".join(
            (
                self._event("response.output_item.added", output_index=index, item=opened),
                self._event(f"response.{kind}.delta", **about, delta=call.arguments),
                self._event(f"response.{kind}.done", **about, **named, **{field: call.arguments}),
                self._event("response.output_item.done", output_index=index, item=item),
            )
        )

    def finish(self, reason: str | None, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of a complete answer."""
        begin = b""
        if self._output.sources and self._output.kind != "message":  # citations need a text that they stand in
            begin = self._close() + self._open("message")
        begin += self._close("incomplete" if reason in _INCOMPLETE else "completed")
        status, response = self._output.ended(reason, usage())
        return begin + self._event(f"response.{status}", response=response)

    def error(self, error: ApiError) -> bytes:
        """Encode the end of a response that failed, after all that a response begins with."""
        start = b"" if self._started else self.start()
        closed = self._close("incomplete")
        response = self._output.response("failed", error=error_object(error))
        return start + closed + self._event("response.failed", response=response)

    def _part_event(self, name: str, **fields: object) -> bytes:
        output = self._output
        return self._event(name, item_id=output.id, output_index=output.index, content_index=0, **fields)

    def _event(self, name: str, **fields: object) -> bytes:
        data = orjson.dumps({"type": name, "sequence_number": self._number, **fields})
        self._number += 1
        return sse.named(name, sse.line_safe(data))


class ResponseCollector:
    """Collects one whole response."""

    def __init__(self, head: ResponseHead) -> None:
        self._output = Output(head)

    @property
    def size(self) -> int:
        """The bytes that are kept so far."""
        return self._output.size

    def add(self, batch: Sequence[AnswerEvent]) -> None:
        """Take what one read held. Raises ApiError (502) where the answer is longer than is kept."""
        for event in batch:
            match event:
                case TextDeltas(text=text):
                    self._write("message", text)
                case ReasoningDeltas(text=text):
                    self._write("reasoning", text)
                case Images(images=images):
                    self._write("message", markdown(images))
                case Citations(sources=sources):
                    merge_sources(self._output.sources, sources)
                case ToolCalls(calls=calls):
                    self._close()
                    for call in calls:
                        self._output.call(call)
        if self._output.chars > MAX_WHOLE_CHARS:
            raise answer_too_long(MAX_WHOLE_CHARS)

    def _write(self, kind: ItemKind, text: str) -> None:
        if self._output.kind != kind:
            self._close()
            self._output.open(kind)
        self._output.write(text)

    def _close(self, status: str = "completed") -> None:
        if self._output.kind is not None:
            self._output.close(status)

    def finish(self, reason: str | None, usage: Usage) -> bytes:
        """Encode the whole response."""
        if self._output.sources and self._output.kind != "message":
            self._write("message", "")
        self._close("incomplete" if reason in _INCOMPLETE else "completed")
        return orjson.dumps(self._output.ended(reason, usage)[1])


def usage_object(usage: Usage) -> dict[str, object]:
    """The API's usage object; the numbers are estimates."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }


def error_object(error: ApiError) -> dict[str, object]:
    """A failed response's error: in a code that OpenAI has, with the bridge's own word in the message."""
    codes = {429: "rate_limit_exceeded", 400: "invalid_prompt"}
    code = codes.get(error.status, "server_error")
    return {"code": code, "message": f"{error.message} ({error.code}, {error.reason.value})"}
