"""The site itself, without a socket: each call is answered by the rules of PROTOCOL.md, or refused as the site would.

A call passes, in this order: clearance, account, form, evaluation, armed fault. Only then does anything happen.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from upstream.arena import replies
from upstream.arena.accounts import Accounts, Session, joined, read_cookies
from upstream.arena.actions import ACTIONS, failed, read_arguments
from upstream.arena.behaviour import answer
from upstream.arena.bodies import Asked, read_create, read_follow_up, read_regenerate
from upstream.arena.calls import Call
from upstream.arena.deployment import Deployment
from upstream.arena.evaluations import Evaluation, Message, Turn
from upstream.arena.faults import STREAM_KINDS, Faults, rotate
from upstream.arena.models import Model, catalogue
from upstream.arena.replies import Header, Issue, RefusedError, Reply
from upstream.arena.steps import Open, Step, flowing
from upstream.arena.storage import Storage
from upstream.arena.streams import Stream
from upstream.arena.written import Written

Script: TypeAlias = Callable[[Turn], AsyncIterator[Step] | Iterable[Step]]
Cookies: TypeAlias = Mapping[str, str]
Begin: TypeAlias = Callable[[], Evaluation]  # carries out a turn that has been found good

# Bounds for an arena that runs for weeks; the oldest go first.
_CALLS: Final = 10_000
_EVALUATIONS: Final = 10_000
_IDS: Final = 200_000

_LIMIT, _WINDOW_SECONDS = 3000, 300  # as in the captured header `ratelimit-policy: 3000;w=300`
_CONTENT_TYPE: Final = "text/plain;charset=utf-8"  # compared without regard to case and blanks
_COMPONENT: Final = "text/x-component"

_STREAM: Final = "/nextjs-api/stream"
_ROUTES: Final = tuple(
    (method, re.compile(pattern), kind)
    for method, pattern, kind in (
        ("GET", r"/", "page"),
        ("POST", r"/", "action"),
        ("GET", r"/_next/static/chunks/[^/]+\.js", "script"),
        ("POST", rf"{_STREAM}/create-evaluation", "create"),
        ("POST", rf"{_STREAM}/post-to-evaluation/(?P<evaluation>[^/]+)", "follow-up"),
        (
            "PUT",
            rf"{_STREAM}/retry-evaluation-session-message/(?P<evaluation>[^/]+)/messages/(?P<message>[^/]+)",
            "regenerate",
        ),
    )
)


class Site:
    """LMArena's site and its storage: accounts, evaluations, models, deployments, and the trouble armed for them.

    `clock` tells the time in unix seconds; tests may move it. `clearance`, where set, is the `cf_clearance` that calls
    must show; `script`, where set, answers for every model.
    """

    def __init__(self, *, pace: float = 0.0, models: Sequence[Model] | None = None) -> None:
        self.origin = ""
        self.pace = pace
        self.clock: Callable[[], float] = time.time
        self.models: tuple[Model, ...] = catalogue() if models is None else tuple(models)
        self.clearance: str | None = None
        self.script: Script | None = None
        self.faults = Faults()
        self.storage = Storage(secrets.token_bytes(32), self.faults, lambda: self.clock())
        self.evaluations: dict[str, Evaluation] = {}
        self.calls: deque[Call] = deque(maxlen=_CALLS)
        self.deployment = Deployment(1)
        self._accounts = Accounts()
        self._used_ids: dict[str, None] = {}
        self._answered: Counter[str] = Counter()  # streams per account, for the ratelimit headers

    def sign_in(self, email: str = "ada@example.org", *, expires_in: float = 7 * 86400.0) -> Session:
        """A new session of that address's account, good for `expires_in` seconds."""
        now = self.clock()
        return self._accounts.sign_in(email, expires_at=int(now + expires_in), now=now)

    def expire(self, session: Session) -> None:
        """The session's cookie is refused from now on."""
        self._accounts.expire(session)

    def rotate(self, session: Session, pieces: bool = False) -> None:
        """The next answer to this session sets a new cookie; from then on the old one is dead."""
        rotate(session, pieces=pieces)

    def deploy(self) -> None:
        """Deploy the site anew: other script names, other action ids."""
        self.deployment = Deployment(self.deployment.number + 1)

    def model(self, name: str) -> Model:
        """The first model of that public name, or the one of that id; KeyError if there is none."""
        for model in self.models:
            if name in (model.public_name, model.id):
                return model
        raise KeyError(name)

    def receive(self, call: Call) -> Reply | Stream:
        """Answer a call, and note in it what it was and why it was refused."""
        self.calls.append(call)
        cookies = read_cookies(call.headers.get("cookie", ""))
        try:
            answer = self._answer(call, cookies)
        except RefusedError as refused:
            answer = refused.reply
        if isinstance(answer, Reply):
            call.refusal = answer.why
            answer = answer.adding(self._renewal(call, cookies))
        return answer

    def _answer(self, call: Call, cookies: Cookies) -> Reply | Stream:
        call.kind, names = _route(call)
        if self.clearance is not None and cookies.get("cf_clearance") != self.clearance:
            return replies.challenge()
        if call.kind in STREAM_KINDS:
            return self._stream(call, cookies, names)
        return self._asset(call, cookies)

    # Pages, scripts, actions

    def _asset(self, call: Call, cookies: Cookies) -> Reply | Stream:
        """A visitor may read without signing in; a dead session is refused all the same."""
        if joined(cookies) or call.kind == "action":
            call.session = self._accounts.recognise(cookies, self.clock())
        make = self._found(call)
        bend = self.faults.disturb(call)
        reply = make()
        if bend is None:
            return reply
        source = flowing(*reply.adding(self._renewal(call, cookies)).steps())
        return Stream(bend(source), source)

    def _found(self, call: Call) -> Callable[[], Reply]:
        """What makes the answer."""
        direct = call.query.get("mode") == "direct"
        match call.kind:
            case "page" if direct:
                return lambda: Reply(200, replies.HTML, self.deployment.page(self.models))
            case "script" if call.path in (scripts := self.deployment.scripts):
                return lambda: Reply(200, "application/javascript; charset=UTF-8", scripts[call.path])
            case "action" if direct and call.session is not None:
                return self._action(call, call.session)
            case _:
                raise RefusedError(replies.not_found())

    def _action(self, call: Call, session: Session) -> Callable[[], Reply]:
        names = {action_id: name for name, action_id in self.deployment.actions.items()}
        name = names.get(call.headers.get("next-action", ""))
        if name is None:
            raise RefusedError(replies.stale_action())
        action = ACTIONS[name]
        call.kind = action.kind
        self._check_content_type(call)
        if call.headers.get("accept") != _COMPONENT:
            raise RefusedError(replies.error(400, f"Expected to be asked for {_COMPONENT}"))
        if call.headers.get("origin", self.origin) != self.origin:
            raise RefusedError(replies.error(403, "Invalid origin"))
        arguments = read_arguments(call.body, action.arguments)

        def act() -> Reply:
            if call.action_error is None:
                result = action.run(self.storage, session.user_id, call.signed_ago, *arguments)
            else:
                result = failed(call.action_error)
            return Reply(200, _COMPONENT, self.deployment.action_answer(self.models, result), why=result.get("error"))

        return act

    # Evaluations

    def _stream(self, call: Call, cookies: Cookies, names: Mapping[str, str]) -> Stream:
        call.evaluation_id = names.get("evaluation")
        call.session = self._accounts.recognise(cookies, self.clock())
        self._check_content_type(call)
        match call.kind:
            case "create":
                begin = self._create(call, call.session)
            case "follow-up":
                begin = self._follow_up(call, call.session)
            case _:
                begin = self._regenerate(call, call.session, names["message"])
        bend = self.faults.disturb(call)
        evaluation = begin()
        steps = self._speak(Turn(evaluation.model, evaluation, tuple(evaluation.messages)))
        headers = [("content-type", "text/event-stream"), ("cache-control", "no-cache"), *self._ratelimit(call.session)]
        source = flowing(Open(200, (*headers, *self._renewal(call, cookies))), steps)
        return Stream(
            source if bend is None else bend(source),
            source,
            bursts=not isinstance(steps, AsyncIterable),
            written=Written(evaluation),
        )

    def _create(self, call: Call, session: Session) -> Begin:
        asked = read_create(call.body)
        call.evaluation_id, call.model_id = asked.evaluation_id, asked.model_id
        self._check_origin(call)
        model, message = self._check_model(asked), self._message(asked, session)
        self._use_ids(id=asked.evaluation_id, userMessageId=asked.user_message_id, modelAMessageId=asked.answer_id)

        def begin() -> Evaluation:
            evaluation = Evaluation(asked.evaluation_id, session.user_id, model)
            self.evaluations[evaluation.id] = evaluation
            _trim(self.evaluations, _EVALUATIONS)
            evaluation.ask(message, asked.answer_id)
            return evaluation

        return begin

    def _follow_up(self, call: Call, session: Session) -> Begin:
        asked = read_follow_up(call.body)
        call.model_id = asked.model_id
        self._check_origin(call)
        if asked.evaluation_id != call.evaluation_id:
            raise RefusedError(replies.invalid([Issue(("id",), "must be the id in the path")]))
        evaluation = self._idle(call, session)
        if self._check_model(asked) != evaluation.model:
            raise RefusedError(replies.error(400, "The evaluation session belongs to another model"))
        if asked.user_message_id <= evaluation.answer_id:
            raise RefusedError(replies.invalid([Issue(("userMessageId",), "must be later than the last answer")]))
        message = self._message(asked, session)
        self._use_ids(userMessageId=asked.user_message_id, modelAMessageId=asked.answer_id)

        def begin() -> Evaluation:
            evaluation.ask(message, asked.answer_id)
            return evaluation

        return begin

    def _regenerate(self, call: Call, session: Session, answer_id: str) -> Begin:
        read_regenerate(call.body)
        self._check_origin(call)
        evaluation = self._idle(call, session)
        call.model_id = evaluation.model.id
        if answer_id != evaluation.answer_id:
            raise RefusedError(replies.error(400, "Only the last answer can be generated again"))

        def begin() -> Evaluation:
            evaluation.ask_again()
            return evaluation

        return begin

    def _idle(self, call: Call, session: Session) -> Evaluation:
        """The evaluation that a call is about, if it is the caller's and not answering."""
        evaluation = self.evaluations.get(call.evaluation_id or "")
        if evaluation is None:
            raise RefusedError(replies.evaluation_gone())
        if evaluation.owner != session.user_id:
            raise RefusedError(replies.wrong_account(user_id=session.user_id, evaluation_id=evaluation.id))
        if evaluation.answering:  # what the site says here has not been seen
            raise RefusedError(replies.error(400, "The evaluation session is still answering"))
        return evaluation

    def _check_origin(self, call: Call) -> None:
        """The browser's own headers, where present, must be those of the conversation's page."""
        expected = {"origin": self.origin, "referer": f"{self.origin}/c/{call.evaluation_id}"}
        for name, value in expected.items():
            if call.headers.get(name, value) != value:
                raise RefusedError(replies.error(403, f"Invalid {name}"))

    def _check_content_type(self, call: Call) -> None:
        if call.headers.get("content-type", "").replace(" ", "").lower() != _CONTENT_TYPE:
            raise RefusedError(replies.error(400, f"Unsupported content type, expected {_CONTENT_TYPE}"))

    def _check_model(self, asked: Asked) -> Model:
        """The model that is asked for, if it can take such a message."""
        model = next((model for model in self.models if model.id == asked.model_id), None)
        if model is None:
            raise RefusedError(replies.error(400, "Model not found"))
        if asked.modality != model.modality:
            raise RefusedError(replies.error(400, f"Model does not support the modality {asked.modality}"))
        images = model.inputs.get("image")
        if asked.attachments and not images:
            raise RefusedError(replies.error(400, "Model does not support image input"))
        if len(asked.attachments) > 1 and isinstance(images, Mapping) and not images.get("multipleImages"):
            raise RefusedError(replies.error(400, "Model does not support multiple images"))
        return model

    def _message(self, asked: Asked, session: Session) -> Message:
        """The message with its attachments as the model sees them: each a signed URL of an upload of that account."""
        return Message("user", asked.content, tuple(self._seen(each, session) for each in asked.attachments))

    def _seen(self, attachment: Mapping[str, str], session: Session) -> Mapping[str, Any]:
        try:
            key, found = self.storage.find(attachment["url"])
        except RefusedError as refused:
            raise RefusedError(replies.error(400, f"Invalid attachment: {refused}")) from refused
        if key != attachment["name"] or not key.startswith(f"{session.user_id}/"):
            raise RefusedError(replies.error(400, "Invalid attachment: its name is not the key of an upload of yours"))
        if found.content_type != attachment["contentType"]:
            raise RefusedError(replies.error(400, f"Invalid attachment: it is stored as {found.content_type}"))
        return {**attachment, "bytes": len(found.data), "sha256": found.sha256}

    def _use_ids(self, **ids: str) -> None:
        """An id serves once, in a call that a fault refuses too: every attempt brings ids of its own."""
        if used := [Issue((name,), "already exists") for name, value in ids.items() if value in self._used_ids]:
            raise RefusedError(replies.invalid(used))
        self._used_ids.update(dict.fromkeys(ids.values()))
        _trim(self._used_ids, _IDS)

    # What goes along with every answer

    def _speak(self, turn: Turn) -> AsyncIterator[Step] | Iterable[Step]:
        if self.script is not None:
            return self.script(turn)
        return answer(turn, pace=self.pace, picture=self.storage.draw)

    def _renewal(self, call: Call, cookies: Cookies) -> list[Header]:
        return [] if call.session is None else self._accounts.renew(call.session, cookies, self.clock())

    def _ratelimit(self, session: Session) -> list[Header]:
        remaining = _LIMIT - 1 - self._answered[session.user_id] % _LIMIT
        self._answered[session.user_id] += 1
        return [
            ("ratelimit", f"limit={_LIMIT}, remaining={remaining}, reset={_WINDOW_SECONDS}"),
            ("ratelimit-remaining", str(remaining)),
            ("x-request-id", secrets.token_hex(16)),
        ]


def _route(call: Call) -> tuple[str, Mapping[str, str]]:
    """The kind of a call, and the names in its path."""
    for method, pattern, kind in _ROUTES:
        if method == call.method and (found := pattern.fullmatch(call.path)):
            return kind, found.groupdict()
    return "unknown", {}


def _trim(table: dict[str, Any], bound: int) -> None:
    while len(table) > bound:
        del table[next(iter(table))]
