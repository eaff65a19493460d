"""Explanations of a recorded request: how it continued a conversation, what to do about its end, a bug report."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

import bridge
from bridge.activity.entry import Entry
from bridge.diagnosis import Advice, advice_after
from upstream.protocol.errors import Reason

#: The meanings of `why=` in `x-bridge-conversation`.
WHY: Final[Mapping[str, str]] = {
    "known": "the history is that of an evaluation, to which the last message was sent",
    "repeated": "the same request was repeated, and the site answered its turn again",
    "first": "there was no earlier answer in the request",
    "unknown": "no evaluation had this history: it was edited, or the bridge was restarted, or it is too old",
    "busy": "the evaluation was answering another request",
    "account": "the evaluation's account was gone, expired or on cooldown",
    "shape": "what followed the last answer was not one plain message, nor the results of its calls",
    "tools": "the history was known, but with other tools or another response format",
    "gone": "the site no longer had the evaluation",
    "uncertain": "an earlier attempt may have reached the evaluation",
    "battle": "the evaluation demanded a battle, which only a human can settle",
    "follow_ups": "follow-ups are off, or suspended for this account",
    "state": "Redis, which holds the shared conversations, could not be reached",
    "same": "the same request was already being answered, and this one was given that answer",
    "apart": "each picture is drawn in a new evaluation",
}

_CONVERSATION: Final = re.compile(r"([a-z-]+); why=([a-z_]+)")


def conversation_of(entry: Entry) -> tuple[str, str]:
    """How a request continued a conversation, and why in this way; both are '' if that is not known."""
    found = _CONVERSATION.fullmatch(entry.conversation)
    return (found[1], WHY.get(found[2], found[2])) if found else ("", "")


def advice_for(entry: Entry) -> Advice:
    """Why a request ended as it did, and what to do now."""
    reason = next((reason for reason in Reason if reason == entry.word), Reason.UPSTREAM_ERROR)
    return advice_after(reason, refused_here=entry.refused)


def bug_report(entry: Entry) -> str:
    """JSON that may be shown to others: without names of keys and accounts, addresses, prompts and evaluations."""
    accounts = list(dict.fromkeys(attempt.account for attempt in entry.attempts))
    names = {name: f"account {number}" for number, name in enumerate(accounts, 1)}
    plain: dict[str, Any] = orjson.loads(entry.to_line())
    for private in ("key", "account", "evaluation", "prompt"):
        plain.pop(private, None)
    for attempt in plain.get("attempts", ()):
        attempt[0] = names.get(attempt[0], "account")
    for name in (*sorted(accounts, key=len, reverse=True), entry.key):
        if name and "message" in plain:
            plain["message"] = plain["message"].replace(name, names.get(name, "(key)"))
    plain["bridge"] = bridge.__version__
    plain["python"] = platform.python_version()
    plain["system"] = platform.system()
    return orjson.dumps(plain, option=orjson.OPT_INDENT_2).decode()
