"""Several answers of one model to a request, streamed and whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web

from bridge.answering.answer import Answer
from bridge.answering.chat import ChatRequest
from bridge.answering.prompting import request_tokens
from bridge.answering.several import start_all, usage_of
from bridge.dialects.dialect import DialectRequest, SeveralPrompts, SeveralRequest, Stamp
from bridge.errors import ApiError, invalid_request
from handlers.api.beginning import FetchChat, begin, log_answer, set_tools_header
from handlers.api.joining import stream_to, write_whole
from handlers.request.appkeys import DRAIN
from handlers.request.model_call import ModelCall
from upstream.loop.parallel import run_all


async def stream_several(
    call: ModelCall, parsed: DialectRequest, stamp: Stamp, fetch: FetchChat | None
) -> web.StreamResponse:
    """Answer with the deltas of all answers as they come. Raises ApiError before the first."""
    began, record, config = time.monotonic(), call.record, call.config
    encoder = _require_several(parsed).several_encoder(stamp)
    caller = stream_to(call, encoder)
    writing = asyncio.Lock()

    async def send(index: int, answer: Answer) -> None:
        async for batch in answer:
            if record.ttft is None and batch:
                record.ttft = time.monotonic() - began
            data = encoder.encode(index, batch)
            if answer.complete:
                data += encoder.finish_one(index, answer.finish_reason)
            if data:
                async with writing:
                    await caller.write(data)
        log_answer(config, answer)

    with caller:
        try:
            with call.app[DRAIN].bounded(config.upstream.total_timeout) as record.lifetime:
                async with start_all(_beginnings(call, parsed, stamp, fetch)) as answers:
                    await run_all([send(index, answer) for index, answer in enumerate(answers)])
                    await caller.end(encoder.finish(partial(usage_of, answers)))
        except ApiError as error:
            if not caller.committed:
                set_tools_header(record)
                raise
            record.fail(error)
            await caller.write_error(encoder.error(error))
    return caller.response


async def answer_several(
    call: ModelCall, parsed: DialectRequest, stamp: Stamp, fetch: FetchChat | None
) -> web.StreamResponse:
    """Answer with one document that has all answers."""
    began, record, config = time.monotonic(), call.record, call.config
    collector = _require_several(parsed).several_collector(stamp)

    async def collect(index: int, answer: Answer) -> None:
        async for batch in answer:
            answer.keep(collector.add(index, batch))
            if record.ttft is None and batch:
                record.ttft = time.monotonic() - began
        log_answer(config, answer)
        collector.finish_one(index, answer.finish_reason)

    try:
        with call.app[DRAIN].bounded(config.upstream.total_timeout) as record.lifetime:
            async with start_all(_beginnings(call, parsed, stamp, fetch)) as answers:
                await run_all([collect(index, answer) for index, answer in enumerate(answers)])
                body = collector.finish(usage_of(answers))
    finally:
        set_tools_header(record)
    return await write_whole(call, body)


def _require_several(parsed: DialectRequest) -> SeveralRequest:
    """Return the request. Raises ApiError (400) if its dialect has no form for several answers."""
    if not isinstance(parsed, SeveralRequest):
        raise invalid_request("unsupported_parameter", "This API gives one answer to a request.", "n")
    return parsed


def _beginnings(
    call: ModelCall, parsed: DialectRequest, stamp: Stamp, fetch: FetchChat | None
) -> list[Callable[[], Awaitable[Answer]]]:
    """A function for each answer that begins it; each has its own prompt if the request has several."""
    chats = parsed.chats if isinstance(parsed, SeveralPrompts) else [parsed.chat] * parsed.chat.choices

    async def ask(chat: ChatRequest) -> Answer:
        tokens = stamp.prompt_tokens if chat is parsed.chat else await request_tokens(chat)
        return await begin(call, chat, stamp._replace(prompt_tokens=tokens), fetch)

    return [partial(ask, chat) for chat in chats]
