"""The dialect of OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from bridge.answering.chat import ChatRequest
from bridge.dialects.dialect import ErrorAnswer, Stamp
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.dialects.openai.errors import OpenAI
from bridge.dialects.responses.answer import ResponseCollector, ResponseEncoder
from bridge.dialects.responses.ids import response_id, response_id_of
from bridge.dialects.responses.items import links_of
from bridge.dialects.responses.output import ResponseHead
from bridge.dialects.responses.request import ResponsesFields, read_request
from bridge.dialects.responses.stored import ItemFinder, Stored, StoredResponses, referenced_id
from bridge.errors import ApiError


class ResponsesRequest:
    """A request for one response, which is stored when it is complete."""

    def __init__(self, read: ResponsesFields, owner: str, stored: StoredResponses, now: Callable[[], float]) -> None:
        self.chat = read.chat
        self._read = read
        self._owner = owner
        self._stored = stored
        self._now = now

    @property
    def input_bytes(self) -> int:
        """The size of the input that is kept until the answer is complete, in addition to the messages."""
        return len(self._read.stored_input or b"")

    def encoder(self, stamp: Stamp) -> ResponseEncoder:
        """Make the encoder of its stream."""
        return ResponseEncoder(self._head(stamp))

    def collector(self, stamp: Stamp) -> ResponseCollector:
        """Make the collector of its whole answer."""
        return ResponseCollector(self._head(stamp))

    def _head(self, stamp: Stamp) -> ResponseHead:
        def store(response: bytes) -> None:
            if self._read.stored_input is not None:
                stored = Stored(self._owner, self._read.previous, self._read.stored_input, response)
                self._stored.put(response_id(stamp.id), stored)

        return ResponseHead(stamp, self._read.echo_json, self._read.names, store, self._now)


class Responses(OpenAI):
    """`POST /responses` (docs/fronts.md, "Responses"). `now` returns Unix time in seconds."""

    name: Final = "responses"
    repeats_text: Final = True

    def __init__(self, stored: StoredResponses, now: Callable[[], float]) -> None:
        self.stored = stored
        self._now = now

    def stored_ids(self, fields: Fields) -> set[str]:
        """Return the ids of the stored responses that a request continues, or to whose items it refers."""
        previous = fields.any("previous_response_id")
        ids = {previous} if isinstance(previous, str) and previous else set()
        items = (referenced_id(item.values) for item in fields.any_mappings("input"))
        return ids | {response_id_of(id_) for id_ in items if id_ is not None}

    def stored_bytes(self, fields: Fields, owner: str) -> int:
        """Return the size of the stored responses that a request continues, or to whose items it refers."""
        previous = fields.any("previous_response_id")
        before = self.stored.history_bytes(owner, previous) if isinstance(previous, str) else 0
        ids = [id_ for item in fields.any_mappings("input") if (id_ := referenced_id(item.values)) is not None]
        named = [self.stored.find(owner, response) for response in {response_id_of(id_) for id_ in ids}]
        return before + sum([stored.size for stored in named if stored is not None])

    def links(self, fields: Fields, owner: str) -> Iterator[str]:
        """Yield the http(s) URLs of pictures in the request and in the responses that it continues."""
        finder = ItemFinder(self.stored, owner)
        for item in fields.any_mappings("input"):
            id_ = referenced_id(item.values)
            found = item.values if id_ is None else finder.find(id_)
            yield from links_of(Fields({"items": found}).any_mappings("items"))
        previous = fields.any("previous_response_id")
        if isinstance(previous, str) and self.stored.find(owner, previous):
            yield from links_of(Fields({"items": self.stored.history(owner, previous)}).any_mappings("items"))

    def read(self, fields: Fields, files: FileReader, owner: str) -> ResponsesRequest:
        """Read a request of the API key `owner`. Raises ApiError (400) that names the field."""
        return ResponsesRequest(read_request(fields, files, owner, self.stored), owner, self.stored, self._now)

    def error(self, error: ApiError, request_id: str) -> ErrorAnswer:
        """Format an error as OpenAI's error object, with `input` in place of `messages`."""
        return super().error(replace(error, param="input") if error.param == "messages" else error, request_id)


def count_responses(stored: StoredResponses) -> Callable[[Fields, FileReader, str], ChatRequest]:
    """Make a function that reads requests to count tokens."""
    return lambda fields, files, owner: read_request(fields, files, owner, stored).chat
