"""One attempt to get a chat answered: choose an account, build the prompt, upload files, call; learn from a refusal.

What a refusal says about an account, a mode or an evaluation is recorded where later attempts, of this request or of
others, will find it. `upstream.retry` decides by the class of the error whether there is another attempt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from bridge.accounts.follow_ups import FollowUps
from bridge.accounts.renewals import CALL_SECONDS, Renewals
from bridge.accounts.rotations import Rotations
from bridge.answering import transcript
from bridge.answering.conversations import Evaluation, Turn
from bridge.answering.messages import Message, files_of, start_of_turn
from bridge.answering.tokens import rough_estimate
from bridge.config.schema import Config
from bridge.errors import CHARS_PER_TOKEN, context_exceeded, invalid_request
from upstream.accounts import EVERYTHING, Account, AccountPool
from upstream.answer import ArenaAnswer
from upstream.client import ArenaClient
from upstream.credentials import Credentials
from upstream.modes import Modes
from upstream.protocol import evaluations
from upstream.protocol.drift import Drift
from upstream.protocol.errors import (
    BattleRequired,
    EvaluationGone,
    GuestSession,
    IdsRefused,
    ModeRefused,
    NoneRenewed,
    NotFound,
    NotRenewed,
    PromptFailed,
    RateLimited,
    Reason,
    Repeat,
    SessionExpired,
    StaleCookie,
    StaleModel,
    TermsNotAccepted,
    UpstreamError,
    WrongAccount,
)
from upstream.protocol.evaluations import Attachment, Call
from upstream.protocol.files import File
from upstream.protocol.ids import Uuid7Source
from upstream.protocol.models import Model
from upstream.uploads import Uploads

#: Classes of failure that leave an evaluation as it was before the call.
_NOTHING_DONE: Final = (Repeat.NOT_SENT, Repeat.REFUSED, Repeat.CORRECTED)


class AttemptRecord(NamedTuple):
    """An attempt: the account's label, the Unix time of its start, and the seconds until an answer began or it failed.

    `status` is the site's HTTP status, None if there was none.
    """

    account: str
    at: float
    seconds: float
    status: int | None
    reason: Reason


@dataclass
class ChatState:
    """The state that all attempts of one request share."""

    messages: tuple[Message, ...]
    model: Model
    turn: Turn
    #: What the model is told about tools and the format of its answer.
    instructions: str
    #: The attempts so far.
    attempts: list[AttemptRecord]
    taken: Evaluation | None = None
    remembered: bool = True
    #: User ids of the accounts tried so far.
    tried: set[str] = field(default_factory=set)
    #: Nothing that was sent can have changed the evaluation that was taken, so it may be put back.
    untouched: bool = field(default=True, init=False)
    #: The user id of the account that the next attempt should reuse, since the refusal was not its fault.
    stay_with: str = field(default="", init=False)
    #: How often a refused cookie turned out to be valid, or to have been replaced.
    good_cookies_refused: int = field(default=0, init=False)
    #: The id of the evaluation's last answer if the model was asked again, else ''.
    last_message_id: str = field(default="", init=False)


class StartedAnswer(NamedTuple):
    """An answer that has begun: its ids at the site, and whose account it uses. The call's body is not kept."""

    answer: ArenaAnswer
    evaluation_id: str
    message_id: str
    account: Account


class Attempts:
    """Makes attempts. `on_attempt` is called with the account's label and the outcome of each attempt."""

    def __init__(
        self,
        client: ArenaClient,
        pool: AccountPool,
        renewals: Renewals,
        uploads: Uploads,
        modes: Modes,
        follow_ups: FollowUps,
        rotations: Rotations,
        new_id: Uuid7Source,
        config: Callable[[], Config],
        drift: Drift,
        on_attempt: Callable[[str, Reason], None],
    ) -> None:
        self._client = client
        self._pool = pool
        self._renewals = renewals
        self._uploads = uploads
        self._modes = modes
        self._follow_ups = follow_ups
        self._rotations = rotations
        self._new_id = new_id
        self._config = config
        self._drift = drift
        self._on_attempt = on_attempt

    def is_usable(self, model: Model, user_id: str) -> bool:
        """Whether an account can be used for this model now."""
        return any(account.user_id == user_id for account in self._pool.usable(model.modality))

    async def make(self, chat: ChatState) -> StartedAnswer:
        """Make one attempt, with its own account and ids, until the first event with content.

        The account is held until the caller releases it. Raises UpstreamError, and ApiError if the site cannot take the
        prompt.
        """
        at, began = time.time(), time.monotonic()
        account = await self._choose_fresh(chat)
        user_id = account.user_id
        chat.tried.add(user_id)
        prompt, files = self._prompt_and_files(chat)
        was_untouched = chat.untouched
        answer: ArenaAnswer | None = None
        self._pool.hold(account)
        try:
            async with self._rotations.turn(user_id, self._config().upstream.connect_timeout):
                account = self._pool.get(user_id) or account  # another answer may have rotated its cookie
                attachments: Sequence[Attachment] = ()
                if files:
                    attachments = await self._attach(files, account)
                    account = self._pool.get(user_id) or account  # and so may an upload
                chat.untouched &= chat.turn.evaluation is None  # until upstream says that nothing was done
                call, answer = await self._open(chat, account, prompt, attachments)
            await answer.begin()
        except BaseException as error:  # reraised; a cancelled attempt must release what it holds too
            self._pool.release(account)
            if answer is not None:
                self._drift.note(answer.unknown, answer.unknown_lines)
                await answer.aclose()
            if not isinstance(error, UpstreamError):
                raise
            self._pool.note_attempt(user_id, chat.model.modality, failed=not isinstance(error, RateLimited))
            if error.repeat in _NOTHING_DONE or isinstance(error, StaleModel):
                chat.untouched = was_untouched
            judged = await self._judge(error, chat, account)
            self._on_attempt(account.label, judged.reason)
            chat.attempts.append(
                AttemptRecord(account.label, at, time.monotonic() - began, judged.status, judged.reason)
            )
            self._learn(judged, chat, account)
            try:
                if judged is error:
                    raise
                raise judged from error
            finally:
                del judged  # the error's traceback refers to this frame: keeping it here would be a reference cycle
        self._on_attempt(account.label, Reason.OK)
        chat.attempts.append(AttemptRecord(account.label, at, time.monotonic() - began, 200, Reason.OK))
        self._pool.revive(account)
        self._pool.note_attempt(user_id, chat.model.modality, failed=False)
        if chat.turn.kind == "follow-up":
            self._follow_ups.accepted(user_id)
        return StartedAnswer(answer, call.evaluation_id, call.message_id, account)

    async def ask_again(self, chat: ChatState, started: StartedAnswer, prompt: str) -> StartedAnswer:
        """Send one more turn to the evaluation of a finished answer, with its account, which is still held.

        The caller must close the answer. Raises UpstreamError; there are no retries.
        """
        account = self._pool.get(started.account.user_id) or started.account
        answer: ArenaAnswer | None = None
        try:
            async with self._rotations.turn(account.user_id, self._config().upstream.connect_timeout):
                account = self._pool.get(account.user_id) or account
                new_id = self._new_id.later_than(started.message_id)
                call = evaluations.follow_up(started.evaluation_id, chat.model, prompt, (), new_id)
                timeout = self._first_byte_timeout(chat.model)
                answer = await self._client.open(call, self._credentials(account), first_byte_timeout=timeout)
            await answer.begin()
        except BaseException as error:  # reraised; a cancelled call must close its answer too
            if answer is not None:
                self._drift.note(answer.unknown, answer.unknown_lines)
                await answer.aclose()
            if isinstance(error, UpstreamError):
                self._on_attempt(account.label, error.reason)
                self._learn(error, chat, account)
            raise
        self._on_attempt(account.label, Reason.OK)
        self._follow_ups.accepted(account.user_id)
        return StartedAnswer(answer, call.evaluation_id, call.message_id, account)

    async def recover(self, started: StartedAnswer) -> str | None:
        """Read back the whole text of a truncated answer; None if the site does not have all of it."""
        account = self._pool.get(started.account.user_id)
        if account is None:
            return None
        read = partial(self._client.history, started.evaluation_id, timeout=CALL_SECONDS)
        document = await self._renewals.read(account, read)
        return None if document is None else evaluations.read_back(document, started.message_id)

    async def _choose_fresh(self, chat: ChatState) -> Account:
        """Choose an account and wait for its login if that must be renewed; choose again if the renewal fails."""
        account = self._choose(chat)
        for _ in range(2):
            if not self._renewals.must_wait(account):
                break
            account = await self._renewals.fresh(account)
            if self.is_usable(chat.model, account.user_id) and not self._renewals.must_wait(account):
                break
            account = self._choose(chat)
        return account

    def _choose(self, chat: ChatState) -> Account:
        """Choose the conversation's account while it is usable, otherwise another one and a new evaluation."""
        evaluation = chat.turn.evaluation
        if evaluation is not None:
            if self.is_usable(chat.model, evaluation.user_id) and (account := self._pool.get(evaluation.user_id)):
                return account
            chat.turn.start_anew("account")
        stay_with, chat.stay_with = chat.stay_with, ""
        if stay_with and self.is_usable(chat.model, stay_with) and (account := self._pool.get(stay_with)):
            return account
        return self._pool.choose(chat.model.modality, avoid=chat.tried, unready=self._renewals.unready())

    def _prompt_and_files(self, chat: ChatState) -> tuple[str, tuple[File, ...]]:
        """Return the prompt and files to send for this turn. Raises ApiError if the site would not take them."""
        if chat.turn.kind == "regenerate":
            return "", ()
        if chat.turn.evaluation is None:
            messages, prompt = chat.messages, transcript.prompt(chat.messages, chat.instructions)
        else:
            messages = chat.messages[start_of_turn(chat.messages) :]
            prompt = transcript.follow_up(chat.messages)
        max_chars = self._config().upstream.max_prompt_chars
        if len(prompt) > max_chars:
            instruction_chars = len(chat.instructions) if chat.turn.evaluation is None else 0
            about = (
                f", {instruction_chars} of which describe tools and the form of the answer" if instruction_chars else ""
            )
            raise context_exceeded(
                f"The messages make a prompt of {len(prompt)} characters{about}; LMArena accepts at most {max_chars}. "
                f"Shorten or drop earlier messages{' or tools' if instruction_chars else ''}.",
                rough_estimate(prompt),
                max_chars // CHARS_PER_TOKEN,
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
        return self._pool.credentials(account, partial(self._rotations.rotated, account.user_id))

    async def _open(
        self, chat: ChatState, account: Account, prompt: str, attachments: Sequence[Attachment]
    ) -> tuple[Call, ArenaAnswer]:
        """Send the call for this turn, and record the rate limit that the response reports."""
        credentials = self._credentials(account)
        try:
            return await self._send(chat, account, credentials, prompt, attachments)
        finally:
            self._pool.note_limit(account.user_id, chat.model.modality, credentials.limit)

    async def _send(
        self,
        chat: ChatState,
        account: Account,
        credentials: Credentials,
        prompt: str,
        attachments: Sequence[Attachment],
    ) -> tuple[Call, ArenaAnswer]:
        timeout = self._first_byte_timeout(chat.model)
        evaluation = chat.turn.evaluation
        if evaluation is not None:
            if chat.turn.kind == "regenerate":
                call = evaluations.regenerate(evaluation.id, evaluation.message_id)
            else:
                new_id = self._new_id.later_than(evaluation.message_id)
                call = evaluations.follow_up(evaluation.id, chat.model, prompt, attachments, new_id)
            return call, await self._client.open(call, credentials, first_byte_timeout=timeout)
        await self._modes.wait_for_room()
        user_id = account.user_id
        mode = self._modes.choose(user_id)
        call = evaluations.create(chat.model, prompt, attachments, self._new_id, mode=mode)
        sent = self._modes.sent()
        try:
            answer = await self._client.open(call, credentials, first_byte_timeout=timeout)
            self._modes.accepted(user_id, mode)
        except ModeRefused:
            self._modes.refused(user_id, mode)
            raise
        finally:
            self._modes.answered(sent)
        return call, answer

    async def _judge(self, error: UpstreamError, chat: ChatState, account: Account) -> UpstreamError:
        """Reinterpret an error by what else is known about the account and the evaluation."""
        match error:
            case SessionExpired():
                return await self._judge_refused_cookie(error, chat, account)
            case EvaluationGone() if chat.turn.evaluation is None and "evaluation" not in error.detail.lower():
                return NotFound("LMArena answered 404 to the start of a new chat.", status=error.status)
            case NotFound() if chat.turn.evaluation is not None:
                return EvaluationGone(error.message, status=error.status)
        return error

    async def _judge_refused_cookie(self, error: SessionExpired, chat: ChatState, account: Account) -> UpstreamError:
        """Find out why a cookie was refused: it may have expired, have been replaced, or be refused only this once."""
        alive = await self._renewals.is_alive(account)
        if alive is None:
            failing = self._renewals.failing(account.user_id)
            why = "LMArena did not answer in time." if failing is None else failing.error.message
            left = {each.user_id for each in self._pool.usable(chat.model.modality)}
            left -= chat.tried | self._renewals.unready()
            kind = NotRenewed if left else NoneRenewed
            return kind(f"LMArena refused the account's cookie, and the bridge could not check the login: {why}")
        if alive:
            current = self._pool.get(account.user_id)
            replaced = current is not None and current.session.value != account.session.value
            chat.good_cookies_refused += 1
            if replaced and chat.good_cookies_refused > 1:
                self._rotations.overtaken(account.user_id)
            if chat.good_cookies_refused <= (StaleCookie.max_corrections if replaced else 1):
                return StaleCookie(error.message, status=error.status)
        return error

    def _learn(self, error: UpstreamError, chat: ChatState, account: Account) -> None:
        """Record what a failed attempt says about the account, the evaluation and the next attempt."""
        if error.repeat is Repeat.CORRECTED:
            chat.stay_with = account.user_id
        match error:
            case SessionExpired() if error.repeat is not Repeat.CORRECTED:
                self._pool.expire(account)
                self._renewals.wake()
            case NotRenewed():
                chat.turn.start_anew("account")
            case GuestSession() | TermsNotAccepted():
                self._pool.set_bar(account.user_id, error.reason)
            case RateLimited(retry_after=retry_after):
                self._pool.cool_down(account, chat.model.modality, retry_after)
            case PromptFailed(retry_after=retry_after):
                self._pool.cool_down(account, EVERYTHING, retry_after)
            case BattleRequired():
                self._follow_ups.refused(account.user_id)
                chat.untouched = False  # it could only be continued after a vote in a browser
                chat.turn.start_anew("battle")
            case IdsRefused():
                self._new_id.follow_clock()
            case EvaluationGone() | WrongAccount():
                chat.untouched = False
                chat.turn.start_anew("gone")
            case _ if error.repeat is Repeat.POSSIBLY_ACCEPTED:
                chat.turn.start_anew("uncertain")

    def _first_byte_timeout(self, model: Model) -> float:
        timeouts = self._config().upstream
        return timeouts.image_first_byte_timeout if model.modality == "image" else timeouts.first_byte_timeout
