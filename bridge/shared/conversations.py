"""The table of evaluations that all processes share, from which a request claims the one that it continues.

An evaluation is in Redis only between turns. A request that takes it has it exclusively, even if its process dies, and
it is put back after a complete answer. The names of the keys contain the run ID of the server: a Redis that restarts
from an older snapshot would have evaluations as they were before their latest turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, cast

import orjson

from bridge.answering.conversations import CAPACITY, Evaluation, Found, Lookup, Turn, settle
from bridge.shared.connection import Command, Reply
from bridge.shared.link import Link
from bridge.shared.script import Script
from bridge.state.errors import StateUnavailable

#: How long an evaluation that nobody continues is kept, in seconds.
KEPT_SECONDS: Final = 30 * 86_400.0
#: How many evaluations with the same digest are kept: the newest ones.
MAX_ALIKE: Final = 32
#: For how long other requests are told that an evaluation that was taken is busy, in seconds.
BUSY_SECONDS: Final = 3600.0

_TAKE: Final = Script("take")
_PUT: Final = Script("put")


class RedisConversations:
    """The table, with the interface of `bridge.answering.conversations.SharedConversations`."""

    def __init__(self, link: Link, capacity: int = CAPACITY) -> None:
        self._link = link
        self._capacity = capacity

    async def take(self, lookup: Lookup, usable: Iterable[str]) -> Turn:
        """Find and claim the evaluation that a request continues. Without Redis every conversation is new."""
        turn = lookup.turn
        digests = [_asked(turn.asked), *([_answered(lookup.before)] if lookup.before else [])]
        busy_ms = round(BUSY_SECONDS * 1000)
        call = _TAKE.call((self._prefix,), turn.instructions, busy_ms, len(digests), *digests, *usable)
        try:
            number, *found = await self._link.call(call)
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
        """The turn that had taken this evaluation has ended, and has changed it."""
        return self._send(self._put(None, taken))

    def put_back(self, taken: Evaluation) -> asyncio.Future[list[Reply]]:
        """The turn that had taken this evaluation has ended without changing it."""
        return self._send(self._put(taken, taken))

    def _send(self, command: Command) -> asyncio.Future[list[Reply]]:
        replies = self._link.send(command)
        # The exception is retrieved: without Redis, the conversation simply continues in a new evaluation.
        replies.add_done_callback(asyncio.Future.exception)
        return replies

    async def put(self, evaluation: Evaluation, taken: Evaluation | None) -> None:
        """Store an evaluation after its turn. Without Redis it is lost, and the conversation continues in a new one."""
        with suppress(StateUnavailable):
            await self._link.call(self._put(evaluation, taken))

    @property
    def _prefix(self) -> str:
        return self._link.key("conv", self._link.run_id, "")

    def _put(self, evaluation: Evaluation | None, taken: Evaluation | None) -> Command:
        digests = [] if evaluation is None else _digests(evaluation)
        return _PUT.call(
            (self._prefix,),
            "" if evaluation is None else evaluation.id,
            b"" if evaluation is None else orjson.dumps(evaluation.to_json()),
            self._capacity,
            round(KEPT_SECONDS * 1000),
            MAX_ALIKE,
            len(digests),
            *digests,
            *([] if taken is None else _digests(taken)),
        )


def _asked(digest: str) -> str:
    return f"q:{digest}"


def _answered(digest: str) -> str:
    return f"r:{digest}"


def _digests(evaluation: Evaluation) -> list[str]:
    return [_asked(evaluation.asked), *map(_answered, evaluation.answered)]


def _read(text: bytes) -> Found:
    """Parse an evaluation; 'unknown' if this version cannot."""
    try:
        return Evaluation.from_json(orjson.loads(text))
    except ValueError:  # orjson's error is one too
        return "unknown"
