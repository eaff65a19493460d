"""One answer from the relay, as a request asks for it: what its headers and the log say of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from aiohttp import web

from bridge.access.keys import ApiKey
from bridge.answering.answer import Answer
from bridge.answering.chat import ChatRequest
from bridge.answering.stages import ToolsOutcome
from bridge.config.schema import Config
from bridge.log import event
from handlers.request.appkeys import FACTS, RELAY
from handlers.request.facts import Facts

#: What `log.debug` shows of a text.
MAX_LOGGED_CHARS: Final = 4096

_logger: Final = logging.getLogger(__name__)


#: Fetches the pictures that a request only names, and reads it whole.
FetchChat: TypeAlias = Callable[[], Awaitable[ChatRequest]]


async def begin(request: web.Request, key: ApiKey, chat: ChatRequest, fetch: FetchChat | None) -> Answer:
    """Wait until an answer begins; say in the headers what is known as soon as it is.

    Pictures are fetched when nothing else is wrong with the request, and its model sees them. In a stream that was
    committed to before, the headers are gone.
    """
    relay, facts = request.app[RELAY], request[FACTS]
    asked = await relay.prepare(chat, key)
    if fetch is not None and "images" not in asked.ignored:
        asked = await relay.prepare(await fetch(), key)
    facts.served = asked.model.name
    if asked.ignored:
        facts.headers["x-bridge-ignored"] = ", ".join(asked.ignored)
    answer = await relay.answer(asked, key)
    facts.headers["x-bridge-conversation"] = answer.conversation
    facts.headers["x-bridge-evaluation"] = answer.evaluation
    facts.account = answer.account
    facts.answers.append(answer)
    return answer


def note_tools(facts: Facts, outcome: ToolsOutcome | None) -> None:
    """Say in a header what became of the request's tools."""
    if outcome is not None:
        facts.headers["x-bridge-tools"] = outcome.value


def log_answer(config: Config, answer: Answer) -> None:
    if config.log.debug:
        event(_logger, logging.INFO, "answered", text=answer.text[:MAX_LOGGED_CHARS])
