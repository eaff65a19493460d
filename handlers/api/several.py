"""Asking a model for several answers to one request, streamed and whole."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from aiohttp import web

from bridge.access.keys import ApiKey
from bridge.answering.answer import Answer
from bridge.answering.several import begun, side_by_side, usage_of, worst_of
from bridge.config.schema import Config
from bridge.dialects.dialect import DialectRequest, SeveralRequest, Stamp
from bridge.errors import ApiError, invalid_request
from handlers.api.beginning import begin, log_answer, note_tools
from handlers.request.answers import write_json
from handlers.request.appkeys import DRAIN, FACTS, TASKS, TIMERS
from handlers.request.streaming import EventStream


async def stream_several(
    request: web.Request, key: ApiKey, asked: DialectRequest, stamp: Stamp, config: Config
) -> web.StreamResponse:
    """Answer delta by delta, each answer's as they come. Raises ApiError until the first."""
    began, facts = time.monotonic(), request[FACTS]
    encoder = _several(asked).several_encoder(stamp)
    caller = EventStream(
        request,
        encoder=encoder,
        settings=config.stream,
        write_timeout=config.server.write_timeout,
        tasks=request.app[TASKS],
        timers=request.app[TIMERS],
    )
    writing = asyncio.Lock()

    async def tell(index: int, answer: Answer) -> None:
        async for batch in answer:
            if facts.ttft is None and batch:
                facts.ttft = time.monotonic() - began
            data = encoder.encode(index, batch)
            if answer.complete:
                data += encoder.finish_one(index, answer.finish_reason)
            if data:
                async with writing:
                    await caller.write(data)
        log_answer(config, answer)

    with caller:
        try:
            with request.app[DRAIN].bounded(config.upstream.total_timeout) as facts.life:
                async with begun(partial(begin, request, key, asked.chat, None), asked.chat.choices) as answers:
                    await side_by_side([tell(index, answer) for index, answer in enumerate(answers)])
                    await caller.end(encoder.finish(partial(usage_of, answers)))
        except ApiError as error:
            if not caller.committed:
                raise
            facts.fail(error)
            await caller.write_error(encoder.error(error))
    return caller.response


async def several_whole(
    request: web.Request, key: ApiKey, asked: DialectRequest, stamp: Stamp, config: Config
) -> web.StreamResponse:
    """Answer with one document that has them all."""
    began, facts = time.monotonic(), request[FACTS]
    collector = _several(asked).several_collector(stamp)

    async def collect(index: int, answer: Answer) -> None:
        async for batch in answer:
            answer.keep(collector.add(index, batch))
            if facts.ttft is None and batch:
                facts.ttft = time.monotonic() - began
        log_answer(config, answer)
        collector.finish_one(index, answer.finish_reason)

    with request.app[DRAIN].bounded(config.upstream.total_timeout) as facts.life:
        async with begun(partial(begin, request, key, asked.chat, None), asked.chat.choices) as answers:
            await side_by_side([collect(index, answer) for index, answer in enumerate(answers)])
            note_tools(facts, worst_of(answers))
            body = collector.finish(usage_of(answers))
    return await write_json(request, body, config)


def _several(asked: DialectRequest) -> SeveralRequest:
    """The same request as one whose dialect can tell several answers."""
    if not isinstance(asked, SeveralRequest):
        raise invalid_request("unsupported_parameter", "This API gives one answer to a request.", "n")
    return asked
