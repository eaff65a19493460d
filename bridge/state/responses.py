"""`responses.json`: the stored responses of the last run, if it stopped cleanly."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from sys import intern
from typing import Final, NamedTuple

import orjson

from bridge.dialects.responses.stored import MAX_BYTES, Stored, StoredResponses
from bridge.state.documents import Document, StateFolder
from bridge.state.errors import StateError
from bridge.state.formats import DocumentFormat

_logger: Final = logging.getLogger(__name__)


class SavedResponse(NamedTuple):
    """One response with its id."""

    id: str
    stored: Stored


def responses_document(folder: StateFolder) -> Document[tuple[SavedResponse, ...]]:
    """`responses.json`, the oldest first."""

    def parse(values: object) -> tuple[SavedResponse, ...]:
        if not isinstance(values, list):
            raise ValueError("must be a list")
        return tuple(map(_read, values))

    def dump(saved: tuple[SavedResponse, ...]) -> object:
        return list(map(_write, saved))

    return folder.open(DocumentFormat("responses", 1, parse, dump, (), precious=False, max_bytes=4 * MAX_BYTES))


def _read(value: object) -> SavedResponse:
    match value:
        case {
            "id": str(id_),
            "owner": str(owner),
            "previous": previous,
            "input": list(given),
            "response": {"output": list()} as response,
        } if isinstance(previous, str | None):
            return SavedResponse(id_, Stored(intern(owner), previous, _encode(given), _encode(response)))
    raise ValueError("a response must have id, owner, previous, input and response")


def _encode(value: object) -> bytes:
    """JSON in a buffer of its own size: orjson's result keeps one of at least 4 KiB, a slice of it does not."""
    return orjson.dumps([value])[1:-1]


def _write(saved: SavedResponse) -> object:
    id_, (owner, previous, given, response) = saved
    return {
        "id": id_,
        "owner": owner,
        "previous": previous,
        "input": orjson.Fragment(given),
        "response": orjson.Fragment(response),
    }


@asynccontextmanager
async def kept_responses(folder: StateFolder, responses: StoredResponses) -> AsyncIterator[None]:
    """Fill `responses` with those of the last run, and save them when this run stops."""
    document = responses_document(folder)
    saved = await document.load()
    for id_, stored in saved:
        responses.put(id_, stored)
    if saved:  # so that what this run deletes does not come back after a kill
        await document.save(())
    del saved  # otherwise deleted responses would stay in memory
    yield
    try:
        await document.update(lambda _: tuple(SavedResponse(id_, stored) for id_, stored in responses))
    except StateError as error:  # clients get 400 for those, and send the whole history
        _logger.error("stored responses could not be saved: %s", error)
