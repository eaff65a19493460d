"""The table of evaluations that all processes share: which one a request continues, claimed in one step.

An evaluation is in Redis only while it is at rest. Whoever takes it has it alone, whatever becomes of the taker; it
comes back after a complete answer. All names have the run of the server in them: a Redis that starts again from an
older snapshot would know evaluations as they were before turns that they have had since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, cast

import orjson

from bridge.answering.conversations import CAPACITY, Evaluation, Found, Lookup, Turn, settle
from bridge.shared.connection import Command, Reply
from bridge.shared.link import Link
from bridge.shared.script import Script
from bridge.state.documents import StateUnavailable

#: How long an evaluation is kept that nobody continues, in seconds.
KEPT_SECONDS: Final = 30 * 86_400.0
#: How many evaluations are kept that a request could be known by alike; the newest.
MAX_ALIKE: Final = 32
#: How long a turn may take for others to be told that its evaluation is busy, in seconds.
BUSY_SECONDS: Final = 3600.0

_TAKE: Final = Script("take")
_PUT: Final = Script("put")


class RedisConversations:
    """The table, with the interface of `bridge.answering.conversations.SharedConversations`."""

    def __init__(self, link: Link, capacity: int = CAPACITY) -> None:
        self._link = link
        self._capacity = capacity

    async def take(self, lookup: Lookup, usable: Iterable[str]) -> Turn:
        """Find and claim what a request continues. Without Redis every conversation is new."""
        turn = lookup.turn
        digests = [_asked(turn.asked), *([_answered(lookup.before)] if lookup.before else [])]
        told, busy = turn.instructions, round(BUSY_SECONDS * 1000)
        try:
            number, *found = await self._link.call(
                _TAKE.call((self._prefix,), told, busy, len(digests), *digests, *usable)
            )
        except StateUnavailable:
            turn.why = "state"
            return turn
        if number:
            evaluation = _read(found[0])
            places: list[Found] = ["unknown", "unknown"]
            places[number - 1] = evaluation
            return settle(lookup, *places)
        whys = [cast("Found", why.decode()) for why in found]
        return settle(lookup, whys[0], whys[-1])

    def release(self, taken: Evaluation) -> asyncio.Future[list[Reply]]:
        """A turn has ended that had taken it, and has changed it."""
        return self._send(self._put(None, taken))

    def put_back(self, taken: Evaluation) -> asyncio.Future[list[Reply]]:
        """A turn has ended that had taken it, and has done nothing to it."""
        return self._send(self._put(taken, taken))

    def _send(self, command: Command) -> asyncio.Future[list[Reply]]:
        replies = self._link.send(command)
        replies.add_done_callback(asyncio.Future.exception)  # without Redis the conversation goes on with another one
        return replies

    async def put(self, evaluation: Evaluation, taken: Evaluation | None) -> None:
        """An evaluation is at rest. Without Redis it is forgotten: the conversation goes on with another one."""
        try:
            await self._link.call(self._put(evaluation, taken))
        except StateUnavailable:
            return

    @property
    def _prefix(self) -> str:
        return self._link.key("conv", self._link.run_id, "")

    def _put(self, evaluation: Evaluation | None, taken: Evaluation | None) -> Command:
        places = [] if evaluation is None else _places(evaluation)
        return _PUT.call(
            (self._prefix,),
            "" if evaluation is None else evaluation.id,
            b"" if evaluation is None else orjson.dumps(evaluation.to_json()),
            self._capacity,
            round(KEPT_SECONDS * 1000),
            MAX_ALIKE,
            len(places),
            *places,
            *([] if taken is None else _places(taken)),
        )


def _asked(digest: str) -> str:
    return f"q:{digest}"


def _answered(digest: str) -> str:
    return f"r:{digest}"


def _places(evaluation: Evaluation) -> list[str]:
    return [_asked(evaluation.asked), *map(_answered, evaluation.answered)]


def _read(text: bytes) -> Found:
    """The evaluation in its JSON; 'unknown' where it is none of this version's."""
    try:
        return Evaluation.from_json(orjson.loads(text))
    except ValueError:  # orjson's error is one too
        return "unknown"
