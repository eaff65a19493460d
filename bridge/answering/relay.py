"""The use case: turn a ChatRequest into batches of events.

It resolves the model, finds the conversation that the request continues, and makes attempts until an answer begins.
Whatever an answer acquires is released however it ends.

    asked = await relay.prepare(request, key)
    async with await relay.answer(asked, key, prompt_tokens, []) as answer:    # the first event has come
        async for batch in answer:
            …
    answer.finish_reason, answer.usage()
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from bridge.access.keys import ApiKey
from bridge.accounts.follow_ups import FollowUps
from bridge.answering import tokens, transcript
from bridge.answering.answer import Answer
from bridge.answering.attempts import AttemptRecord, Attempts, ChatState, StartedAnswer
from bridge.answering.chat import ChatRequest
from bridge.answering.conversations import Conversations, Evaluation, SharedConversations, Turn, look_up
from bridge.answering.messages import Message, files_of, join_answers, start_of_turn
from bridge.answering.stages import NO_STAGES, StageMaker, Stages
from bridge.answering.stages.selection import stage_makers
from bridge.answering.tools.instructions import instructions
from bridge.config.schema import Config
from bridge.errors import document_not_taken, from_upstream, invalid_request, unsupported_model
from bridge.models import Models
from upstream.accounts import AccountPool
from upstream.answer import ArenaAnswer
from upstream.gate import Gate
from upstream.protocol.drift import Drift
from upstream.protocol.errors import StaleModel, UpstreamError
from upstream.protocol.models import Model
from upstream.retry import Retries

#: Above this many messages, the event loop runs once between looking up the conversation and writing the prompt: each
#: takes 30 ms.
_MANY_MESSAGES: Final = 1_000


class PreparedChat(NamedTuple):
    """A request, ready to be sent to its model.

    `name` is the model name that the caller used; if `fallback`, it is the name of one of the models behind an alias.
    `ignored` lists the parameters that have no effect. `instructions` is the text that tells the model about its tools
    and the format of its answer, which may have at most `max_tokens`.
    """

    name: str
    model: Model
    messages: tuple[Message, ...]
    ignored: tuple[str, ...]
    stages: tuple[StageMaker, ...] = ()
    instructions: str = ""
    fallback: bool = False
    max_tokens: int | None = None


class Relay:
    """Answers requests. `config` is called for each one, so that a reload takes effect with the next request.

    If conversations are `shared` with other processes, `save_accounts` tells those about replaced cookies.
    """

    def __init__(
        self,
        attempts: Attempts,
        pool: AccountPool,
        models: Models,
        conversations: Conversations,
        follow_ups: FollowUps,
        gate: Gate,
        retries: Retries,
        drift: Drift,
        config: Callable[[], Config],
        shared: SharedConversations | None = None,
        save_accounts: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._attempts = attempts
        self._pool = pool
        self._models = models
        self._conversations = conversations
        self._follow_ups = follow_ups
        self._gate = gate
        self.retries = retries
        self._drift = drift
        self._config = config
        self._shared = shared
        self._save_accounts = save_accounts

    async def fallbacks(self, request: ChatRequest) -> Sequence[str]:
        """List the models to try in order, by their own names; empty if the request names a single model."""
        targets = await self._models.targets(request.model)
        return targets if len(targets) > 1 else ()

    async def compared(self, request: ChatRequest) -> Sequence[str]:
        """List the models to ask in parallel, by the names the caller gave them; empty if the request names one."""
        return await self._models.compared(request.model)

    async def prepare(self, request: ChatRequest, key: ApiKey, fallback: str | None = None) -> PreparedChat:
        """Resolve the model and reduce the request to what that model supports.

        `fallback` names the model to use when the request's alias stands for several. Raises ApiError if the model
        cannot answer such a request.
        """
        name = fallback or request.model
        model = await self._models.resolve(name, key, aliases=fallback is None)
        if model.video:
            raise unsupported_model(request.model, "makes videos, which the bridge does not support")
        if request.first_document is not None and "file" not in model.inputs:
            raise document_not_taken(request.model, request.first_document)
        messages, ignored = join_answers(request.messages), request.ignored
        if "image" not in model.inputs and any(file.kind == "picture" for file in files_of(messages)):
            messages = tuple(message.without_pictures() for message in messages)
            ignored = (*ignored, "images")
        if model.modality == "search":  # it searches by itself
            ignored = tuple([name for name in ignored if not name.startswith("tools.web_search")])
        if not any(message.text.strip() or message.tool_calls or message.files for message in messages):
            reason = f", and '{request.model}' takes no pictures" if "images" in ignored else ""
            raise invalid_request("invalid_value", f"There is no text to send{reason}.", "messages")
        instruction_text = instructions(request.tools, request.json_format)
        if request.truncate:
            messages = transcript.shorten(messages, instruction_text, self._config().upstream.max_prompt_chars)
        stages, falls_back = stage_makers(request), fallback is not None
        return PreparedChat(name, model, messages, ignored, stages, instruction_text, falls_back, request.max_tokens)

    async def answer(
        self,
        asked: PreparedChat,
        key: ApiKey,
        prompt_tokens: int,
        attempts: list[AttemptRecord],
        *,
        standalone: bool = False,
    ) -> Answer:
        """Call upstream, retrying where that is allowed, until an answer begins; the caller must close it.

        `prompt_tokens` is the size of the whole prompt, including what the evaluation already holds. Each attempt is
        appended to `attempts`. With `standalone`, no conversation is continued or remembered.

        Raises ApiError if no answer begins.
        """
        try:
            try:
                return await self._answer(asked, key, prompt_tokens, attempts, standalone=standalone)
            except StaleModel:
                aliases = not asked.fallback
                model = await self._models.resolve_again(asked.name, asked.model, key, aliases=aliases)
                return await self._answer(
                    asked._replace(model=model), key, prompt_tokens, attempts, standalone=standalone
                )
        except UpstreamError as error:
            raise from_upstream(error) from error

    async def _answer(
        self, asked: PreparedChat, key: ApiKey, prompt_tokens: int, attempts: list[AttemptRecord], *, standalone: bool
    ) -> Answer:
        if self._shared is None or standalone:
            turn = Turn.standalone() if standalone else self._take_turn(asked, key)
        else:
            turn = await self._take_shared_turn(self._shared, asked, key)
        chat = ChatState(
            asked.messages, asked.model, turn, asked.instructions, attempts, turn.evaluation, not standalone
        )
        if turn.kind == "follow-up" and turn.evaluation is not None and not self._may_follow_up(turn.evaluation):
            turn.start_anew("follow_ups")
        try:
            if len(asked.messages) > _MANY_MESSAGES:
                await asyncio.sleep(0)
            cached_tokens = await _cached_tokens(chat, prompt_tokens)  # now: after the call, it would have to be closed
            with self._gate.request():
                started = await self.retries.run(partial(self._attempts.make, chat))
        except BaseException as error:  # reraised; a cancelled request must return its evaluation too
            returned = self._end(chat)
            if returned is not None and isinstance(error, Exception):  # the caller's next turn may reach any process
                await asyncio.wait((returned,))
            raise
        config = self._config()
        recover = partial(self._attempts.recover, started) if config.upstream.recover else None
        return Answer(
            f"{started.answer.origin}/c/{started.evaluation_id}",
            f"{chat.turn.kind}; why={chat.turn.why}",
            started.account.label,
            started.answer,
            prompt_tokens,
            0 if chat.turn.evaluation is None else cached_tokens,
            partial(self._remember, chat, started),
            partial(self._close, chat, started),
            recover,
            Stages(asked.stages, repairs=config.agents.repairs) if asked.stages else NO_STAGES,
            partial(self._ask_again, chat, started),
            asked.max_tokens,
        )

    def _take_turn(self, asked: PreparedChat, key: ApiKey) -> Turn:
        """Find the conversation that the request continues."""
        usable = partial(self._attempts.is_usable, asked.model)
        return self._conversations.take(key.id, asked.model.id, asked.messages, usable, asked.instructions)

    async def _take_shared_turn(self, shared: SharedConversations, asked: PreparedChat, key: ApiKey) -> Turn:
        """Find the conversation that the request continues, in the table shared with other processes."""
        lookup = look_up(key.id, asked.model.id, asked.messages, asked.instructions)
        usable = [account.user_id for account in self._pool.usable(asked.model.modality)]
        return await shared.take(lookup, usable)

    def _may_follow_up(self, evaluation: Evaluation) -> bool:
        return self._config().upstream.follow_ups == "auto" and self._follow_ups.are_allowed(evaluation.user_id)

    def _end(self, chat: ChatState) -> asyncio.Future[Any] | None:
        """Return the evaluation that the request took; the future is done once other processes know."""
        if chat.taken is None:
            return None
        if self._shared is not None:
            return (self._shared.put_back if chat.untouched else self._shared.release)(chat.taken)
        self._conversations.release(chat.taken)
        if chat.untouched:
            self._conversations.put(chat.taken)
        return None

    def _close(self, chat: ChatState, started: StartedAnswer) -> asyncio.Future[Any] | None:
        """Release what the answer held, however it ended."""
        self._pool.release(started.account)
        self._drift.note(started.answer.unknown, started.answer.unknown_lines)
        return self._end(chat)

    async def _ask_again(self, chat: ChatState, started: StartedAnswer, prompt: str) -> ArenaAnswer:
        """Send one more turn to the evaluation of a finished answer. Raises UpstreamError."""
        chat.untouched = False
        again = await self._attempts.ask_again(chat, started, prompt)
        chat.last_message_id = again.message_id
        return again.answer

    def _remember(
        self, chat: ChatState, started: StartedAnswer, answer: Message, regenerable: bool
    ) -> Awaitable[None] | None:
        """Remember the evaluation of a complete answer; it can be continued once the awaitable is done.

        Unless `regenerable`, a repetition of the same turn is not recognised: the site's "regenerate" would not answer
        what the caller asked.
        """
        if chat.remembered:
            message_id = chat.last_message_id or started.message_id
            asked = chat.turn.asked if regenerable else f"not regenerable {message_id}"
            answered, digest = chat.turn.answered(answer.text, answer.tool_calls), chat.turn.instructions
            evaluation = Evaluation(started.evaluation_id, started.account.user_id, message_id, asked, answered, digest)
            if self._shared is not None:
                taken, chat.taken = chat.taken, None
                return self._share(self._shared, evaluation, taken)
            self._conversations.put(evaluation)
        return None

    async def _share(self, shared: SharedConversations, evaluation: Evaluation, taken: Evaluation | None) -> None:
        """Publish to all processes the evaluation and the current cookie of its account."""
        await shared.put(evaluation, taken)
        if self._save_accounts is not None:
            await self._save_accounts()


async def _cached_tokens(chat: ChatState, prompt_tokens: int) -> int:
    """Estimate the tokens of the prompt that need not be sent, because the evaluation already holds them."""
    if chat.turn.evaluation is None:
        return 0
    if chat.turn.kind == "regenerate":
        return prompt_tokens
    sent = await tokens.prompt_tokens(chat.messages[start_of_turn(chat.messages) :])
    return max(0, prompt_tokens - sent)
