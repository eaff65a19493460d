"""The page of one request: what was asked for, its course, how it ended and why, and what may be done with it."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
from aiohttp import web

import bridge
from bridge.access.logins import Login
from bridge.activity.entry import Entry
from bridge.diagnosis import ADVICE
from bridge.errors import not_there
from bridge.state.documents import StateError
from handlers.dashboard.activity import KEPT
from handlers.dashboard.pages import render, template
from handlers.dashboard.timeline import WIDTH, bars_of
from handlers.request.activity import entry_of
from handlers.request.appkeys import ACTIVITY, ENDED
from upstream.protocol.errors import Reason

#: What `why=` means in `x-bridge-conversation`.
WHY: Final[Mapping[str, str]] = {
    "known": "the history is that of an evaluation, which the last message was sent to",
    "repeated": "the same request came once more, and the site answered its turn again",
    "first": "there was no earlier answer in the request",
    "unknown": "no evaluation had this history: it was edited, or the bridge was restarted, or it is too long ago",
    "busy": "the evaluation was answering another request",
    "account": "the evaluation's account was gone, expired or resting",
    "shape": "something else followed the last answer than one plain message, or the results of its calls",
    "tools": "the history was known, with other tools, or another form of the answer",
    "gone": "the site no longer had the evaluation",
    "uncertain": "an earlier attempt may have reached the evaluation",
    "battle": "the evaluation demanded a battle, which only a human can settle",
    "follow_ups": "this account was not given follow-ups",
    "apart": "pictures are drawn in evaluations of their own",
}

_CONVERSATION: Final = re.compile(r"([a-z-]+); why=([a-z_]+)")
#: What a link may lead to: an evaluation, by the address that the bridge itself composed.
_EVALUATION: Final = re.compile(r"https?://[\w.\-]+(?::\d+)?/c/[\w\-]+", re.ASCII)


async def request_page(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/activity/{id}, and its live part while the request runs. Raises ApiError (404)."""
    app, request_id = request.app, request.match_info["id"]
    running = next((each for each in app[ACTIVITY].running_newest() if each.request_id == request_id), None)
    if running is not None:
        entry: Entry | None = entry_of(running)
    else:
        await app[ENDED].flush()
        try:
            entry = await app[KEPT].get(request_id)
        except OSError as error:
            raise StateError(f"the kept requests cannot be read: {error.strerror}") from None
    if entry is None:
        raise not_there(f"No request {request_id} is kept: it is too long ago, or its id is another one.")
    shown = {
        "entry": entry,
        "running": running,
        "bars": bars_of(entry),
        "width": WIDTH,
        "advice": ADVICE.get(_reason(entry), ADVICE[Reason.UPSTREAM_ERROR]),
        "conversation": _conversation(entry),
        "linked": bool(_EVALUATION.fullmatch(entry.evaluation)),
        "report": bug_report(entry),
    }
    return await render(request, template(request, "request"), login, shown)


def bug_report(entry: Entry) -> str:
    """What may be shown to others: JSON without names of keys and accounts, addresses, prompts or evaluations."""
    accounts = list(dict.fromkeys(attempt.account for attempt in entry.attempts))
    names = {name: f"account {number}" for number, name in enumerate(accounts, 1)}
    plain: dict[str, Any] = orjson.loads(entry.to_line())
    for private in ("key", "account", "evaluation", "prompt"):
        plain.pop(private, None)
    for attempt in plain.get("attempts", ()):
        attempt[0] = names[attempt[0]]
    for name in (*sorted(accounts, key=len, reverse=True), entry.key):
        if name and "message" in plain:
            plain["message"] = plain["message"].replace(name, names.get(name, "(key)"))
    plain["bridge"] = bridge.__version__
    plain["python"] = platform.python_version()
    plain["system"] = platform.system()
    return orjson.dumps(plain, option=orjson.OPT_INDENT_2).decode()


def _reason(entry: Entry) -> Reason:
    return next((reason for reason in Reason if reason == entry.word), Reason.UPSTREAM_ERROR)


def _conversation(entry: Entry) -> tuple[str, str]:
    """How the request continued a conversation, and why so; both '' where that is not known."""
    found = _CONVERSATION.fullmatch(entry.conversation)
    return (found[1], WHY.get(found[2], found[2])) if found else ("", "")
