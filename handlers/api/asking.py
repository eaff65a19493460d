"""Asking a model: the one driver of all dialects, streamed and whole."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import Final, TypeAlias, TypeVar

from aiohttp import web

from bridge.access.keys import ApiKey
from bridge.answering.chat import ChatRequest
from bridge.answering.events import AnswerEvent
from bridge.answering.messages import Message, bytes_of
from bridge.answering.prompting import MOST_MESSAGES, check_count, request_tokens
from bridge.config.schema import Config
from bridge.dialects.data_urls import Extracted, read_without_data_urls
from bridge.dialects.dialect import (
    BuffersText,
    Dialect,
    DialectRequest,
    RepeatingDialect,
    ReportsErrorsInStream,
    Stamp,
    StatefulDialect,
    StoringRequest,
)
from bridge.dialects.fields import Fields, read_object
from bridge.dialects.files import FileReader
from bridge.errors import ApiError
from bridge.log import event
from handlers.api.beginning import MAX_LOGGED_CHARS, FetchChat, begin, log_answer, note_tools
from handlers.api.comparing import compare
from handlers.api.fetching import Linked
from handlers.api.joining import Sent, answer_joined, joined, may_join, stream_to, write_whole
from handlers.api.several import several_whole, stream_several
from handlers.request.admission import admit, claim, hold_memory
from handlers.request.appkeys import (
    DRAIN,
    FETCHER,
    HEAVY,
    KEY,
    RANDOM,
    RECORD,
    RELAY,
    SETTINGS,
    SHARED_LIMITS,
    SHARED_RESPONSES,
    Handler,
)
from handlers.request.body import read_body
from handlers.request.budget import SMALL_BYTES, Hold
from handlers.request.joinable_answer import Reader

#: What `log.debug` shows of a chat's messages.
MAX_LOGGED_MESSAGES: Final = 10
#: A longer body is read in a thread: half a megabyte of tools' schemas take 50 ms.
THREAD_BYTES: Final = 128 * 1024

Read = TypeVar("Read")

#: Fetches the pictures that a request only names, and reads it whole.
Fetch: TypeAlias = Callable[[Hold], Awaitable[DialectRequest]]

_logger: Final = logging.getLogger(__name__)


def asking(dialect: Dialect, *, joins: bool = True) -> Handler:
    """Make the handler that answers a dialect's requests; `joins` says whether one may join another's answer."""
    remembered = dialect if isinstance(dialect, StatefulDialect) else None
    stream = partial(_stream, keeps=isinstance(dialect, RepeatingDialect))

    async def answer(
        request: web.Request, key: ApiKey, asked: DialectRequest, fetch: Fetch | None, hold: Hold, config: Config
    ) -> web.StreamResponse:
        app, chat = request.app, asked.chat
        in_thread = partial(app[HEAVY].run, key.id) if hold.size else asyncio.to_thread
        tokens = await request_tokens(chat, in_thread)
        stamp = Stamp(app[RANDOM](16).hex(), int(time.time()), tokens)
        models = await app[RELAY].compared(chat) if "+" in chat.model else ()
        if chat.choices > 1 or models:
            if fetch is not None:  # once for all of them
                asked = await fetch(hold)
            if models:
                return await compare(request, key, asked, models, stamp, config)
            return await (stream_several if chat.stream else several_whole)(request, key, asked, stamp, config)
        fetch_chat = None if fetch is None else partial(_fetch, fetch, hold, stores=remembered is not None)
        return await (stream if chat.stream else _whole)(request, key, asked, stamp, fetch_chat, config)

    async def ask(request: web.Request) -> web.StreamResponse:
        app, key, record = request.app, request[KEY], request[RECORD]
        config = app[SETTINGS].current()
        sent = Sent() if joins and may_join(request, config) else None
        slot = admit(request, key, config, record)
        with slot:
            if (shared := app[SHARED_LIMITS]) is not None:
                await claim(shared, request, key, config, record)
            async with hold_memory(request, key, config) as hold:
                asked, fetch = await read_with(dialect.read, dialect.links, request, config, remembered, sent)
                chat = asked.chat
                if hold.size:
                    _shrink(hold, asked, stores=remembered is not None)
                if len(chat.messages) > MOST_MESSAGES:
                    check_count(chat.messages, config.upstream.max_prompt_chars)
                record.model = chat.model[:200]
                record.note(chat)
                if config.log.debug:
                    record.prompt = _shortened(chat.messages)
                    event(_logger, logging.INFO, "asked", messages=record.prompt)
                with nullcontext() if sent is None else joined(request, dialect.name, sent, config, slot) as place:
                    if isinstance(place, Reader):
                        return await answer_joined(request, key, asked, place, config)
                    return await answer(request, key, asked, fetch, hold, config)

    return ask


async def _fetch(fetch: Fetch, hold: Hold, *, stores: bool) -> ChatRequest:
    """Fetch the pictures that a request names, and read it whole. Raises ApiError."""
    asked = await fetch(hold)
    if hold.size:
        _shrink(hold, asked, stores=stores)
    return asked.chat


def _shrink(hold: Hold, asked: DialectRequest, *, stores: bool) -> None:
    """Of a large body only the texts and files are still held once it is read, and what its API stores."""
    kept = asked.input_bytes if stores and isinstance(asked, StoringRequest) else 0
    hold.shrink(bytes_of(asked.chat.messages) + kept)


async def read_with(
    read: Callable[[Fields, FileReader, str], Read],
    links: Callable[[Fields, str], Iterable[str]],
    request: web.Request,
    config: Config,
    remembered: StatefulDialect | None = None,
    sent: Sent | None = None,
) -> tuple[Read, Callable[[Hold], Awaitable[Read]] | None]:
    """Read the body, with placeholders for the pictures that it only names. Raises ApiError.

    The second value fetches those and reads the request again; None where there are none. `remembered` says how many
    stored bytes are read with a request; `sent` is given the body.
    """
    server, images, owner, app = config.server, config.images, request[KEY].id, request.app
    heavy = app[HEAVY]
    body = await read_body(request, limit=server.max_body_bytes, timeout=server.body_timeout)
    mark = app[RANDOM](16).hex() if len(body) > SMALL_BYTES else ""

    def parse(body: bytes) -> tuple[Fields, Extracted]:
        if sent is not None:
            sent.read(body)
        if not mark:
            return read_object(body), {}
        return read_without_data_urls(body, mark, longest_prompt=config.upstream.max_prompt_chars)

    def judge(fields: Fields, extracted: Extracted) -> tuple[Read, Linked[Read]]:
        linked: tuple[str, ...] = ()
        if images.fetch_urls:
            linked = tuple(dict.fromkeys(islice(links(fields, owner), images.max_per_request)))
        reading = Linked(lambda files: read(fields, files, owner), linked, extracted, config)
        return reading.judged(), reading

    stored = app[SHARED_RESPONSES] if remembered is not None else None
    if len(body) > THREAD_BYTES and stored is None:  # in one go: a parsed body that waits takes 20 times as much memory
        judged, reading = await heavy.run(owner, lambda body: judge(*parse(body)), body)
    else:
        fields, extracted = await heavy.run(owner, parse, body) if len(body) > THREAD_BYTES else parse(body)
        size = len(body)
        if remembered is not None:
            if stored is not None:
                await stored.fetch(owner, remembered.stored_ids(fields))
            size += remembered.stored_bytes(fields, owner)
        judged, reading = (
            await heavy.run(owner, judge, fields, extracted) if size > THREAD_BYTES else judge(fields, extracted)
        )
    return judged, partial(reading.fetched, app[FETCHER], heavy, owner) if reading.links else None


async def _stream(
    request: web.Request,
    key: ApiKey,
    asked: DialectRequest,
    stamp: Stamp,
    fetch: FetchChat | None,
    config: Config,
    *,
    keeps: bool,
) -> web.StreamResponse:
    """Answer delta by delta; `keeps` says that the encoder keeps the text, which is accounted for then."""
    began, app, record = time.monotonic(), request.app, request[RECORD]
    encoder = asked.encoder(stamp)
    caller = stream_to(request, encoder, config)

    keeping = encoder if keeps and isinstance(encoder, BuffersText) else None

    def send(batch: Sequence[AnswerEvent]) -> bool:
        data = encoder.encode(batch)
        return not data or caller.send(data)

    def send_kept(batch: Sequence[AnswerEvent]) -> bool:
        going_on = send(batch)
        if keeping is not None:
            answer.keep(keeping.size)
        return going_on

    with caller:
        try:
            with app[DRAIN].bounded(config.upstream.total_timeout) as record.lifetime:
                async with await begin(request, key, asked.chat, stamp, fetch) as answer:
                    async for batch in answer:
                        data = encoder.encode(batch)
                        if record.ttft is None and data:
                            record.ttft = time.monotonic() - began
                        if answer.complete:
                            data += encoder.finish(answer.finish_reason, answer.usage)
                            await _stored(app, asked)
                            await caller.end(data)
                            break
                        if keeping is not None:
                            answer.keep(keeping.size)
                        if data:
                            await caller.write(data)
                        if record.ttft is not None:  # the first delta comes by iterating, so that its time is seen
                            await answer.flow(send if keeping is None else send_kept)
                        await caller.drain()
                    log_answer(config, answer)
        except ApiError as error:
            if not (caller.committed or (isinstance(encoder, ReportsErrorsInStream) and encoder.reports(error))):
                note_tools(record)
                raise
            record.fail(error)
            await caller.write_error(encoder.error(error))
    return caller.response


async def _whole(
    request: web.Request, key: ApiKey, asked: DialectRequest, stamp: Stamp, fetch: FetchChat | None, config: Config
) -> web.StreamResponse:
    """Answer with one document."""
    began, record = time.monotonic(), request[RECORD]
    collector = asked.collector(stamp)
    try:
        with request.app[DRAIN].bounded(config.upstream.total_timeout) as record.lifetime:
            async with await begin(request, key, asked.chat, stamp, fetch) as answer:
                async for batch in answer:
                    collector.add(batch)
                    answer.keep(collector.size)
                    if record.ttft is None and batch:
                        record.ttft = time.monotonic() - began
                log_answer(config, answer)
                body = collector.finish(answer.finish_reason, answer.usage())
    finally:
        note_tools(record)  # where calls were required and not made, too
    await _stored(request.app, asked)
    return await write_whole(request, body, config)


async def _stored(app: web.Application, asked: DialectRequest) -> None:
    """Wait until what an API has stored of its answer is known to all processes: its caller may go on with any."""
    if (shared := app[SHARED_RESPONSES]) is not None and shared.has_unconfirmed and isinstance(asked, StoringRequest):
        await shared.wait_until_confirmed()


def _shortened(messages: Sequence[Message]) -> str:
    """The last messages as the log shows them: it cuts what is longer, but only after it has looked through it all."""
    shown = (f"{message.role}: {message.text[:MAX_LOGGED_CHARS]}" for message in messages[-MAX_LOGGED_MESSAGES:])
    return "\n".join(shown)[-MAX_LOGGED_CHARS:]
