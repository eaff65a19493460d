"""The use case: a ChatRequest → batches of events. Model, prompt, account, attempts; released on every way out.

asked = await relay.prepare(request, key)
async with await relay.answer(asked, key) as answer:    # here everything up to the first event has happened
    async for batch in answer:
        …
answer.finish, answer.usage()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from bridge import transcript
from bridge.answer import Answer
from bridge.chat import ChatRequest, Message, files_of
from bridge.config import Config
from bridge.conversations import Conversations, Evaluation, Turn
from bridge.errors import document_not_taken, from_upstream, invalid_request, unsupported_model
from bridge.keys import ApiKey
from bridge.models import Models
from upstream import evaluations
from upstream.accounts import Account, AccountPool
from upstream.answer import ArenaAnswer
from upstream.client import ArenaClient, Credentials
from upstream.errors import (
    EvaluationGone,
    RateLimited,
    Reason,
    Repeat,
    SessionExpired,
    UpstreamError,
    WrongAccount,
)
from upstream.evaluations import Attachment, Call
from upstream.files import File
from upstream.flight import Model
from upstream.gate import Gate
from upstream.retry import Retries
from upstream.uploads import Uploads


class Asked(NamedTuple):
    """A request as it is put to its model; `ignored` names what was asked for and has no effect."""

    model: Model
    messages: tuple[Message, ...]
    ignored: tuple[str, ...]


@dataclass(slots=True)
class _Chat:
    """One request on its way to an answer: what its attempts share."""

    messages: tuple[Message, ...]
    model: Model
    turn: Turn
    tried: set[str] = field(default_factory=set)
    taken: Evaluation | None = None
    remembered: bool = True
    #: Nothing that was sent can have changed the evaluation that was taken: it may be put back.
    untouched: bool = True


class Relay:
    """Answers requests. `config` is asked anew for each, so that a reload holds from the next one on.

    `on_attempt` is told the account's label, and how each attempt with it began.
    """

    def __init__(
        self,
        client: ArenaClient,
        pool: AccountPool,
        models: Models,
        conversations: Conversations,
        uploads: Uploads,
        gate: Gate,
        retries: Retries,
        new_id: Callable[[], str],
        config: Callable[[], Config],
        on_attempt: Callable[[str, Reason], None],
    ) -> None:
        self._client = client
        self._pool = pool
        self._models = models
        self._conversations = conversations
        self._uploads = uploads
        self._gate = gate
        self.retries = retries
        self._new_id = new_id
        self._config = config
        self._on_attempt = on_attempt

    async def prepare(self, request: ChatRequest, key: ApiKey) -> Asked:
        """Find the model that is asked, and what it can be shown. Raises ApiError where it cannot be asked so."""
        model = await self._models.resolve(request.model, key)
        if model.video:
            raise unsupported_model(request.model, "makes videos, which the bridge does not support")
        if request.first_document is not None and "file" not in model.inputs:
            raise document_not_taken(request.model, request.first_document)
        messages, ignored = request.messages, request.ignored
        if "image" not in model.inputs and any(file.kind == "picture" for file in files_of(messages)):
            messages = tuple(message.without_pictures() for message in messages)
            ignored = (*ignored, "images")
        if not any(message.text.strip() or message.tool_calls or message.files for message in messages):
            lost = f", and '{request.model}' takes no pictures" if "images" in ignored else ""
            raise invalid_request("invalid_value", f"'messages' hold no text to send{lost}.", "messages")
        return Asked(model, messages, ignored)

    async def answer(self, asked: Asked, key: ApiKey, *, apart: bool = False) -> Answer:
        """Ask upstream, and again where that is allowed, until an answer begins; it is the caller's to close.

        `apart` neither continues a conversation nor begins one.

        Raises ApiError where there is no answer.
        """
        chat = self._begin(asked, key, apart=apart)
        try:
            with self._gate.request():
                return await self.retries.run(partial(self._attempt, chat))
        except BaseException as error:  # cancelled too: what was taken goes back
            self._end(chat)
            if isinstance(error, UpstreamError):
                raise from_upstream(error) from error
            raise

    def _begin(self, asked: Asked, key: ApiKey, *, apart: bool) -> _Chat:
        """Find the request's place in a conversation."""
        if apart:
            return _Chat(asked.messages, asked.model, Turn.apart(), remembered=False)
        usable = partial(self._usable, asked.model)
        turn = self._conversations.take(key.id, asked.model.id, asked.messages, usable)
        return _Chat(asked.messages, asked.model, turn, taken=turn.evaluation)

    def _end(self, chat: _Chat) -> None:
        """Give back what the request took there."""
        if chat.taken is not None:
            self._conversations.release(chat.taken)
            if chat.untouched:
                self._conversations.put(chat.taken)

    def _usable(self, model: Model, user_id: str) -> bool:
        return any(account.user_id == user_id for account in self._pool.usable(model.modality))

    async def _attempt(self, chat: _Chat) -> Answer:
        """Make one attempt, with an account and ids of its own, up to the first event that says something."""
        account = self._choose(chat)
        chat.tried.add(account.user_id)
        prompt, files = self._shown(chat)
        was_untouched = chat.untouched
        upstream: ArenaAnswer | None = None
        self._pool.hold(account)
        try:
            attachments: Sequence[Attachment] = ()
            if files:
                attachments = await self._attach(files, account)
                account = self._pool.get(account.user_id) or account  # an upload may have rotated its cookie
            call = self._call(chat, prompt, attachments)
            chat.untouched &= chat.turn.evaluation is None  # until upstream says that it did nothing
            upstream = await self._client.open(
                call, self._credentials(account), first_byte_timeout=self._first_byte_timeout(chat.model)
            )
            await upstream.begin()
        except BaseException as error:  # cancelled too: nothing stays held
            self._pool.release(account)
            if upstream is not None:
                await upstream.aclose()
            if isinstance(error, UpstreamError):
                if error.repeat in (Repeat.NOT_SENT, Repeat.REFUSED):
                    chat.untouched = was_untouched
                self._on_attempt(account.label, error.reason)
                self._learn(error, chat, account)
            raise
        self._on_attempt(account.label, Reason.OK)
        self._pool.revive(account)
        return Answer(
            f"{upstream.origin}/c/{call.evaluation_id}",
            f"{chat.turn.kind}; why={chat.turn.why}",
            account.label,
            upstream,
            chat.messages,
            partial(self._remember, chat, call.evaluation_id, call.message_id, account.user_id),
            partial(self._close, chat, account),
        )

    def _close(self, chat: _Chat, account: Account) -> None:
        """The answer is over, however it ended."""
        self._pool.release(account)
        self._end(chat)

    def _choose(self, chat: _Chat) -> Account:
        """Choose the conversation's account as long as it may be asked, else another and a new evaluation."""
        evaluation = chat.turn.evaluation
        if evaluation is not None:
            if self._usable(chat.model, evaluation.user_id) and (account := self._pool.get(evaluation.user_id)):
                return account
            chat.turn.start_anew("account")
        return self._pool.choose(chat.model.modality, avoid=frozenset(chat.tried))

    def _shown(self, chat: _Chat) -> tuple[str, tuple[File, ...]]:
        """Say what is to be sent for the request's place in its conversation. Raises ApiError where it is too much."""
        if chat.turn.kind == "regenerate":
            return "", ()
        messages = chat.messages if chat.turn.evaluation is None else chat.messages[-1:]
        prompt = transcript.prompt(messages)
        longest = self._config().upstream.max_prompt_chars
        if len(prompt) > longest:
            raise invalid_request(
                "context_length_exceeded",
                f"The messages make a prompt of {len(prompt)} characters; LMArena takes {longest}. "
                "Shorten or drop earlier messages.",
                "messages",
            )
        files = files_of(messages)
        pictures = sum(file.kind == "picture" for file in files)
        if pictures > 1 and not chat.model.multiple_images:
            raise invalid_request(
                "invalid_image",
                f"'{chat.model.name}' takes one picture at a time, not {pictures}: "
                "drop earlier pictures from the messages, or choose a model that takes several.",
                "messages",
            )
        return prompt, files

    async def _attach(self, files: Sequence[File], account: Account) -> list[Attachment]:
        timeout = self._config().upstream.upload_timeout
        return await self._uploads.attach(files, account, self._credentials(account), timeout=timeout)

    def _credentials(self, account: Account) -> Credentials:
        return Credentials(account.session.value, self._pool.rotation(account))

    def _call(self, chat: _Chat, prompt: str, attachments: Sequence[Attachment]) -> Call:
        """Build the call for the request's place in its conversation."""
        evaluation = chat.turn.evaluation
        if evaluation is None:
            return evaluations.create(chat.model, prompt, attachments, self._new_id)
        if chat.turn.kind == "regenerate":
            return evaluations.regenerate(evaluation.id, evaluation.message_id)
        return evaluations.follow_up(evaluation.id, chat.model, prompt, attachments, self._new_id)

    def _learn(self, error: UpstreamError, chat: _Chat, account: Account) -> None:
        """Draw from a failed attempt what the account, and the next attempt, must know."""
        match error:
            case SessionExpired():
                self._pool.expire(account)
            case RateLimited(retry_after=retry_after):
                self._pool.rest(account, chat.model.modality, retry_after)
            case EvaluationGone() | WrongAccount():
                chat.untouched = False
                chat.turn.start_anew("gone")
            case _ if error.repeat is Repeat.POSSIBLY_ACCEPTED:
                chat.turn.start_anew("uncertain")

    def _remember(self, chat: _Chat, evaluation_id: str, message_id: str, user_id: str, text: str) -> None:
        """The answer is complete: its evaluation can be continued."""
        if chat.remembered:
            asked, answered = chat.turn.asked, chat.turn.answered(text)
            self._conversations.put(Evaluation(evaluation_id, user_id, message_id, asked, answered))

    def _first_byte_timeout(self, model: Model) -> float:
        timeouts = self._config().upstream
        return timeouts.image_first_byte_timeout if model.modality == "image" else timeouts.first_byte_timeout
