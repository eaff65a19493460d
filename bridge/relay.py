"""The use case: a ChatRequest → batches of events. Model, prompt, account, attempts; released on every way out.

async with relay.answer(request, key) as answer:    # here everything up to the first event has happened
    async for batch in answer:
        …
answer.finish, answer.usage
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from bridge import transcript
from bridge.chat import ChatRequest, Usage
from bridge.config import Config
from bridge.errors import from_upstream, invalid_request
from bridge.keys import ApiKey
from bridge.models import Models
from bridge.tokens import TokenCount, estimate
from upstream import evaluations
from upstream.accounts import AccountPool
from upstream.client import ArenaAnswer, ArenaClient, Credentials
from upstream.errors import EmptyAnswer, RateLimited, SessionExpired, UpstreamError
from upstream.events import Event, Failure, Finish, ReasoningDeltas, TextDeltas
from upstream.flight import Model
from upstream.gate import Gate
from upstream.retry import Retries

#: Finish reasons of an answer that may well be empty: there was something to say, and it was withheld or cut.
_MAY_BE_EMPTY = frozenset({"content-filter", "length"})

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Answer:
    """One answer that has begun. Iterate it once; `finish` and `usage` are true when that has ended."""

    evaluation: str  # <origin>/c/<id>
    conversation: str
    _upstream: ArenaAnswer
    _batch: list[Event] | None
    _prompt_tokens: int
    finish: Finish | None = None
    _failure: UpstreamError | None = None
    _text: TokenCount = field(default_factory=TokenCount)
    _reasoning: TokenCount = field(default_factory=TokenCount)

    @property
    def usage(self) -> Usage:
        """The estimate so far."""
        reasoning = self._reasoning.total
        return Usage(self._prompt_tokens, self._text.total + reasoning, reasoning)

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> list[Event]:
        """Return what one read held, without its terminal event. Raises ApiError where the answer breaks."""
        if self._failure is not None:
            raise from_upstream(self._failure)
        if self.finish is not None:
            raise StopAsyncIteration
        batch, self._batch = self._batch or await self._upstream.read(), None
        for event in batch:
            match event:
                case TextDeltas(text=text):
                    self._text.add(text)
                case ReasoningDeltas(text=text):
                    self._reasoning.add(text)
                case Finish():
                    self.finish = event
                case Failure(error=error):
                    self._failure = error
        return batch[:-1] if self.finish or self._failure else batch


class Relay:
    """Answers requests. `config` is asked anew for each, so that a reload holds from the next one on."""

    def __init__(
        self,
        client: ArenaClient,
        pool: AccountPool,
        models: Models,
        gate: Gate,
        retries: Retries,
        new_id: Callable[[], str],
        config: Callable[[], Config],
    ) -> None:
        self._client = client
        self._pool = pool
        self._models = models
        self._gate = gate
        self.retries = retries
        self._new_id = new_id
        self._config = config

    @asynccontextmanager
    async def answer(self, request: ChatRequest, key: ApiKey) -> AsyncIterator[Answer]:
        """Ask upstream, and again where that is allowed, until an answer begins; let go of it in the end.

        Raises ApiError where there is no answer.
        """
        model = await self._models.resolve(request.model, key)
        if model.video:
            raise invalid_request(
                "unsupported_model", f"'{request.model}' makes videos, which the bridge does not support.", "model"
            )
        prompt = self._prompt(request)
        tried: set[str] = set()
        try:
            with self._gate.request():
                answer, held = await self.retries.run(partial(self._attempt, model, prompt, tried))
        except UpstreamError as error:
            raise from_upstream(error) from error
        async with held:
            yield answer

    def _prompt(self, request: ChatRequest) -> str:
        prompt = transcript.prompt(request.messages)
        longest = self._config().upstream.max_prompt_chars
        if not prompt.strip():
            raise invalid_request("invalid_value", "'messages' hold no text to send.", "messages")
        if len(prompt) > longest:
            raise invalid_request(
                "context_length_exceeded",
                f"The messages make a prompt of {len(prompt)} characters; LMArena takes {longest}. "
                "Shorten or drop earlier messages.",
                "messages",
            )
        return prompt

    async def _attempt(self, model: Model, prompt: str, tried: set[str]) -> tuple[Answer, AsyncExitStack]:
        """Make one attempt, with an account and ids of its own, up to the first event that says something."""
        account = self._pool.choose(model.modality, avoid=frozenset(tried))
        tried.add(account.user_id)
        call = evaluations.create(model, prompt, (), self._new_id)
        async with AsyncExitStack() as stack:
            stack.enter_context(self._pool.hold(account))
            try:
                upstream = await self._client.open(
                    call,
                    Credentials(account.session.value, self._pool.rotation(account)),
                    first_byte_timeout=self._first_byte_timeout(model),
                )
                stack.push_async_callback(upstream.aclose)
                batch = await _first_batch(upstream)
            except SessionExpired:
                self._pool.expire(account)
                raise
            except RateLimited as error:
                self._pool.rest(account, model.modality, error.retry_after)
                raise
            self._pool.revive(account)
            answer = Answer(f"{upstream.origin}/c/{call.evaluation_id}", "new", upstream, batch, estimate(prompt))
            return answer, stack.pop_all()

    def _first_byte_timeout(self, model: Model) -> float:
        timeouts = self._config().upstream
        return timeouts.image_first_byte_timeout if model.modality == "image" else timeouts.first_byte_timeout


async def _first_batch(upstream: ArenaAnswer) -> list[Event]:
    """Read until something is said: a first delta that is empty (as thinking models send) is no answer yet.

    Raises what the answer breaks with before that, and EmptyAnswer where it ends without a word.
    """
    batch: list[Event] = []
    while True:
        batch += await upstream.read()
        if any(_says_something(event) for event in batch):
            return batch
        match batch[-1]:
            case Failure(error=error):
                raise error
            case Finish(reason=reason) if reason not in _MAY_BE_EMPTY:
                raise EmptyAnswer("The model gave an empty answer.")
            case Finish():
                return batch


def _says_something(event: Event) -> bool:
    match event:
        case TextDeltas(text=text) | ReasoningDeltas(text=text):
            return text != ""
        case Finish() | Failure():
            return False
        case _:
            return True
