"""Answers all calls but chats: pages, scripts, catalog, the user's data, evaluations read back, server actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import orjson

from upstream.arena import replies
from upstream.arena.accounts import Session
from upstream.arena.actions import ACTIONS, Uploads, failed, read_arguments
from upstream.arena.calls import Call
from upstream.arena.catalog import catalog
from upstream.arena.chats import check_content_type, find_evaluation
from upstream.arena.replies import RefusedError, Reply
from upstream.arena.world import World

MakeReply: TypeAlias = Callable[[], Reply]  # makes the answer to a call that has passed all checks

_COMPONENT: Final = "text/x-component"


def make_asset(world: World, call: Call, names: Mapping[str, str]) -> MakeReply:
    """Check `call`, whose session has been recognised, and return a function that answers it.

    `names` are the variables in its path.

    Raises:
        RefusedError: the site would refuse the call.
    """
    match call.kind, call.session:
        case "page", _:
            path = call.path if world.era == 2026 else world.page_path
            return lambda: Reply(
                200,
                replies.HTML,
                world.deployment.page(path, world.page_entries(), bare_names=world.bare_script_names),
            )
        case "script", _ if call.path in (scripts := world.deployment.scripts):
            return lambda: Reply(200, "application/javascript; charset=UTF-8", scripts[call.path])
        case "script", _:
            raise RefusedError(replies.not_found())
        case "catalog", _:
            if not world.catalog_served:
                raise RefusedError(replies.error(404, "Not found"))
            return lambda: _json(catalog(world.models))
        case "me", Session() as session:
            return lambda: _me(world, session)
        case "evaluation", Session() as session:
            call.evaluation_id = names["evaluation"]
            evaluation = find_evaluation(world, call, session)
            return lambda: _json(evaluation.shown())
        case "action", Session() as session:
            return _action(world, call, session)
        case "forbidden", _:
            raise RefusedError(replies.forbidden())
        case "wrong method", _:
            raise RefusedError(replies.not_allowed())
        case _:
            raise RefusedError(replies.not_found(status=404 if world.era == 2025 else 200))


def _me(world: World, session: Session) -> Reply:
    me = {"id": session.user_id, "email": "" if session.guest else session.email}
    if session.consented:
        me["touConsentTimestamp"] = world.timestamp()
    return _json(me)


def _action(world: World, call: Call, session: Session) -> MakeReply:
    names = {action_id: name for name, action_id in world.deployment.actions.items()}
    name = names.get(call.headers.get("next-action", ""))
    if name is None:
        raise RefusedError(replies.stale_action())
    action = ACTIONS[name]
    call.kind = action.kind
    check_content_type(call)
    if call.headers.get("accept") != _COMPONENT:
        raise RefusedError(replies.error(400, f"Unsupported accept header, expected {_COMPONENT}"))
    if call.headers.get("origin", world.origin) != world.origin:
        raise RefusedError(replies.error(403, "Invalid origin"))
    arguments = read_arguments(call.body, action.arguments)

    def act() -> Reply:
        if call.action_error is None:
            uploads = Uploads(world.storage, world.era)
            result = action.run(uploads, session.user_id, call.signed_ago, *arguments)
        else:
            result = failed(call.action_error)
        answer = world.deployment.action_answer(world.page_entries(), result)
        return Reply(200, _COMPONENT, answer, why=result.get("error"))

    return act


def _json(value: object) -> Reply:
    return Reply(200, replies.JSON, orjson.dumps(value))
