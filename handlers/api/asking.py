"""Asking a model: the one driver of all dialects, streamed and whole."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from itertools import islice
from typing import Final

from aiohttp import web

from bridge.access.keys import ApiKey
from bridge.answering.answer import Answer
from bridge.answering.chat import ChatRequest
from bridge.answering.events import AnswerEvent
from bridge.answering.messages import Message, bytes_of
from bridge.config.schema import Config
from bridge.dialects.data_urls import Taken, read_without_data_urls
from bridge.dialects.dialect import Dialect, DialectRequest, Stamp
from bridge.dialects.fields import read_object
from bridge.dialects.files import FileReader, FileRules
from bridge.errors import ApiError
from bridge.log import event
from handlers.api.fetching import fetch_pictures
from handlers.request.admission import admitted, large_body
from handlers.request.answers import write_json
from handlers.request.appkeys import ALARMS, DRAIN, FACTS, FETCHER, KEY, RANDOM, RELAY, SETTINGS, TASKS, Handler
from handlers.request.body import read_body
from handlers.request.budget import SMALL_BYTES, Hold
from handlers.request.facts import Facts
from handlers.request.streaming import EventStream

#: What `log.debug` shows of a chat.
MAX_LOGGED_CHARS: Final = 4096
MAX_LOGGED_MESSAGES: Final = 10

_logger: Final = logging.getLogger(__name__)


def asking(dialect: Dialect) -> Handler:
    """Make the handler that answers a dialect's requests."""

    async def ask(request: web.Request) -> web.StreamResponse:
        key, facts, config = request[KEY], request[FACTS], request.app[SETTINGS].current()
        with admitted(request, key, config, facts):
            async with large_body(request, key, config) as hold:
                asked = await _read(dialect, request, config, hold)
                chat = asked.chat
                if hold.size:
                    hold.shrink(bytes_of(chat.messages))
                facts.model = chat.model[:200]
                if config.log.debug:
                    facts.prompt = _shortened(chat.messages)
                    event(_logger, logging.INFO, "asked", messages=facts.prompt)
                stamp = Stamp(request.app[RANDOM](16).hex(), int(time.time()))
                respond = _stream if chat.stream else _whole
                return await respond(request, key, asked, stamp, config, facts)

    return ask


async def _read(dialect: Dialect, request: web.Request, config: Config, hold: Hold) -> DialectRequest:
    """Read the body, and fetch the pictures that it only names; `hold` makes room for these. Raises ApiError."""
    server, images = config.server, config.images
    body = await read_body(request, limit=server.max_body_bytes, timeout=server.body_timeout)
    is_large = len(body) > SMALL_BYTES
    taken: Taken = {}
    if is_large:  # parsing may hold the loop for some 20 ms
        await asyncio.sleep(0)
        fields, taken = read_without_data_urls(body, request.app[RANDOM](16).hex())
    else:
        fields = read_object(body)
    del body  # what is still needed of it is held by `taken`
    fetched: dict[str, bytes | str] = {}
    links = dict.fromkeys(islice(dialect.links(fields), images.max_per_request)) if images.fetch_urls else {}
    if links:
        await hold.extend(len(links) * images.max_bytes)
        fetched = await fetch_pictures(request.app[FETCHER], links, config)
    reader = FileReader(FileRules(images.max_bytes, images.max_per_request), fetched, taken)
    if is_large:  # decoding and hashing takes as long again
        return await asyncio.to_thread(dialect.read, fields, reader)
    return dialect.read(fields, reader)


async def _stream(
    request: web.Request, key: ApiKey, asked: DialectRequest, stamp: Stamp, config: Config, facts: Facts
) -> web.StreamResponse:
    """Answer delta by delta."""
    began = time.monotonic()
    encoder = asked.encoder(stamp)
    caller = EventStream(
        request,
        encoder=encoder,
        settings=config.stream,
        write_timeout=config.server.write_timeout,
        tasks=request.app[TASKS],
        alarms=request.app[ALARMS],
    )

    def send(batch: Sequence[AnswerEvent]) -> bool:
        data = encoder.encode(batch)
        return not data or caller.send(data)

    with caller:
        try:
            with request.app[DRAIN].bounded(config.upstream.total_timeout) as facts.life:
                async with await _ask(request, key, asked.chat, facts) as answer:
                    async for batch in answer:
                        if facts.ttft is None and batch:
                            facts.ttft = time.monotonic() - began
                        data = encoder.encode(batch)
                        if answer.complete:
                            await caller.end(data + encoder.finish(answer.finish_reason, answer.usage))
                            break
                        if data:
                            await caller.write(data)
                        if caller.started:
                            await answer.flow(send)
                        await caller.drain()
                    _log_answer(config, answer)
        except ApiError as error:
            if not caller.committed:
                raise
            facts.fail(error)
            await caller.write_error(encoder.error(error))
    return caller.response


async def _whole(
    request: web.Request, key: ApiKey, asked: DialectRequest, stamp: Stamp, config: Config, facts: Facts
) -> web.StreamResponse:
    """Answer with one document."""
    began = time.monotonic()
    collector = asked.collector(stamp)
    with request.app[DRAIN].bounded(config.upstream.total_timeout) as facts.life:
        async with await _ask(request, key, asked.chat, facts) as answer:
            async for batch in answer:
                collector.add(batch)
                answer.keep(collector.size)
                if facts.ttft is None and batch:
                    facts.ttft = time.monotonic() - began
            _log_answer(config, answer)
            body = collector.finish(answer.finish_reason, answer.usage())
    return await write_json(request, body, config)


async def _ask(request: web.Request, key: ApiKey, chat: ChatRequest, facts: Facts) -> Answer:
    """Wait until an answer begins; say in the headers what is known as soon as it is.

    In a stream that was committed to before, the headers are gone.
    """
    relay = request.app[RELAY]
    asked = await relay.prepare(chat, key)
    facts.served = asked.model.name
    if asked.ignored:
        facts.headers["x-bridge-ignored"] = ", ".join(asked.ignored)
    answer = await relay.answer(asked, key)
    facts.headers["x-bridge-conversation"] = answer.conversation
    facts.headers["x-bridge-evaluation"] = answer.evaluation
    facts.account = answer.account
    facts.answers.append(answer)
    return answer


def _log_answer(config: Config, answer: Answer) -> None:
    if config.log.debug:
        event(_logger, logging.INFO, "answered", text=answer.text[:MAX_LOGGED_CHARS])


def _shortened(messages: Sequence[Message]) -> str:
    """The last messages as the log shows them: it cuts what is longer, but only after it has looked through it all."""
    shown = (f"{message.role}: {message.text[:MAX_LOGGED_CHARS]}" for message in messages[-MAX_LOGGED_MESSAGES:])
    return "\n".join(shown)[-MAX_LOGGED_CHARS:]
