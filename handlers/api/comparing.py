"""The answers of several models to one request, side by side: `model: "a+b"`. Where one fails, the others go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from aiohttp import web

from bridge.answering.answer import Answer
from bridge.answering.several import usage_of
from bridge.dialects.dialect import ComparingRequest, DialectRequest, Stamp
from bridge.errors import ApiError, invalid_request
from bridge.headers import MODEL
from handlers.api.beginning import FetchChat, begin, log_answer, set_tools_header
from handlers.api.joining import stream_to, write_whole
from handlers.request.appkeys import DRAIN
from handlers.request.drain import AnswerLifetime
from handlers.request.model_call import ModelCall
from upstream.loop.parallel import run_all
from upstream.protocol.printable import printable

#: How many models may be asked side by side.
MAX_MODELS: Final = 4


async def compare(
    call: ModelCall, parsed: DialectRequest, models: Sequence[str], stamp: Stamp, fetch: FetchChat | None
) -> web.StreamResponse:
    """Answer with one choice from each of these models. Raises ApiError, the first model's if all fail."""
    if not isinstance(parsed, ComparingRequest):
        raise invalid_request("invalid_value", "Only /v1/chat/completions can ask several models at once.", "model")
    if len(models) > MAX_MODELS:
        raise invalid_request("invalid_value", f"At most {MAX_MODELS} models can be asked at once.", "model")
    if parsed.chat.choices > 1:
        raise invalid_request(
            "invalid_value", "Where several models are asked, each gives one answer: leave out 'n'.", "n"
        )
    comparison = _Comparison(call, parsed, models, stamp, fetch)
    return await (comparison.stream if parsed.chat.stream else comparison.whole)(parsed)


class _Comparison:
    """The answers of several models to one request."""

    def __init__(
        self, call: ModelCall, parsed: DialectRequest, models: Sequence[str], stamp: Stamp, fetch: FetchChat | None
    ) -> None:
        self._began = time.monotonic()
        self._call = call
        self._chat = parsed.chat
        self._models = models
        self._stamp = stamp
        self._fetch = fetch
        self._record = call.record
        self._answers: list[Answer] = []
        self._failures: dict[int, ApiError] = {}  # by the index of the model

    async def stream(self, parsed: ComparingRequest) -> web.StreamResponse:
        """Answer with the deltas of all models as they come."""
        record = self._record
        encoder = parsed.comparing_encoder(self._stamp, self._models)
        caller = stream_to(self._call, encoder)
        writing = asyncio.Lock()
        held: list[bytes] = []  # the failures of models before another has begun: if all fail, there is no stream

        async def write(data: bytes) -> None:
            async with writing:
                if data:
                    held.append(data)
                if held and record.ttft is not None:
                    data = b"".join(held)
                    held.clear()
                    await caller.write(data)

        async def send(index: int, answer: Answer) -> None:
            async for batch in answer:
                data = encoder.encode(index, batch)
                if record.ttft is None and data:
                    record.ttft = time.monotonic() - self._began
                if answer.complete:
                    data += encoder.finish_one(index, answer.finish_reason, answer.usage)
                await write(data)

        async def fail(index: int, error: ApiError) -> None:
            await write(encoder.fail_one(index, error))

        with caller:
            try:
                with self._lifetime() as record.lifetime:
                    await self._ask_all(send, fail)
                    record.ttft = record.ttft or time.monotonic() - self._began  # all were empty
                    await write(b"")
                    await caller.end(encoder.finish(partial(usage_of, self._answers)))
            except ApiError as error:
                if not caller.committed:
                    set_tools_header(record)
                    raise
                record.fail(error)
                await caller.write_error(encoder.error(error))
        return caller.response

    async def whole(self, parsed: ComparingRequest) -> web.StreamResponse:
        """Answer with one document that has all answers."""
        collector = parsed.comparing_collector(self._stamp, self._models)

        async def collect(index: int, answer: Answer) -> None:
            async for batch in answer:
                answer.keep(collector.add(index, batch))
                if self._record.ttft is None and batch:
                    self._record.ttft = time.monotonic() - self._began
            collector.finish_one(index, answer.finish_reason, answer.usage())

        async def fail(index: int, error: ApiError) -> None:
            collector.fail_one(index, error)

        try:
            with self._lifetime() as self._record.lifetime:
                await self._ask_all(collect, fail)
                body = collector.finish(usage_of(self._answers))
        finally:
            set_tools_header(self._record)
        return await write_whole(self._call, body)

    def _lifetime(self) -> AnswerLifetime:
        return self._call.app[DRAIN].bounded(self._call.config.upstream.total_timeout)

    async def _ask_all(
        self, take: Callable[[int, Answer], Awaitable[None]], fail: Callable[[int, ApiError], Awaitable[None]]
    ) -> None:
        """Ask all models at once. `take` is called with each answer that begins, `fail` with each failure.

        Raises ApiError if all fail.
        """

        async def ask(index: int, model: str) -> None:
            try:
                chat = self._chat._replace(model=model)
                async with await begin(self._call, chat, self._stamp, self._fetch) as answer:
                    self._answers.append(answer)
                    self._record.served = self._chat.model
                    self._record.headers[MODEL] = printable(self._chat.model)
                    await take(index, answer)
                    log_answer(self._call.config, answer)
            except ApiError as error:
                self._failures[index] = error.again()
                await fail(index, error)

        await run_all([ask(index, model) for index, model in enumerate(self._models)])
        if len(self._failures) == len(self._models):
            raise self._failures[0].again()
