"""POST /chat/completions: read, ask the relay, answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from typing import Final, TypeAlias

from aiohttp import web

from bridge.access.keys import ApiKey
from bridge.answering.answer import Answer
from bridge.answering.chat import ChatRequest, Message, files_of
from bridge.config.schema import Config
from bridge.dialects import sse
from bridge.dialects.data_urls import Taken, read_without_data_urls
from bridge.dialects.fields import read_object
from bridge.dialects.files import linked_pictures
from bridge.dialects.openai.chat_answer import ChunkEncoder, Completion, Header
from bridge.dialects.openai.chat_request import read_request
from bridge.errors import ApiError
from bridge.log import event
from handlers.api.fetching import Linked
from handlers.request.admission import admitted, large_body
from handlers.request.answers import write_json
from handlers.request.appkeys import ALARMS, DRAIN, FACTS, FETCHER, KEY, LIMITER, RANDOM, RELAY, SETTINGS, TASKS
from handlers.request.body import read_body
from handlers.request.budget import SMALL_BYTES, Hold
from handlers.request.facts import Facts
from handlers.request.streaming import EventStream
from upstream.protocol.events import Event

#: What `log.debug` shows of a chat.
MAX_LOGGED_CHARS: Final = 4096
MAX_LOGGED_MESSAGES: Final = 10

#: Fetches the pictures that a request only names, and reads it whole.
Fetch: TypeAlias = Callable[[], Awaitable[ChatRequest]]

_logger: Final = logging.getLogger(__name__)


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer one chat, streamed or whole."""
    key, facts, config = request[KEY], request[FACTS], request.app[SETTINGS].current()
    with admitted(request, key, config, facts):
        async with large_body(request, key, config) as hold:
            chat, linked = await _read(request, config)
            if hold.size:
                hold.shrink(sum(len(file.data) for file in files_of(chat.messages)))
            fetch = partial(_fetch, request, linked, hold) if linked.links else None
            facts.model = chat.model[:200]
            if config.log.debug:
                facts.prompt = _shortened(chat.messages)
                event(_logger, logging.INFO, "asked", messages=facts.prompt)
            header = Header(f"chatcmpl-{request.app[RANDOM](16).hex()}", int(time.time()), chat.model)
            if chat.stream:
                return await _stream(request, key, chat, fetch, header, config, facts)
            return await _whole(request, key, chat, fetch, header, config, facts)


async def _read(request: web.Request, config: Config) -> tuple[ChatRequest, Linked[ChatRequest]]:
    """Read the body, with something in the place of the pictures that it only names. Raises ApiError."""
    server, images = config.server, config.images
    body = await read_body(request, limit=server.max_body_bytes, timeout=server.body_timeout)
    is_large = len(body) > SMALL_BYTES
    taken: Taken = {}
    if is_large:  # parsing may hold the loop for some 20 ms
        await asyncio.sleep(0)
        fields, taken = read_without_data_urls(body, request.app[RANDOM](16).hex())
    else:
        fields = read_object(body)
    del body  # whoever needs it more holds it
    links = dict.fromkeys(islice(linked_pictures(fields), images.max_per_request)) if images.fetch_urls else ()
    linked = Linked(partial(read_request, fields), tuple(links), taken, config)
    if is_large:  # decoding and hashing takes as long again
        return await asyncio.to_thread(linked.judged), linked
    return linked.judged(), linked


async def _fetch(request: web.Request, linked: Linked[ChatRequest], hold: Hold) -> ChatRequest:
    """Fetch the pictures that the request names, and read it whole. Raises ApiError."""
    chat = await linked.fetched(request.app[FETCHER], hold)
    hold.shrink(sum(len(file.data) for file in files_of(chat.messages)))
    return chat


async def _stream(
    request: web.Request,
    key: ApiKey,
    chat: ChatRequest,
    fetch: Fetch | None,
    header: Header,
    config: Config,
    facts: Facts,
) -> web.StreamResponse:
    began = time.monotonic()
    encoder = ChunkEncoder(header, include_usage=chat.include_usage)
    caller = EventStream(
        request,
        start=encoder.start(),
        comment=sse.KEEPALIVE,
        idle=encoder.idle,
        settings=config.stream,
        write_timeout=config.server.write_timeout,
        tasks=request.app[TASKS],
        alarms=request.app[ALARMS],
    )

    def send(batch: list[Event]) -> bool:
        data = encoder.encode(batch)
        return not data or caller.send(data)

    with caller:
        try:
            with request.app[DRAIN].bounded(config.upstream.total_timeout) as facts.life:
                async with await _ask(request, key, chat, fetch, facts) as answer:
                    async for batch in answer:
                        data = encoder.encode(batch)
                        if facts.ttft is None and data:
                            facts.ttft = time.monotonic() - began
                        if answer.finish is not None:
                            await caller.end(data + encoder.finish(answer.finish.reason, answer.usage))
                            break
                        if data:
                            await caller.write(data)
                        if facts.ttft is not None:  # the first delta comes by iterating, so that its time is seen
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
    request: web.Request,
    key: ApiKey,
    chat: ChatRequest,
    fetch: Fetch | None,
    header: Header,
    config: Config,
    facts: Facts,
) -> web.StreamResponse:
    began = time.monotonic()
    completion = Completion(header)
    with request.app[DRAIN].bounded(config.upstream.total_timeout) as facts.life:
        async with await _ask(request, key, chat, fetch, facts) as answer:
            async for batch in answer:
                completion.add(batch)
                answer.keep(completion.size)
                if facts.ttft is None:
                    facts.ttft = time.monotonic() - began
            _log_answer(config, answer)
            body = completion.finish(answer.finish.reason if answer.finish else None, answer.usage())
    return await write_json(request, body, config)


async def _ask(request: web.Request, key: ApiKey, chat: ChatRequest, fetch: Fetch | None, facts: Facts) -> Answer:
    """Let an answer begin; say in the headers what is known as soon as it is.

    Pictures are fetched when nothing else is wrong with the request, and its model sees them.

    In a stream that was committed to before, the headers are gone.
    """
    app = request.app
    relay = app[RELAY]
    asked = await relay.prepare(chat, key)
    if fetch is not None and "images" not in asked.ignored:
        asked = await relay.prepare(await fetch(), key)
    if app[LIMITER].running > 1:
        # A turn, in which others that came with this request come as far as it is: half of the way fits into the
        # processor's cache, the whole does not. A short request costs a tenth less (`make bench`).
        await asyncio.sleep(0)
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
