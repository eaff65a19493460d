"""The output items of one response while it is generated, and the response object around them."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Final, Literal, NamedTuple, TypeAlias

import orjson

from bridge.answering.chat import Usage
from bridge.answering.messages import ToolCall
from bridge.dialects.dialect import Stamp
from bridge.dialects.responses.ids import item_id, response_id
from bridge.dialects.responses.tools import ToolNames
from bridge.dialects.sources import places
from bridge.errors import ApiError, ContextExceeded, message_in_stream
from upstream.protocol.errors import Reason
from upstream.protocol.events import Source

#: The longest answer, reasoning included, in characters: the end of a stream repeats all of it.
MAX_CHARS: Final = 4 * 1024 * 1024

#: The reasons in `incomplete_details`, by finish reason.
INCOMPLETE: Final = {"length": "max_output_tokens", "content-filter": "content_filter"}
ERROR_CODES: Final = {429: "rate_limit_exceeded", 400: "invalid_prompt"}

ItemKind: TypeAlias = Literal["message", "reasoning"]


class ResponseHead(NamedTuple):
    """What is known of a response before its answer.

    `echo` is a JSON object with the request's fields that the response repeats. `store` stores the finished response
    object; `now` returns Unix time in seconds.
    """

    stamp: Stamp
    echo: bytes
    names: ToolNames
    store: Callable[[bytes], None]
    now: Callable[[], float]


class Output:
    """The output items of one response: the closed ones, and at most one that is open.

    `sources` are the citations of the open message, or of the next one.
    """

    def __init__(self, head: ResponseHead) -> None:
        self._head = head
        self._items: list[dict[str, object]] = []
        self.kind: ItemKind | None = None  # of the open item
        self.id = ""  # of the open or last item
        self._text = StringIO()
        self.sources: dict[str, Source] = {}
        self._chars = 0
        #: The number of bytes buffered so far.
        self.size = 0

    @property
    def index(self) -> int:
        """The index of the open item, or of the next one."""
        return len(self._items)

    def open(self, kind: ItemKind) -> dict[str, object]:
        """Open an item and return its initial object."""
        self.kind = kind
        self.id = item_id("msg" if kind == "message" else "rs", self._head.stamp.id, self.index)
        return self._item("in_progress", [])

    def write(self, text: str) -> None:
        """Add to the open item's text. Raises ApiError (502) if the answer is too long to keep."""
        chars = self._text.write(text)
        self._chars += chars
        self.size += chars if text.isascii() else 4 * chars
        if self._chars > MAX_CHARS:
            raise _too_long()

    def part(self) -> dict[str, object]:
        """Build the only content part of the open item, with its text so far."""
        text = orjson.Fragment(orjson.dumps(self._text.getvalue()))  # encoded once, for several objects
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": self.annotations(), "logprobs": []}

    def annotations(self) -> list[dict[str, object]]:
        """Build the citations, one for each place that cites a source."""
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

    def close(self, part: dict[str, object], status: str) -> dict[str, object]:
        """Close the open item with its content part; return its final object."""
        item = self._item(status, [part])
        self._items.append(item)
        if self.kind == "message":
            self.sources = {}
        self.kind, self._text = None, StringIO()
        return item

    def call(self, call: ToolCall) -> dict[str, object]:
        """Add the item of a call and return it."""
        name, namespace = self._head.names.of_call(call.name)
        custom = call.kind == "custom"
        item: dict[str, object] = {
            "type": "custom_tool_call" if custom else "function_call",
            "id": item_id("ctc" if custom else "fc", self._head.stamp.id, self.index),
            "call_id": call.id,
            "name": name,
            "input" if custom else "arguments": call.arguments,
            "status": "completed",
        }
        if namespace is not None:
            item["namespace"] = namespace
        self._items.append(item)
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
        error: ApiError | None = None,
    ) -> bytes:
        """Encode the response object, with the closed items."""
        has_ended = status in ("completed", "incomplete")
        own = {
            "id": response_id(self._head.stamp.id),
            "object": "response",
            "created_at": self._head.stamp.created,
            "status": status,
            "completed_at": int(self._head.now()) if has_ended else None,
            "error": None if error is None else error_object(error),
            "incomplete_details": None if incomplete is None else {"reason": incomplete},
            "output": self._items,
            "usage": None if usage is None else usage_object(usage),
        }
        return orjson.dumps(own)[:-1] + b"," + self._head.echo[1:]

    def finish(self, reason: str | None, usage: Usage) -> tuple[str, bytes]:
        """Encode and store the finished response object; return its status and the JSON."""
        incomplete = INCOMPLETE.get(reason or "")
        status = "incomplete" if incomplete else "completed"
        response = self.response(status, usage=usage, incomplete=incomplete)
        self._head.store(response)
        return status, response


def _too_long() -> ApiError:
    message = f"LMArena's answer is longer than {MAX_CHARS} characters, the most that the bridge keeps of a response."
    return ApiError(502, "upstream_error", message, reason=Reason.UPSTREAM_ERROR, retry=False)


def status_of_last(reason: str | None) -> str:
    """Return the status of the item that is open when an answer ends for this reason."""
    return "incomplete" if reason in INCOMPLETE else "completed"


def usage_object(usage: Usage) -> dict[str, object]:
    """Build the usage object; the numbers are estimates."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }


def error_object(error: ApiError) -> dict[str, object]:
    """Build the error of a failed response, with a code of OpenAI's, and the bridge's own code in the message.

    Agents recognise by the code that a prompt was too long, and read in the message when to retry.
    """
    code = ERROR_CODES.get(error.status, "server_error")
    if isinstance(error, ContextExceeded):
        code = error.code
    wait = "" if error.retry_after is None else f" Try again in {max(1, round(error.retry_after))}s."
    return {"code": code, "message": f"{message_in_stream(error)}{wait} ({error.code}, {error.reason.value})"}
