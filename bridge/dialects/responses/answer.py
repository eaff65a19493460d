"""Encodes answers of the Responses API, streamed or as one response object.

A response is a sequence of output items, of which at most one is open. The events of a stream are numbered:

    created ─▶ in_progress ─▶ [output_item.added ─▶ content_part.added ─▶ delta … ─▶ done ─▶ content_part.done
                               ─▶ output_item.done] … ─▶ completed | incomplete

After the first two events, `failed` may come at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import orjson

from bridge.answering.chat import Usage
from bridge.answering.events import AnswerEvent, ToolCalls
from bridge.answering.messages import ToolCall, image_markdown
from bridge.dialects import sse
from bridge.dialects.responses.numbering import DeltaEvent
from bridge.dialects.responses.output import ItemKind, Output, ResponseHead, status_of_last
from bridge.dialects.sources import merge_sources
from bridge.errors import ApiError, ContextExceeded
from upstream.protocol.events import Citations, Images, ReasoningDeltas, TextDeltas


class ResponseEncoder:
    """Encodes one streamed response."""

    keepalive: Final = sse.KEEPALIVE

    def __init__(self, head: ResponseHead) -> None:
        self._output = Output(head)
        self._number = 0
        self._started = False
        response = orjson.Fragment(self._output.response("in_progress"))
        opening = ("response.created", "response.in_progress")
        self._opening = b"".join([self._event(name, response=response) for name in opening])
        self._delta = DeltaEvent(b"", b"", b"")  # of the open item

    @property
    def size(self) -> int:
        """The number of bytes buffered so far; the end of the stream repeats the whole text."""
        return self._output.size

    def start(self) -> bytes:
        """Encode the two events before any output."""
        self._started = True
        return self._opening

    def idle(self) -> bytes:
        """Encode the usual keep-alive, since the API has no event for it."""
        return self.keepalive

    def reports(self, error: ApiError) -> bool:
        """Whether an error is reported in the stream even if nothing has been sent yet.

        As at OpenAI, this applies to a prompt that is too long: otherwise Codex would not compact its history.
        """
        return isinstance(error, ContextExceeded)

    def encode(self, batch: Sequence[AnswerEvent]) -> bytes:
        """Encode a batch. Raises ApiError (502) if the answer is too long to keep."""
        event = batch[0] if len(batch) == 1 else None
        if type(event) is TextDeltas and self._output.kind == "message" and b"\n" not in event.json:  # as in most reads
            self._output.write(event.text)
            self._number += 1
            return self._delta.one(self._number - 1, sse.line_safe(event.json))
        return b"".join([self._encode(event) for event in batch])

    def _encode(self, event: AnswerEvent) -> bytes:
        match event:
            case TextDeltas(text=text, json=json):
                return self._run("message", text, json)
            case ReasoningDeltas(text=text, json=json):
                return self._run("reasoning", text, json)
            case Images(urls=urls):
                text = image_markdown(urls)
                return self._run("message", text, orjson.dumps(text))
            case Citations(sources=sources):
                merge_sources(self._output.sources, sources)
            case ToolCalls(calls=calls):
                return self._end_text() + b"".join(map(self._call, calls))
        return b""

    def _run(self, kind: ItemKind, text: str, json: bytes) -> bytes:
        """Encode a run of deltas, each as one event, in an item of their kind."""
        output = self._output
        opening = b"" if output.kind == kind else self._close() + self._open(kind)
        output.write(text)
        deltas = sse.line_safe(json).split(b"\n")
        first, self._number = self._number, self._number + len(deltas)
        return opening + self._delta.run(first, deltas)

    def _open(self, kind: ItemKind) -> bytes:
        output = self._output
        item = output.open(kind)
        part = output.part() if kind == "reasoning" else {**output.part(), "annotations": []}
        added = self._event("response.output_item.added", output_index=output.index, item=item)
        added += self._part_event("response.content_part.added", part=part)
        name, tail = (b"output_text", b',"logprobs":[]') if kind == "message" else (b"reasoning_text", b"")
        place = b'"item_id":"%b","output_index":%d,"content_index":0' % (output.id.encode(), output.index)
        self._delta = DeltaEvent(
            b'event: response.%b.delta\ndata: {"type":"response.%b.delta","sequence_number":' % (name, name),
            b',%b,"delta":' % place,
            tail + b"}\n\n",
        )
        return added

    def _close(self, status: str = "completed") -> bytes:
        """Close the open item, if there is one."""
        output = self._output
        if output.kind is None:
            return b""
        part = output.part()
        events = []
        if output.kind == "message":
            for number, annotation in enumerate(output.annotations()):
                name = "response.output_text.annotation.added"
                events.append(self._part_event(name, annotation_index=number, annotation=annotation))
            events.append(self._part_event("response.output_text.done", text=part["text"], logprobs=[]))
        else:
            events.append(self._part_event("response.reasoning_text.done", text=part["text"]))
        events.append(self._part_event("response.content_part.done", part=part))
        index = output.index
        events.append(self._event("response.output_item.done", output_index=index, item=output.close(part, status)))
        return b"".join(events)

    def _end_text(self, status: str = "completed") -> bytes:
        """Close the open item; if there are citations without text, add an empty message for them first."""
        opened = b""
        if self._output.sources and self._output.kind != "message":
            opened = self._close() + self._open("message")
        return opened + self._close(status)

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
        last = self._end_text(status_of_last(reason))
        status, response = self._output.finish(reason, usage())
        return last + self._event(f"response.{status}", response=orjson.Fragment(response))

    def error(self, error: ApiError) -> bytes:
        """Encode the end of a response that failed, with the opening events if those have not been sent.

        The open item is not closed: an agent would add it to its history if it were reported as done.
        """
        start = b"" if self._started else self.start()
        response = orjson.Fragment(self._output.response("failed", error=error))
        return start + self._event("response.failed", response=response)

    def _part_event(self, name: str, /, **fields: object) -> bytes:
        output = self._output
        return self._event(name, item_id=output.id, output_index=output.index, content_index=0, **fields)

    def _event(self, name: str, /, **fields: object) -> bytes:
        data = orjson.dumps({"type": name, "sequence_number": self._number, **fields})
        self._number += 1
        return sse.named(name, data)


class ResponseCollector:
    """Collects one whole response."""

    def __init__(self, head: ResponseHead) -> None:
        self._output = Output(head)

    @property
    def size(self) -> int:
        """The number of bytes buffered so far."""
        return self._output.size

    def add(self, batch: Sequence[AnswerEvent]) -> None:
        """Add a batch. Raises ApiError (502) if the answer is too long to keep."""
        for event in batch:
            match event:
                case TextDeltas(text=text):
                    self._write("message", text)
                case ReasoningDeltas(text=text):
                    self._write("reasoning", text)
                case Images(urls=urls):
                    self._write("message", image_markdown(urls))
                case Citations(sources=sources):
                    merge_sources(self._output.sources, sources)
                case ToolCalls(calls=calls):
                    self._end_text()
                    for call in calls:
                        self._output.call(call)

    def _write(self, kind: ItemKind, text: str) -> None:
        if self._output.kind != kind:
            self._close()
            self._output.open(kind)
        self._output.write(text)

    def _close(self, status: str = "completed") -> None:
        if self._output.kind is not None:
            self._output.close(self._output.part(), status)

    def _end_text(self, status: str = "completed") -> None:
        if self._output.sources and self._output.kind != "message":
            self._close()
            self._output.open("message")
        self._close(status)

    def finish(self, reason: str | None, usage: Usage) -> bytes:
        """Encode the whole response."""
        self._end_text(status_of_last(reason))
        return self._output.finish(reason, usage)[1]
