"""Parsing a request's body as a dialect reads it: in a thread where it is large, and apart from its linked pictures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from bridge.dialects.data_urls import Extracted, read_without_data_urls
from bridge.dialects.dialect import StatefulDialect
from bridge.dialects.fields import Fields, read_object
from bridge.dialects.files import FileReader
from handlers.api.fetching import LinkedRequest
from handlers.api.joining import BodyDigest
from handlers.request.appkeys import FETCHER, HEAVY_WORK, RANDOM, SHARED_RESPONSES
from handlers.request.budget import SMALL_BYTES, Hold
from handlers.request.model_call import ModelCall

#: A longer body is parsed in a thread: half a megabyte of tools' schemas take 50 ms.
THREAD_BYTES: Final = 128 * 1024

Parsed = TypeVar("Parsed")


async def parse_request(
    body: bytes,
    read: Callable[[Fields, FileReader, str], Parsed],
    links: Callable[[Fields, str], Iterable[str]],
    call: ModelCall,
    *,
    stateful: StatefulDialect | None = None,
    digest: BodyDigest | None = None,
) -> tuple[Parsed, Callable[[Hold], Awaitable[Parsed]] | None]:
    """Parse a body, with placeholders for the pictures that it only links to. Raises ApiError.

    The second value fetches those pictures and parses the request again; None where there are none. A `stateful`
    dialect says which stored responses are read with the request. `digest` is computed of the body.
    """
    app, config, owner = call.app, call.config, call.key.id
    images, heavy = config.images, app[HEAVY_WORK]
    placeholder = app[RANDOM](16).hex() if len(body) > SMALL_BYTES else ""

    def parse(body: bytes) -> tuple[Fields, Extracted]:
        if digest is not None:
            digest.compute(body)
        if not placeholder:
            return read_object(body), {}
        return read_without_data_urls(body, placeholder, longest_prompt=config.upstream.max_prompt_chars)

    def validate(fields: Fields, extracted: Extracted) -> tuple[Parsed, LinkedRequest[Parsed]]:
        urls: tuple[str, ...] = ()
        if images.fetch_urls:
            urls = tuple(dict.fromkeys(islice(links(fields, owner), images.max_per_request)))
        linked = LinkedRequest(lambda files: read(fields, files, owner), urls, extracted, config)
        return linked.read_unfetched(), linked

    stored = app[SHARED_RESPONSES] if stateful is not None else None
    if len(body) > THREAD_BYTES and stored is None:  # in one go: a parsed body that waits takes 20 times as much memory
        parsed, linked = await heavy.run(owner, lambda body: validate(*parse(body)), body)
    else:
        fields, extracted = await heavy.run(owner, parse, body) if len(body) > THREAD_BYTES else parse(body)
        size = len(body)
        if stateful is not None:
            if stored is not None:
                await stored.fetch(owner, stateful.stored_ids(fields))
            size += stateful.stored_bytes(fields, owner)
        parsed, linked = (
            await heavy.run(owner, validate, fields, extracted) if size > THREAD_BYTES else validate(fields, extracted)
        )
    return parsed, partial(linked.fetch, app[FETCHER], heavy, owner) if linked.urls else None
