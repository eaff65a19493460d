"""The Responses API as one dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import orjson

from bridge.answering.chat import ChatRequest
from bridge.dialects.dialect import Stamp
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.dialects.openai.errors import OpenAI
from bridge.dialects.responses.answer import ResponseCollector, ResponseEncoder, ResponseHead
from bridge.dialects.responses.items import links_of
from bridge.dialects.responses.request import ResponsesFields, read_request
from bridge.dialects.responses.stored import Stored, StoredResponses, response_id


class ResponsesRequest:
    """A request for one response, which is stored when it has its answer."""

    def __init__(self, read: ResponsesFields, owner: str, stored: StoredResponses, now: Callable[[], float]) -> None:
        self.chat = read.chat
        self._read = read
        self._owner = owner
        self._stored = stored
        self._now = now

    def encoder(self, stamp: Stamp) -> ResponseEncoder:
        """Make the encoder of its stream."""
        return ResponseEncoder(self._head(stamp))

    def collector(self, stamp: Stamp) -> ResponseCollector:
        """Make the collector of its whole answer."""
        return ResponseCollector(self._head(stamp))

    def _head(self, stamp: Stamp) -> ResponseHead:
        def keep(response: bytes) -> None:
            if self._read.store:
                previous = self._read.echo["previous_response_id"]
                items = orjson.dumps(self._read.items)
                before = previous if isinstance(previous, str) else None
                self._stored.put(response_id(stamp.id), Stored(self._owner, before, items, response))

        return ResponseHead(stamp, self._read.echo, self._read.names, keep, self._now)


class Responses(OpenAI):
    """`POST /responses` (docs/fronts.md, "Responses"). `now` gives unix seconds."""

    name: Final = "responses"

    def __init__(self, stored: StoredResponses, now: Callable[[], float]) -> None:
        self.stored = stored
        self._now = now

    def links(self, fields: Fields, owner: str) -> Iterator[str]:
        """Find the URLs of pictures, in the request and in what it continues."""
        yield from links_of(fields.any_mappings("input"))
        previous = fields.any("previous_response_id")
        if isinstance(previous, str) and self.stored.find(owner, previous):
            yield from links_of(Fields({"input": self.stored.history(owner, previous)}).any_mappings("input"))

    def read(self, fields: Fields, files: FileReader, owner: str) -> ResponsesRequest:
        """Read a request of the key `owner`. Raises ApiError (400) that names the field."""
        return ResponsesRequest(read_request(fields, files, owner, self.stored), owner, self.stored, self._now)


def count_responses(stored: StoredResponses) -> Callable[[Fields, FileReader, str], ChatRequest]:
    """Make the reader of requests whose tokens are to be counted."""
    return lambda fields, files, owner: read_request(fields, files, owner, stored).chat
