"""POST /chat/completions: read, ask the relay, answer."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

from aiohttp import web

from bridge.answer import Answer
from bridge.chat import ChatRequest
from bridge.config import Config
from bridge.dialects import sse
from bridge.dialects.chat_answers import ChunkEncoder, Completion, Header
from bridge.dialects.chat_completions import read_request
from bridge.dialects.fields import read_object
from bridge.dialects.pictures import PictureReader, PictureRules, linked_pictures
from bridge.errors import ApiError
from bridge.keys import ApiKey
from bridge.log import event
from handlers.admission import admitted, large_body
from handlers.answers import write_json
from handlers.appkeys import DRAIN, FACTS, FETCHER, RELAY, SETTINGS, TASKS, Facts
from handlers.body import read_body
from handlers.fetching import fetch_pictures
from handlers.streaming import EventStream

_logger: Final = logging.getLogger(__name__)


async def chat_completions(request: web.Request, key: ApiKey) -> web.StreamResponse:
    """Answer one chat, streamed or whole."""
    config = request.app[SETTINGS].current()
    facts = request[FACTS]
    with admitted(request, key, config, facts):
        async with large_body(request, config) as hold:
            chat = await _read(request, config)
            if not any(message.pictures for message in chat.messages):
                hold.release()
            facts.model = chat.model[:200]
            if config.log.debug:
                event(_logger, logging.INFO, "asked", messages=chat.messages)
            header = Header(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), chat.model)
            if chat.stream:
                return await _stream(request, key, chat, header, config, facts)
            return await _whole(request, key, chat, header, config, facts)


async def _read(request: web.Request, config: Config) -> ChatRequest:
    """Read the body, and fetch the pictures that it only names. Raises ApiError."""
    server, images = config.server, config.images
    fields = read_object(await read_body(request, limit=server.max_body_bytes, timeout=server.body_timeout))
    fetched: dict[str, bytes | str] = {}
    if images.fetch_urls:
        links = dict.fromkeys(islice(linked_pictures(fields), images.max_per_request))
        fetched = await fetch_pictures(request.app[FETCHER], links, config)
    return read_request(fields, PictureReader(PictureRules(images.max_bytes, images.max_per_request), fetched))


async def _stream(
    request: web.Request, key: ApiKey, chat: ChatRequest, header: Header, config: Config, facts: Facts
) -> web.StreamResponse:
    began = time.monotonic()
    encoder = ChunkEncoder(header, include_usage=chat.include_usage)
    caller = EventStream(
        request,
        start=encoder.start(),
        comment=sse.KEEPALIVE,
        idle_chunk=encoder.idle(),
        settings=config.stream,
        write_timeout=config.server.write_timeout,
        tasks=request.app[TASKS],
    )
    async with caller:
        try:
            async with _answering(request, key, chat, config, facts) as answer:
                async for batch in answer:
                    data = encoder.encode(batch)
                    if answer.finish is not None:
                        await caller.end(data + encoder.finish(answer.finish.reason, answer.usage))
                    elif data:
                        await caller.write(data)
                    if facts.ttft is None:
                        facts.ttft = time.monotonic() - began
                _log_answer(config, answer)
        except ApiError as error:
            if not caller.committed:
                raise
            facts.reason, facts.code = error.reason, error.code
            await caller.write_error(encoder.error(error))
    return caller.response


async def _whole(
    request: web.Request, key: ApiKey, chat: ChatRequest, header: Header, config: Config, facts: Facts
) -> web.StreamResponse:
    began = time.monotonic()
    completion = Completion(header)
    async with _answering(request, key, chat, config, facts) as answer:
        async for batch in answer:
            completion.add(batch)
            if facts.ttft is None:
                facts.ttft = time.monotonic() - began
        _log_answer(config, answer)
        body = completion.finish(answer.finish.reason if answer.finish else None, answer.usage())
    return await write_json(request, body, config)


@asynccontextmanager
async def _answering(
    request: web.Request, key: ApiKey, chat: ChatRequest, config: Config, facts: Facts
) -> AsyncIterator[Answer]:
    """Relay within the time that an answer may take; say in the headers what is known as soon as it is.

    In a stream that was committed to before, the headers are gone.
    """
    relay = request.app[RELAY]
    async with request.app[DRAIN].bounded(config.upstream.total_timeout):
        asked = await relay.prepare(chat, key)
        if asked.ignored:
            facts.headers["x-bridge-ignored"] = ", ".join(asked.ignored)
        async with relay.answer(asked, key) as answer:
            facts.headers["x-bridge-conversation"] = answer.conversation
            facts.headers["x-bridge-evaluation"] = answer.evaluation
            yield answer


def _log_answer(config: Config, answer: Answer) -> None:
    if config.log.debug:
        event(_logger, logging.INFO, "answered", text=answer.text)
