"""The beginning of one answer: the turn in the queue, fallback models, and what headers and log say about it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import chain
from typing import Final, TypeAlias

from bridge.answering.answer import Answer
from bridge.answering.chat import ChatRequest
from bridge.answering.several import worst_of
from bridge.config.schema import Config
from bridge.dialects.dialect import Stamp
from bridge.errors import ApiError, may_fall_back
from bridge.headers import CONVERSATION, EVALUATION, IGNORED, MODEL, TOOLS
from bridge.log import event
from handlers.request.admission import wait_for_turn
from handlers.request.appkeys import COOLDOWN_WAIT, RELAY
from handlers.request.model_call import ModelCall
from handlers.request.record import RequestRecord
from upstream.protocol.printable import printable

#: With `log.debug`, how many characters of a text are logged.
MAX_LOGGED_CHARS: Final = 4096
#: The longest list of what has no effect; some clients accept no more than 8 KiB of headers.
MAX_IGNORED_CHARS: Final = 4000

_logger: Final = logging.getLogger(__name__)


#: Fetches the pictures that a request links to, and returns its chat with them.
FetchChat: TypeAlias = Callable[[], Awaitable[ChatRequest]]


async def begin(call: ModelCall, chat: ChatRequest, stamp: Stamp, fetch: FetchChat | None) -> Answer:
    """Wait until an answer begins; if the model's name stands for several, try them in order until one answers.

    Raises ApiError, that of the last model that was tried.
    """
    await wait_for_turn(call)
    fallbacks = await call.app[RELAY].fallbacks(chat)
    for fallback in fallbacks[:-1]:
        try:
            return await _begin(call, chat, stamp, fetch, fallback)
        except ApiError as error:
            if not may_fall_back(error):
                raise
            event(_logger, logging.INFO, "fell back", model=fallback, code=error.code)
    return await _begin(call, chat, stamp, fetch, fallbacks[-1] if fallbacks else None, last=True)


async def _begin(
    call: ModelCall,
    chat: ChatRequest,
    stamp: Stamp,
    fetch: FetchChat | None,
    fallback: str | None,
    *,
    last: bool = False,
) -> Answer:
    """Wait until an answer of one model begins, and set the headers about it as soon as each is known.

    Linked pictures are fetched once the rest of the request is known to be valid, if the model sees pictures. If a
    stream has sent its headers already, they are lost. Only for the `last` model is a cooldown waited out.
    """
    relay, key, record = call.app[RELAY], call.key, call.record
    prepared = await relay.prepare(chat, key, fallback)
    if fetch is not None and "images" not in prepared.ignored:
        prepared = await relay.prepare((await fetch())._replace(model=chat.model), key, fallback)
    record.served = prepared.model.name
    record.headers[MODEL] = printable(prepared.model.name)
    set_ignored_header(record, chat.model, prepared.ignored)
    ask = partial(relay.answer, prepared, key, stamp.prompt_tokens, record.attempts)
    if record.queued is None or not last:
        answer = await ask()
    else:
        modality = prepared.model.modality
        answer = await call.app[COOLDOWN_WAIT].run(ask, modality, key.id, record.queued, record.lifetime)
    record.headers[CONVERSATION] = answer.conversation
    record.headers[EVALUATION] = answer.evaluation
    record.account = answer.account
    record.answers.append(answer)
    return answer


def set_ignored_header(record: RequestRecord, model: str, names: Sequence[str]) -> None:
    """Set the header that names what has no effect on the answer of `model`, or on those of others.

    `model` is as requested: a fallback replaces the one before it. Types of tools may be any text.
    """
    if not (names or record.ignored):  # as for most requests
        return
    record.ignored[model] = names
    listed = printable(", ".join(dict.fromkeys(chain.from_iterable(record.ignored.values()))))
    record.headers.pop(IGNORED, None)
    if listed:
        record.headers[IGNORED] = listed if len(listed) <= MAX_IGNORED_CHARS else f"{listed[:MAX_IGNORED_CHARS]}..."


def set_tools_header(record: RequestRecord) -> None:
    """Set the header about the request's tools to the worst outcome of its answers; not before one has ended."""
    outcome = worst_of(record.answers)
    if outcome is not None:
        record.headers[TOOLS] = outcome.value


def log_answer(config: Config, answer: Answer) -> None:
    """Log the beginning of an answer's text, if `log.debug` is set."""
    if config.log.debug:
        event(_logger, logging.INFO, "answered", text=answer.text[:MAX_LOGGED_CHARS])
