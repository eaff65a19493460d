"""The Responses API as one dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import orjson

from bridge.answering.chat import ChatRequest
from bridge.dialects.dialect import ErrorAnswer, Stamp
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader, data_url
from bridge.dialects.openai.errors import OpenAI
from bridge.dialects.responses.answer import ResponseCollector, ResponseEncoder
from bridge.dialects.responses.ids import response_id
from bridge.dialects.responses.items import links_of
from bridge.dialects.responses.output import ResponseHead
from bridge.dialects.responses.request import ResponsesFields, read_request
from bridge.dialects.responses.stored import ItemFinder, Stored, StoredResponses, referred
from bridge.errors import ApiError


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
                items = orjson.dumps(self._read.items, data_url, orjson.OPT_PASSTHROUGH_DATACLASS)
                stored = Stored(self._owner, self._read.previous, items, response)
                self._stored.put(response_id(stamp.id), stored)

        return ResponseHead(stamp, self._read.echo, self._read.names, keep, self._now)


class Responses(OpenAI):
    """`POST /responses` (docs/fronts.md, "Responses"). `now` gives unix seconds."""

    name: Final = "responses"

    def __init__(self, stored: StoredResponses, now: Callable[[], float]) -> None:
        self.stored = stored
        self._now = now

    def links(self, fields: Fields, owner: str) -> Iterator[str]:
        """Find the URLs of pictures, in the request and in what it continues."""
        finder = ItemFinder(self.stored, owner)
        for item in fields.any_mappings("input"):
            id_ = referred(item.values)
            found = item.values if id_ is None else finder.find(id_)
            yield from links_of(Fields({"items": found}).any_mappings("items"))
        previous = fields.any("previous_response_id")
        if isinstance(previous, str) and self.stored.find(owner, previous):
            yield from links_of(Fields({"items": self.stored.history(owner, previous)}).any_mappings("items"))

    def read(self, fields: Fields, files: FileReader, owner: str) -> ResponsesRequest:
        """Read a request of the key `owner`. Raises ApiError (400) that names the field."""
        return ResponsesRequest(read_request(fields, files, owner, self.stored), owner, self.stored, self._now)

    def error(self, error: ApiError, request_id: str) -> ErrorAnswer:
        """OpenAI's error object. What is said of a chat's messages is said of the `input` here."""
        return super().error(replace(error, param="input") if error.param == "messages" else error, request_id)


def count_responses(stored: StoredResponses) -> Callable[[Fields, FileReader, str], ChatRequest]:
    """Make the reader of requests whose tokens are to be counted."""
    return lambda fields, files, owner: read_request(fields, files, owner, stored).chat
