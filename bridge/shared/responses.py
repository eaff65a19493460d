"""Stored responses of all processes. Those that a request continues are fetched before the request is handled.

`StoredResponses` holds what this process has stored or fetched last; Redis decides whether a response still exists. In
an outage a process can continue only the responses that it knows.

    put or removed here ──▶ sent ──▶ confirmed: all other processes see it
             │               ▲ │
             └──▶ unsent ────┘ │ Redis fails meanwhile
      in an outage  ▲  after it│
                    └──────────┘
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Final

from bridge.dialects.responses.stored import MAX_BYTES, MAX_CHAIN, MAX_RESPONSES, Stored, StoredResponses
from bridge.shared.connection import Command, Reply
from bridge.shared.errors import CommandRefused
from bridge.shared.link import Link
from bridge.shared.script import Script
from bridge.state.errors import StateUnavailable

#: How long a response is kept, in seconds.
KEPT_SECONDS: Final = 30 * 86_400
#: How many responses of a chain are read in one round trip.
CHAIN_STEP: Final = 64
#: How many responses that were stored or removed in an outage are sent after it.
MAX_UNSENT: Final = 1_000

_CHAIN: Final = Script("chain")
_KEEP: Final = Script("keep")

_logger = logging.getLogger(__name__)


class RedisResponses:
    """Writes this process's stored responses to Redis, and fetches those of others into `stored`."""

    def __init__(self, link: Link, stored: StoredResponses) -> None:
        self._link = link
        self._stored = stored
        self._unsent: OrderedDict[str, Stored | None] = OrderedDict()
        self._last: asyncio.Future[list[Reply]] | None = None  # to what was sent last; replies come in order
        stored.on_change(self._changed)
        link.on_reconnect(self._send_again)

    async def fetch(self, owner: str, ids: Iterable[str]) -> None:
        """Fetch these responses of `owner`, and those that they continue."""
        with suppress(StateUnavailable):
            for id_ in ids:
                await self._fetch(owner, id_)

    async def _fetch(self, owner: str, id_: str) -> None:
        before: str | None = id_
        for _ in range(0, MAX_CHAIN, CHAIN_STEP):
            if before is None:
                return
            reply = await self._link.call(_CHAIN.call((self._prefix,), before, owner, CHAIN_STEP, MAX_BYTES))
            before = self._take(owner, reply)

    def _take(self, owner: str, reply: list[bytes]) -> str | None:
        """Store a part of a chain in this process; return the id of the response that precedes it, or None."""
        before: str | None = None
        for at in range(0, len(reply), 4):
            id_ = reply[at].decode("utf-8", "replace")
            if len(reply) < at + 4:
                if id_ not in self._unsent:
                    self._stored.remove_unreported(id_)
                return None
            before = reply[at + 1].decode("utf-8", "replace") or None
            stored = Stored(owner, before, reply[at + 2], reply[at + 3])
            if stored == self._stored.find(owner, id_):
                continue
            if not stored.is_whole:
                _logger.warning("stored response %s in Redis was not written by the bridge", id_[:100])
                self._stored.remove_unreported(id_)
                return None
            self._stored.put_unreported(id_, stored)
        return before

    @property
    def has_unconfirmed(self) -> bool:
        """Whether other processes may not see yet what was put or removed here."""
        return self._last is not None

    async def wait_until_confirmed(self) -> None:
        """Wait until other processes see what was put or removed here, or Redis fails, for at most its timeout."""
        if self._last is not None:
            await asyncio.wait((self._last,))

    def _changed(self, id_: str, stored: Stored | None) -> None:
        """A response was stored here, or deleted (None)."""
        if self._link.usable:
            self._unsent.pop(id_, None)  # what is sent now is newer
            self._last = self._link.send(self._keep(id_, stored))
            self._last.add_done_callback(partial(self._replied, id_, stored))
        else:
            self._leave_unsent(id_, stored)

    def _leave_unsent(self, id_: str, stored: Stored | None) -> None:
        self._unsent[id_] = stored
        if len(self._unsent) > MAX_UNSENT:
            self._unsent.popitem(last=False)

    def _replied(self, id_: str, stored: Stored | None, replies: asyncio.Future[list[Reply]]) -> None:
        if self._last is replies:
            self._last = None
        if replies.exception() is not None:  # it may have been stored, but that is not known
            self._leave_unsent(id_, stored)
            return
        for refused in replies.result():
            if isinstance(refused, CommandRefused):  # the key is not the bridge's: only this process has it
                _logger.warning("%s", refused)
                self._leave_unsent(id_, stored)

    async def _send_again(self) -> None:
        """Send what was put or removed in an outage, and wait until other processes see it."""
        unsent, self._unsent = self._unsent, OrderedDict()
        for id_, stored in unsent.items():
            self._changed(id_, stored)
        await self.wait_until_confirmed()

    def _keep(self, id_: str, stored: Stored | None) -> Command:
        words = ("", "", b"", b"") if stored is None else (stored.owner, stored.previous or "", *stored[2:])
        limits = (KEPT_SECONDS * 1000, MAX_RESPONSES, MAX_BYTES)
        return _KEEP.call((self._prefix, self._link.key("responses")), id_, *words, *limits)

    @property
    def _prefix(self) -> str:
        return self._link.key("response", "")
