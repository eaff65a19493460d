"""One answer from the relay, as a request asks for it: what its headers and the log say of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

from aiohttp import web

from bridge.access.keys import ApiKey
from bridge.answering.answer import Answer
from bridge.answering.chat import ChatRequest
from bridge.answering.several import worst_of
from bridge.config.schema import Config
from bridge.dialects.dialect import Stamp
from bridge.errors import ApiError, may_fall_back
from bridge.headers import CONVERSATION, EVALUATION, IGNORED, MODEL, TOOLS
from bridge.log import event
from handlers.request.admission import wait_for_turn
from handlers.request.appkeys import COOLDOWN_WAIT, RECORD, RELAY
from handlers.request.record import RequestRecord
from upstream.protocol.printable import printable

#: What `log.debug` shows of a text.
MAX_LOGGED_CHARS: Final = 4096

_logger: Final = logging.getLogger(__name__)


#: Fetches the pictures that a request only names, and reads it whole.
FetchChat: TypeAlias = Callable[[], Awaitable[ChatRequest]]


async def begin(request: web.Request, key: ApiKey, chat: ChatRequest, stamp: Stamp, fetch: FetchChat | None) -> Answer:
    """Wait until an answer begins, of the first model that gives one, where the request's name stands for several.

    Raises ApiError, of the last that was asked.
    """
    relay = request.app[RELAY]
    if request[RECORD].queued is not None:
        await wait_for_turn(request, key)
    fallbacks = await relay.fallbacks(chat)
    for fallback in fallbacks[:-1]:
        try:
            return await _begin(request, key, chat, stamp, fetch, fallback)
        except ApiError as error:
            if not may_fall_back(error):
                raise
            event(_logger, logging.INFO, "fell back", model=fallback, code=error.code)
    return await _begin(request, key, chat, stamp, fetch, fallbacks[-1] if fallbacks else None, last=True)


async def _begin(
    request: web.Request,
    key: ApiKey,
    chat: ChatRequest,
    stamp: Stamp,
    fetch: FetchChat | None,
    fallback: str | None,
    *,
    last: bool = False,
) -> Answer:
    """Wait until an answer begins; say in the headers what is known as soon as it is.

    Pictures are fetched when nothing else is wrong with the request, and its model sees them. In a stream that was
    committed to before, the headers are gone. Where accounts rest, only the `last` model is waited for.
    """
    relay, record = request.app[RELAY], request[RECORD]
    asked = await relay.prepare(chat, key, fallback)
    if fetch is not None and "images" not in asked.ignored:
        asked = await relay.prepare(await fetch(), key, fallback)
    record.served = asked.model.name
    record.headers[MODEL] = printable(asked.model.name)
    if asked.ignored:
        record.headers[IGNORED] = ", ".join(asked.ignored)
    ask = partial(relay.answer, asked, key, stamp.prompt_tokens, record.attempts)
    if record.queued is None or not last:
        answer = await ask()
    else:
        modality = asked.model.modality
        answer = await request.app[COOLDOWN_WAIT].run(ask, modality, key.id, record.queued, record.lifetime)
    record.headers[CONVERSATION] = answer.conversation
    record.headers[EVALUATION] = answer.evaluation
    record.account = answer.account
    record.answers.append(answer)
    return answer


def note_tools(record: RequestRecord) -> None:
    """Say in a header what became of the request's tools, the worst of several answers; nothing before the end."""
    outcome = worst_of(record.answers)
    if outcome is not None:
        record.headers[TOOLS] = outcome.value


def log_answer(config: Config, answer: Answer) -> None:
    if config.log.debug:
        event(_logger, logging.INFO, "answered", text=answer.text[:MAX_LOGGED_CHARS])
