"""Chats: checks a call that begins, continues or regenerates an evaluation, and then carries it out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from upstream.arena import replies
from upstream.arena.accounts import Session
from upstream.arena.bodies import ChatBody, read_create, read_follow_up, read_regenerate
from upstream.arena.calls import Call
from upstream.arena.evaluations import Evaluation, Message
from upstream.arena.ids import milliseconds_of
from upstream.arena.models import Model
from upstream.arena.replies import Issue, RefusedError
from upstream.arena.world import World

BeginTurn: TypeAlias = Callable[[], Evaluation]  # carries out a turn that has passed all checks

_CONTENT_TYPE: Final = "text/plain;charset=utf-8"  # compared without case and blanks
_PDF: Final = "application/pdf"


def begin_turn(world: World, call: Call, session: Session, names: Mapping[str, str]) -> BeginTurn:
    """Check `call` and return a function that begins its turn; `names` are the variables in its path.

    Raises:
        RefusedError: the site would refuse the call.
    """
    call.evaluation_id = names.get("evaluation")
    if session.guest:
        raise RefusedError(replies.login_gate())
    if not session.consented:
        raise RefusedError(replies.terms_not_accepted())
    check_content_type(call)
    match call.kind:
        case "create":
            return _create(world, call, session)
        case "follow-up":
            return _follow_up(world, call, session)
        case _:
            return _regenerate(world, call, session, names["message"])


def check_content_type(call: Call) -> None:
    """Require the content type that browsers send with every body. Raises RefusedError (400)."""
    if call.headers.get("content-type", "").replace(" ", "").lower() != _CONTENT_TYPE:
        raise RefusedError(replies.error(400, f"Unsupported content type, expected {_CONTENT_TYPE}"))


def find_evaluation(world: World, call: Call, session: Session) -> Evaluation:
    """The evaluation of a call, if it is the caller's. Raises RefusedError (404 or 401)."""
    evaluation = world.evaluations.get(call.evaluation_id or "")
    if evaluation is None:
        raise RefusedError(replies.evaluation_gone())
    if evaluation.owner != session.user_id:
        raise RefusedError(replies.wrong_account(user_id=session.user_id, evaluation_id=evaluation.id))
    return evaluation


def _create(world: World, call: Call, session: Session) -> BeginTurn:
    body = read_create(call.body, world.era)
    call.evaluation_id, call.model_id = body.evaluation_id, body.model_id
    _check_origin(world, call)
    if body.mode is not None and body.mode not in world.modes_of(session.user_id):
        raise RefusedError(replies.mode_not_allowed(body.mode))
    ids = {"id": body.evaluation_id, "userMessageId": body.user_message_id, "modelAMessageId": body.answer_id}
    _check_times(world, ids.values())
    model, message = _check_model(world, body), _message(world, body, session)
    world.use_ids(**ids)

    def begin() -> Evaluation:
        if call.battle_required:
            raise RefusedError(replies.battle_required())
        evaluation = Evaluation(body.evaluation_id, session.user_id, model)
        world.remember(evaluation)
        evaluation.ask(message, body.user_message_id, body.answer_id)
        return evaluation

    return begin


def _follow_up(world: World, call: Call, session: Session) -> BeginTurn:
    body = read_follow_up(call.body, world.era)
    call.model_id = body.model_id
    _check_origin(world, call)
    if body.evaluation_id != call.evaluation_id:
        raise RefusedError(replies.invalid([Issue(("id",), "must be the id in the path")]))
    evaluation = _ready(world, call, session)
    ids = {"userMessageId": body.user_message_id, "modelAMessageId": body.answer_id}
    _check_times(world, ids.values())
    if _check_model(world, body) != evaluation.model:
        raise RefusedError(replies.error(400, "The evaluation session belongs to another model"))
    if body.user_message_id <= evaluation.answer_id:
        raise RefusedError(replies.invalid([Issue(("userMessageId",), "must be later than the last answer")]))
    message = _message(world, body, session)
    if world.battle_every and (evaluation.follow_ups + 1) % world.battle_every == 0:
        _require_battle(evaluation)
    world.use_ids(**ids)

    def begin() -> Evaluation:
        if call.battle_required:
            _require_battle(evaluation)
        evaluation.ask(message, body.user_message_id, body.answer_id)
        return evaluation

    return begin


def _regenerate(world: World, call: Call, session: Session, answer_id: str) -> BeginTurn:
    read_regenerate(call.body)
    _check_origin(world, call)
    evaluation = _ready(world, call, session)
    call.model_id = evaluation.model.id
    if answer_id != evaluation.answer_id:
        raise RefusedError(replies.error(400, "Only the last answer can be generated again"))

    def begin() -> Evaluation:
        if call.battle_required:
            _require_battle(evaluation)
        evaluation.ask_again()
        return evaluation

    return begin


def _ready(world: World, call: Call, session: Session) -> Evaluation:
    """The evaluation of a call, if it can take another turn."""
    evaluation = find_evaluation(world, call, session)
    if evaluation.stuck:
        raise RefusedError(replies.battle_required())
    if evaluation.answering:  # the site's own message for this is not known
        raise RefusedError(replies.error(400, "The evaluation session is still answering"))
    return evaluation


def _require_battle(evaluation: Evaluation) -> None:
    """Demand a battle: the evaluation cannot continue until a human has voted, which never happens here."""
    evaluation.stuck = True
    raise RefusedError(replies.battle_required())


def _check_origin(world: World, call: Call) -> None:
    """Check that the browser's headers, if present, are those of the conversation's page."""
    expected = {"origin": world.origin, "referer": f"{world.origin}/c/{call.evaluation_id}"}
    for name, value in expected.items():
        if call.headers.get(name, value) != value:
            raise RefusedError(replies.error(403, f"Invalid {name}"))


def _check_times(world: World, ids: Iterable[str]) -> None:
    """Check that the time within each new id is close to the site's, in 2026 only."""
    if world.era == 2026:
        now = world.clock()
        if any(abs(milliseconds_of(new) / 1000 - now) > world.id_offset_seconds for new in ids):
            raise RefusedError(replies.clock_offset())


def _check_model(world: World, body: ChatBody) -> Model:
    """The requested model, if it can take such a message."""
    model = next((model for model in world.models if model.id == body.model_id), None)
    if world.era == 2025:
        if model is None:
            raise RefusedError(replies.error(400, "Model not found"))
        if body.modality != model.modality:
            raise RefusedError(replies.error(400, f"Model does not support the modality {body.modality}"))
    if model is None:
        raise RefusedError(replies.models_not_found(body.model_id))
    if world.era == 2026 and not (model.user_selectable and model.takes(body.modality)):
        raise RefusedError(replies.model_unavailable())
    _check_attachments(model, [attachment["contentType"] for attachment in body.attachments])
    return model


def _check_attachments(model: Model, content_types: list[str]) -> None:
    if _PDF in content_types and not model.inputs.get("file"):
        raise RefusedError(replies.error(400, "Model does not support file input"))
    number = sum(content_type != _PDF for content_type in content_types)
    images = model.inputs.get("image")
    if number and not images:
        raise RefusedError(replies.error(400, "Model does not support image input"))
    if number > 1 and isinstance(images, Mapping) and not images.get("multipleImages"):
        raise RefusedError(replies.error(400, "Model does not support multiple images"))


def _message(world: World, body: ChatBody, session: Session) -> Message:
    """The message as the model sees it; each attachment must be the signed URL of an upload of the same account."""
    return Message("user", body.content, tuple(_seen(world, each, session) for each in body.attachments))


def _seen(world: World, attachment: Mapping[str, str], session: Session) -> Mapping[str, Any]:
    try:
        key, found = world.storage.find(attachment["url"])
    except RefusedError as refused:
        raise RefusedError(replies.error(400, f"Invalid attachment: {refused}")) from refused
    if key != attachment["name"] or not key.startswith(f"{session.user_id}/"):
        raise RefusedError(replies.error(400, "Invalid attachment: its name is not the key of an upload of yours"))
    if found.content_type != attachment["contentType"]:
        raise RefusedError(replies.error(400, f"Invalid attachment: it is stored as {found.content_type}"))
    return {**attachment, "bytes": len(found.data), "sha256": found.sha256}
