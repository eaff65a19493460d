"""Answering requests that ask a model: the one driver of all dialects, streamed and whole."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from aiohttp import web

from bridge.answering.chat import ChatRequest
from bridge.answering.events import AnswerEvent
from bridge.answering.messages import Message, bytes_of
from bridge.answering.prompting import MOST_MESSAGES, check_count, request_tokens
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
from bridge.errors import ApiError
from bridge.log import event
from handlers.api.beginning import MAX_LOGGED_CHARS, FetchChat, begin, log_answer, set_tools_header
from handlers.api.comparing import compare
from handlers.api.joining import BodyDigest, answer_joined, join_or_begin, may_join, stream_to, write_whole
from handlers.api.parsing import parse_request
from handlers.api.several import answer_several, stream_several
from handlers.request.admission import admit, claim, hold_memory
from handlers.request.appkeys import (
    DRAIN,
    HEAVY_WORK,
    RANDOM,
    RELAY,
    SHARED_LIMITS,
    SHARED_RESPONSES,
    Handler,
)
from handlers.request.body import read_body
from handlers.request.budget import Hold
from handlers.request.joinable_answer import Reader
from handlers.request.model_call import ModelCall
from handlers.request.record import RequestRecord

#: With `log.debug`, how many of a chat's messages are logged, the last ones.
MAX_LOGGED_MESSAGES: Final = 10

#: Fetches the pictures that a request links to, and parses it with them.
Fetch: TypeAlias = Callable[[Hold], Awaitable[DialectRequest]]

_logger: Final = logging.getLogger(__name__)


def dialect_handler(dialect: Dialect, *, joins: bool = True) -> Handler:
    """Make the handler that answers a dialect's requests; `joins` is whether they may join each other's answers."""
    stateful = dialect if isinstance(dialect, StatefulDialect) else None
    stream = partial(_stream, repeats=isinstance(dialect, RepeatingDialect))

    async def answer(call: ModelCall, parsed: DialectRequest, fetch: Fetch | None, hold: Hold) -> web.StreamResponse:
        app, chat = call.app, parsed.chat
        in_thread = partial(app[HEAVY_WORK].run, call.key.id) if hold.size else asyncio.to_thread
        tokens = await request_tokens(chat, in_thread)
        stamp = Stamp(app[RANDOM](16).hex(), int(time.time()), tokens)
        models = await app[RELAY].compared(chat) if "+" in chat.model else ()
        fetch_chat = None if fetch is None else _FetchedOnce(fetch, hold, call.record, stores=stateful is not None)
        if models:
            return await compare(call, parsed, models, stamp, fetch_chat)
        if chat.choices > 1:
            return await (stream_several if chat.stream else answer_several)(call, parsed, stamp, fetch_chat)
        return await (stream if chat.stream else _answer_whole)(call, parsed, stamp, fetch_chat)

    async def handle(request: web.Request) -> web.StreamResponse:
        call = ModelCall.of(request)
        record, config = call.record, call.config
        server = config.server
        digest = BodyDigest() if joins and may_join(call) else None
        slot = admit(call)
        with slot:
            if (shared := call.app[SHARED_LIMITS]) is not None:
                await claim(shared, call)
            async with hold_memory(call) as hold:
                parsed, fetch = await parse_request(
                    await read_body(request, limit=server.max_body_bytes, timeout=server.body_timeout),
                    dialect.read,
                    dialect.links,
                    call,
                    stateful=stateful,
                    digest=digest,
                )
                chat = parsed.chat
                if hold.size:
                    _shrink(hold, record, parsed, stores=stateful is not None)
                if len(chat.messages) > MOST_MESSAGES:
                    check_count(chat.messages, config.upstream.max_prompt_chars)
                record.model = chat.model[:200]
                record.note(chat)
                if config.log.debug:
                    record.prompt = _excerpt(chat.messages)
                    event(_logger, logging.INFO, "asked", messages=record.prompt)
                if digest is None:
                    return await answer(call, parsed, fetch, hold)
                with join_or_begin(call, dialect.name, digest, slot) as joined:
                    if isinstance(joined, Reader):
                        return await answer_joined(call, parsed, joined)
                    return await answer(call, parsed, fetch, hold)

    return handle


class _FetchedOnce:
    """Fetches the pictures that a request links to, when the first of its answers needs them; all get the same."""

    def __init__(self, fetch: Fetch, hold: Hold, record: RequestRecord, *, stores: bool) -> None:
        self._fetch = fetch
        self._hold = hold
        self._record = record
        self._stores = stores
        self._lock = asyncio.Lock()
        self._chat: ChatRequest | None = None
        self._failure: ApiError | None = None

    async def __call__(self) -> ChatRequest:
        """Return the request's chat with its pictures. Raises ApiError."""
        async with self._lock:
            if self._failure is not None:
                raise self._failure.again()
            if self._chat is None:
                try:
                    parsed = await self._fetch(self._hold)
                except ApiError as error:
                    self._failure = error.again()
                    raise
                if self._hold.size:
                    _shrink(self._hold, self._record, parsed, stores=self._stores)
                self._chat = parsed.chat
            return self._chat


def _shrink(hold: Hold, record: RequestRecord, parsed: DialectRequest, *, stores: bool) -> None:
    """Reduce a large body's hold to what stays in memory: texts, files, what its API stores, and what is recorded."""
    kept = parsed.input_bytes if stores and isinstance(parsed, StoringRequest) else 0
    hold.shrink(bytes_of(parsed.chat.messages) + kept + record.recorded_bytes)


async def _stream(
    call: ModelCall, parsed: DialectRequest, stamp: Stamp, fetch: FetchChat | None, *, repeats: bool
) -> web.StreamResponse:
    """Answer delta by delta; `repeats` is whether the dialect repeats the text at the end, and so buffers it."""
    began, app, record, config = time.monotonic(), call.app, call.record, call.config
    encoder = parsed.encoder(stamp)
    caller = stream_to(call, encoder)
    buffering = encoder if repeats and isinstance(encoder, BuffersText) else None

    def send(batch: Sequence[AnswerEvent]) -> bool:
        data = encoder.encode(batch)
        keeps_up = not data or caller.send(data)
        if buffering is not None:
            answer.keep(buffering.size)
        return keeps_up

    with caller:
        try:
            with app[DRAIN].bounded(config.upstream.total_timeout) as record.lifetime:
                async with await begin(call, parsed.chat, stamp, fetch) as answer:
                    async for batch in answer:
                        data = encoder.encode(batch)
                        if record.ttft is None and data:
                            record.ttft = time.monotonic() - began
                        if answer.complete:
                            data += encoder.finish(answer.finish_reason, answer.usage)
                            await _wait_until_stored(app, parsed)
                            await caller.end(data)
                            break
                        if buffering is not None:
                            answer.keep(buffering.size)
                        if data:
                            await caller.write(data)
                        if record.ttft is not None:  # the first delta comes by iteration, so that its time is noted
                            await answer.flow(send)
                        await caller.drain()
                    log_answer(config, answer)
        except ApiError as error:
            if not (caller.committed or (isinstance(encoder, ReportsErrorsInStream) and encoder.reports(error))):
                set_tools_header(record)
                raise
            record.fail(error)
            await caller.write_error(encoder.error(error))
    return caller.response


async def _answer_whole(
    call: ModelCall, parsed: DialectRequest, stamp: Stamp, fetch: FetchChat | None
) -> web.StreamResponse:
    """Answer with one document."""
    began, app, record, config = time.monotonic(), call.app, call.record, call.config
    collector = parsed.collector(stamp)
    try:
        with app[DRAIN].bounded(config.upstream.total_timeout) as record.lifetime:
            async with await begin(call, parsed.chat, stamp, fetch) as answer:
                async for batch in answer:
                    collector.add(batch)
                    answer.keep(collector.size)
                    if record.ttft is None and batch:
                        record.ttft = time.monotonic() - began
                log_answer(config, answer)
                body = collector.finish(answer.finish_reason, answer.usage())
    finally:
        set_tools_header(record)  # also if required calls were not made, which raises
    await _wait_until_stored(app, parsed)
    return await write_whole(call, body)


async def _wait_until_stored(app: web.Application, parsed: DialectRequest) -> None:
    """Wait until all processes know what a dialect has stored of its answer: the caller may continue with any."""
    if (shared := app[SHARED_RESPONSES]) is not None and shared.has_unconfirmed and isinstance(parsed, StoringRequest):
        await shared.wait_until_confirmed()


def _excerpt(messages: Sequence[Message]) -> str:
    """The end of the last messages, short enough for the log, which would scan the whole text before it cuts it."""
    shown = (f"{message.role}: {message.text[:MAX_LOGGED_CHARS]}" for message in messages[-MAX_LOGGED_MESSAGES:])
    return "\n".join(shown)[-MAX_LOGGED_CHARS:]
