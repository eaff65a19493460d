"""POST /chat/completions: read, ask the relay, answer."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from bridge.answer import Answer
from bridge.chat import ChatRequest
from bridge.config import Config
from bridge.dialects import sse
from bridge.dialects.chat_answers import ChunkEncoder, Completion, Header
from bridge.dialects.chat_completions import read_request
from bridge.errors import ApiError, overloaded
from bridge.keys import ApiKey
from bridge.limits import LimitExceeded, ratelimit_headers
from bridge.log import event
from handlers.appkeys import DRAIN, FACTS, LIMITER, RELAY, SETTINGS, TASKS, Facts
from handlers.body import read_body
from handlers.streaming import EventStream
from handlers.writing import CallerWriter
from upstream.errors import Reason

_logger: Final = logging.getLogger(__name__)


async def chat_completions(request: web.Request, key: ApiKey) -> web.StreamResponse:
    """Answer one chat, streamed or whole."""
    config = request.app[SETTINGS].current()
    facts = request[FACTS]
    with _admitted(request, key, config, facts):
        chat = read_request(
            await read_body(request, limit=config.server.max_body_bytes, timeout=config.server.body_timeout)
        )
        facts.model = chat.model[:200]
        if chat.ignored:
            facts.headers["x-bridge-ignored"] = ", ".join(chat.ignored)
        if config.log.debug:
            event(_logger, logging.INFO, "asked", messages=chat.messages)
        header = Header(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), chat.model)
        if chat.stream:
            return await _stream(request, key, chat, header, config, facts)
        return await _whole(request, key, chat, header, config, facts)


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
            async with (
                request.app[DRAIN].bounded(config.upstream.total_timeout),
                request.app[RELAY].answer(chat, key) as answer,
            ):
                _tell(facts, answer)
                async for batch in answer:
                    data = encoder.encode(batch)
                    if answer.finish is not None:
                        data += encoder.finish(answer.finish.reason, answer.usage)
                    if data:
                        await caller.write(data)
                    if facts.ttft is None:
                        facts.ttft = time.monotonic() - began
                await caller.end()
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
    async with (
        request.app[DRAIN].bounded(config.upstream.total_timeout),
        request.app[RELAY].answer(chat, key) as answer,
    ):
        _tell(facts, answer)
        async for batch in answer:
            completion.add(batch)
            if facts.ttft is None:
                facts.ttft = time.monotonic() - began
        _log_answer(config, answer)
        body = completion.finish(answer.finish.reason if answer.finish else None, answer.usage)
    response = web.StreamResponse(
        headers={"Content-Type": "application/json; charset=utf-8", "x-bridge-reason": Reason.OK.value}
    )
    response.content_length = len(body)
    writer = CallerWriter(request, response, config.server.write_timeout)
    await writer.prepare()
    await writer.write_whole(body)
    return response


@contextmanager
def _admitted(request: web.Request, key: ApiKey, config: Config, facts: Facts) -> Iterator[None]:
    """Hold one of the key's slots for the length of the call. Raises ApiError: 429, or 503 when the daemon is full."""
    limits = config.limits
    try:
        with request.app[LIMITER].slot(
            key.id,
            rpm=key.rpm or limits.rpm,
            concurrency=key.concurrency or limits.concurrency,
            streams=limits.streams,
        ) as admission:
            facts.headers.update(ratelimit_headers(admission))
            yield
    except LimitExceeded as error:
        facts.headers.update(ratelimit_headers(error.admission))
        raise _refusal(error) from None


def _refusal(error: LimitExceeded) -> ApiError:
    if error.kind == "streams":
        return overloaded(
            f"The bridge is answering {error.limit} requests already (limits.streams).", error.retry_after
        )
    what = "requests in a minute" if error.kind == "rpm" else "requests at the same time"
    return ApiError(
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
        f"This API key may make {error.limit} {what}. Wait as long as Retry-After says.",
        reason=Reason.RATE_LIMITED,
        retry_after=error.retry_after,
    )


def _log_answer(config: Config, answer: Answer) -> None:
    if config.log.debug:
        event(_logger, logging.INFO, "answered", text=answer.text)


def _tell(facts: Facts, answer: Answer) -> None:
    """Say in the headers which evaluation answers; in a stream that was committed to before, they are gone."""
    facts.headers["x-bridge-conversation"] = answer.conversation
    facts.headers["x-bridge-evaluation"] = answer.evaluation
