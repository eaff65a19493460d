"""Statistics of all processes: each adds what it has counted to one set of leaves in Redis, every few seconds.

What a process adds at a time is a *share*. Its shares are numbered, and Redis accepts each only once and only after the
one before it, so a share whose reply was lost can be sent again without being counted twice. If Redis has lost the
leaves, a process writes them again as it read them last, with the numbers of the shares in them; every process then
sends its later shares again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from bridge.shared.link import Link
from bridge.shared.script import Script, Word
from bridge.state.documents import StateFolder
from bridge.state.errors import StateError, StateUnavailable
from bridge.state.formats import DocumentFormat
from bridge.statistics.account_use import ANSWER_HOURS, LAST_ANSWERS
from bridge.statistics.file import FLUSH_SECONDS
from bridge.statistics.leaves import SEPARATOR, Change, changes, leaves, tree
from bridge.statistics.spans import HOUR
from bridge.statistics.stats import HORIZONS, Stats

#: How long statistics that were read are shown before they are read again, in seconds.
FRESH_SECONDS: Final = 2.0
#: How often the statistics are copied to the folder, in seconds.
COPY_SECONDS: Final = 60.0
#: How many of this process's latest shares are kept, in case Redis loses them.
MAX_SHARES: Final = 100
#: How many flushes a process that knows no history waits for one that does, before it begins a new history.
MAX_WAITS: Final = 3

_COUNT: Final = Script("count")
_RECOUNT: Final = Script("recount")

_logger = logging.getLogger(__name__)


class Share(NamedTuple):
    """What one process has counted between two flushes."""

    number: int
    changes: tuple[Change, ...]


class History(NamedTuple):
    """The statistics as they were read: the leaves by path, and the number of each process's last share in them.

    `epoch` is the random name of this history; '' if there is none.
    """

    epoch: str = ""
    leaves: dict[str, str] = {}  # noqa: RUF012 — never changed
    shares: dict[str, str] = {}  # noqa: RUF012 — nor this

    def to_json(self) -> dict[str, object]:
        """A JSON value for the copy."""
        return self._asdict()

    @classmethod
    def from_json(cls, value: object) -> History:
        """Read what `to_json` wrote. Raises ValueError."""
        match value:
            case {"epoch": str(epoch), "leaves": dict(found), "shares": dict(shares)}:
                if all(isinstance(each, str) for each in (*found.values(), *shares.values())):
                    return cls(epoch, found, shares)
        raise ValueError("a history needs epoch, leaves and shares")


HISTORY: Final = DocumentFormat("statistics", 1, History.from_json, History.to_json, History(), precious=False)


class SharedStats:
    """The statistics of this process and of all, with the methods of `bridge.statistics.file.StatsFile`.

    `clock` returns unix seconds. `stats` counts the requests of this process.
    """

    def __init__(self, link: Link, copies: StateFolder, clock: Callable[[], float]) -> None:
        self._link = link
        self._threads = copies.threads
        self._copy = copies.open(HISTORY)
        self._clock = clock
        self._name = link.settings.instance
        self._history = History()
        self._counted: dict[str, str] = {}  # the leaves of this process at its last share
        self._shares: deque[Share] = deque(maxlen=MAX_SHARES)
        self._number = 0  # of the last share
        self._confirmed = 0  # the number of the last share that is in Redis
        self._waits = 0
        self._flushing = asyncio.Lock()
        self._shown: Stats | None = None
        self._read_at = self._copied_at = float("-inf")
        self.stats = Stats(clock)
        link.on_reconnect(self._catch_up)

    async def load(self) -> None:
        """Read the copy of an earlier run, in case Redis has lost the statistics. Raises StateError."""
        self._history = await self._copy.load()

    async def keep(self) -> None:
        """Send a share every few seconds, and copy the statistics every minute, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()
            if time.monotonic() - self._copied_at >= COPY_SECONDS:
                await self._copy_all()

    async def flush(self) -> None:
        """Send what was counted since the last flush. What cannot be sent now is sent by a later flush."""
        async with self._flushing:
            try:
                await self._send()  # what an earlier flush could not send
            except StateError as error:
                _logger.debug("statistics are kept in memory: %s", error)
                return
            if self._next() is None and await self._make_share():
                with suppress(StateError):
                    await self._send()

    async def _make_share(self) -> bool:
        """Make a share of what was counted since the last one; return whether there was anything."""
        if not self.stats.revision:
            return False
        now = await self._threads.run(leaves, self.stats.to_json())
        found = changes(now, self._counted)
        if found:
            self._number += 1
            self._shares.append(Share(self._number, tuple(found)))
            self._counted = now
        return bool(found)

    async def import_stats(self, stats: Stats) -> None:
        """Add these statistics to those in Redis, for a command while no daemon runs. Raises StateError."""
        self.stats = stats
        stats.revision += 1
        self._waits = MAX_WAITS  # no other process knows a history
        await self.flush()
        if self._next() is not None:
            raise StateUnavailable("the statistics could not be written to Redis")

    async def finish(self) -> None:
        """Send the last share, and copy the statistics. What cannot be sent is lost."""
        await self.flush()
        if self._next() is not None or await self._make_share():
            _logger.error("statistics could not be saved at shutdown: counts since the last save are lost")
        await self._copy_all()

    async def read(self) -> Stats:
        """The statistics of all processes, at most a few seconds old; without Redis, as they were read last."""
        if self._shown is None or time.monotonic() - self._read_at > FRESH_SECONDS:
            before = self._history
            with suppress(StateError):
                await self._read()
            self._read_at = time.monotonic()
            if self._shown is None or self._history != before:
                self._shown = await self._threads.run(self._stats_of, self._history)
        return self._shown

    def _stats_of(self, history: History) -> Stats:
        found = history.leaves or leaves(self.stats.to_json())
        try:
            return Stats.from_json(tree(found), self._clock)
        except (ValueError, LookupError, TypeError, AttributeError):  # something else has written there
            _logger.warning("the statistics in Redis cannot be read: this process's own are shown")
            return self.stats

    async def _read(self) -> None:
        """Read all leaves. Raises StateError."""
        found, shares = await self._link.run(("HGETALL", self._leaves_key), ("HGETALL", self._numbers_key))
        if isinstance(found, list) and isinstance(shares, list) and found:
            numbers = _by_name(shares)
            self._history = History(numbers.pop("", ""), _by_name(found), numbers)

    async def _copy_all(self) -> None:
        """Copy the statistics to the folder; delete leaves of expired periods, and numbers of forgotten processes."""
        self._copied_at = time.monotonic()
        try:
            await self._read()
            if expired := _expired(self._history, self._clock()):
                await self._link.call(("HDEL", self._leaves_key, *expired))
            known = {name.decode("utf-8", "replace") for name in await self._link.call(("HKEYS", self._instances_key))}
            if ended := [name for name in self._history.shares if name.partition("/")[0] not in known]:
                await self._link.call(("HDEL", self._numbers_key, *ended))
            await self._copy.save(self._history)
        except StateError as error:
            _logger.debug("statistics are not copied: %s", error)

    async def _send(self) -> None:
        """Send all shares that Redis lacks. Raises StateError."""
        while (share := self._next()) is not None:
            words: list[Word] = [word for change in share.changes for word in change]
            call = _COUNT.call((self._leaves_key, self._numbers_key), self._name, share.number, LAST_ANSWERS, *words)
            known = await self._link.call(call)
            if known < 0:
                if not await self._write_history():
                    return
            elif known == share.number or any(each.number == known + 1 for each in self._shares):
                self._confirmed, self._waits = known, 0
            else:  # Redis has lost shares that are not kept here any more: those that are count under a new name
                self._rename()

    async def _catch_up(self) -> None:
        """Find out which shares Redis has, since it may have lost some. Raises StateError."""
        async with self._flushing:
            known = await self._link.call(("HGET", self._numbers_key, self._name))
            text = (known or b"0").decode("ascii", "replace")
            self._confirmed = min(self._confirmed, int(text) if text.isdecimal() else 0)
        await self.flush()

    def _next(self) -> Share | None:
        return next((share for share in self._shares if share.number > self._confirmed), None)

    async def _write_history(self) -> bool:
        """Write the known history to Redis, or begin a new one; return whether there is one now."""
        history = self._history
        others_may_know = len(self._link.alive) > 1 or self._link.seconds_until_settled > 0
        if not history.epoch and others_may_know and self._waits < MAX_WAITS:
            self._waits += 1
            return False
        epoch = history.epoch or secrets.token_hex(8)
        pairs = [word for pair in history.leaves.items() for word in pair]
        shares = [word for pair in history.shares.items() for word in pair]
        await self._link.call(
            _RECOUNT.call((self._leaves_key, self._numbers_key), epoch, len(history.leaves), *pairs, *shares)
        )
        if history.leaves:
            _logger.warning("Redis had lost the statistics: they were written again, as last known here")
        return True

    def _rename(self) -> None:
        self._name = f"{self._link.settings.instance}/{secrets.token_hex(4)}"
        kept = [share.changes for share in self._shares if share.number > self._confirmed]
        self._shares.clear()
        self._shares.extend(Share(number, each) for number, each in enumerate(kept, 1))
        self._number, self._confirmed = len(kept), 0

    @property
    def _instances_key(self) -> str:
        return self._link.key("instances")

    @property
    def _leaves_key(self) -> str:
        return self._link.key("stats")

    @property
    def _numbers_key(self) -> str:
        return self._link.key("stats", "shares")


def _by_name(pairs: list[bytes]) -> dict[str, str]:
    texts = [word.decode("utf-8", "replace") for word in pairs]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _is_past_hour(path: str, now: float) -> bool:
    """Whether a path below `accounts` is that of an hour that is not shown any more."""
    names = path.split(SEPARATOR)
    return names[1:2] == ["hours"] and names[-1].isdecimal() and int(names[-1]) < now - (ANSWER_HOURS + 1) * HOUR


def _expired(history: History, now: float) -> list[str]:
    """The paths of periods that no page shows any more."""
    expired = []
    for path in history.leaves:
        name, _, rest = path.partition(SEPARATOR)
        start = rest.partition(SEPARATOR)[0]
        if name in HORIZONS and start.isdecimal() and int(start) < now - HORIZONS[name]:
            expired.append(path)
        if name == "accounts" and _is_past_hour(rest, now):
            expired.append(path)
    return expired
