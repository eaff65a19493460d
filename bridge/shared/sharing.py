"""Everything that a process shares with others through Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

from bridge.access.limits import Limiter
from bridge.access.logins import Logins
from bridge.access.throttle import Throttle
from bridge.config.schema import RedisSection
from bridge.dialects.responses.stored import StoredResponses
from bridge.shared.address import RedisAddress
from bridge.shared.availability import Phase
from bridge.shared.conversations import RedisConversations
from bridge.shared.documents import SharedDocuments
from bridge.shared.gate import RedisGate
from bridge.shared.instances import InstanceReport, RedisInstances
from bridge.shared.limits import RedisLimits
from bridge.shared.link import Link, LinkSettings, instance_name
from bridge.shared.logins import RedisLogins
from bridge.shared.renewal_turns import RedisTurns
from bridge.shared.responses import RedisResponses
from bridge.shared.statistics import HISTORY, SharedStats
from bridge.shared.throttle import RedisThrottle
from bridge.shared.uploads import RedisUploads
from bridge.shared.waiting_cookies import WAITING, WaitingCookies
from bridge.state.documents import StateFolder
from bridge.state.errors import StateUnavailable
from bridge.state.state import State
from upstream.gate import Gate

#: How long a setup code is valid, in seconds.
_SETUP_SECONDS: Final = 86_400


class Sharing:
    """The link, and what is shared over it. Local copies are in the folder `shared` of the state folder."""

    def __init__(self, config: RedisSection, folder: StateFolder) -> None:
        address = RedisAddress.parse(config.url.value).with_password(config.password.value)
        settings = LinkSettings(
            instance_name(f"{folder.path.absolute()}"), config.prefix, config.timeout, config.connect_timeout
        )
        self.link = Link(address, settings, time.monotonic)
        self.copies = StateFolder(folder.path / "shared")
        self.documents = SharedDocuments(self.link, self.copies)
        self.conversations = RedisConversations(self.link)
        self.uploads = RedisUploads(self.link)
        self.stats = SharedStats(self.link, self.copies, time.time)
        self.waiting_cookies = WaitingCookies(self.copies)

    def logins(self, logins: Logins, state: State) -> RedisLogins:
        """The dashboard's logins of all processes; `logins` has those of this one."""
        return RedisLogins(self.link, logins, lambda: state.admin.password_hash or "", time.monotonic)

    def throttle(self, own: Throttle) -> RedisThrottle:
        """The throttle of attempts at the dashboard's password; `own` counts those at this process."""
        return RedisThrottle(self.link, own)

    async def setup_code(self, own: str) -> str:
        """The code that authorizes setting the first password, the same for all processes; `own` without Redis."""
        key = self.link.key("setup_code")
        try:
            await self.link.run(("SET", key, own, "NX", "EX", _SETUP_SECONDS))
            code = await self.link.text(key)
        except StateUnavailable:
            return own
        return own if code is None else code.decode("ascii", "replace")

    def responses(self, stored: StoredResponses) -> RedisResponses:
        """The stored responses of all processes; `stored` has those that this one knows."""
        return RedisResponses(self.link, stored)

    def turns(self, state: State) -> RedisTurns:
        """Turns at calls that may renew a login, one process at a time."""
        return RedisTurns(self.link, state, self.copies, time.monotonic)

    @property
    def others_run(self) -> bool:
        """Whether another running process uses the same state."""
        return bool(self.link.alive - {self.link.settings.instance})

    @property
    def trouble(self) -> str:
        """Why the shared state cannot be used, a clause; '' if it can."""
        available = self.link.availability
        return "" if available.phase is Phase.UP else f"Redis at {self.link.address} cannot be used: {available.why}"

    async def forget(self, names: Iterable[str]) -> None:
        """Delete these documents, the statistics and all conversations, here and in Redis. Raises StateError."""
        names = tuple(names)
        for name in (*names, HISTORY.name, WAITING.name):
            (self.copies.path / f"{name}.json").unlink(missing_ok=True)
        keys = [self.link.key("doc", name) for name in names]
        await self.link.call(("DEL", *keys, self.link.key("stats"), self.link.key("stats", "shares")))
        cursor: bytes | int = 0
        while True:
            cursor, found = await self.link.call(("SCAN", cursor, "MATCH", f"{self.link.key('conv')}:*", "COUNT", 1000))
            if found:
                await self.link.call(("UNLINK", *found))
            if cursor == b"0":
                return

    def instances(
        self, report: Callable[[str], Awaitable[InstanceReport]], execute: Callable[[str], None]
    ) -> RedisInstances:
        """The other processes; `report` and `execute` receive their questions and orders. Call before the link runs."""
        return RedisInstances(self.link, report, execute)

    def gate(self, gate: Gate) -> RedisGate:
        """The walls and the circuit of all processes; `gate` has those of this one."""
        return RedisGate(self.link, gate)

    def limits(self, limiter: Limiter) -> RedisLimits:
        """The limits of all processes; `limiter` counts the calls of this one."""
        return RedisLimits(self.link, limiter)

    @asynccontextmanager
    async def running(self, state: State) -> AsyncIterator[None]:
        """As `connected`; what `state` could not save in an outage is saved after it."""
        self.link.on_reconnect(state.flush)
        async with self.connected():
            yield

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Stay connected, after waiting at most `redis.connect_timeout`. Raises StateError about the folder."""
        self.copies.prepare()
        async with self.link.running():
            await self.link.started()
            yield
