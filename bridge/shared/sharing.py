"""All that a process shares with others through Redis, made once and owned by whoever runs it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.access.limits import Limiter
from bridge.config.schema import RedisSection
from bridge.shared.address import RedisAddress
from bridge.shared.availability import Phase
from bridge.shared.conversations import RedisConversations
from bridge.shared.documents import SharedDocuments
from bridge.shared.limits import RedisLimits
from bridge.shared.link import Link, LinkSettings, instance_name
from bridge.shared.renewal_turns import RedisTurns
from bridge.shared.statistics import SharedStats
from bridge.shared.waiting_cookies import WaitingCookies
from bridge.state.documents import StateFolder
from bridge.state.state import State


class Sharing:
    """The link, and the documents behind it; their copies are in a folder of their own below the state folder."""

    def __init__(self, config: RedisSection, folder: StateFolder) -> None:
        address = RedisAddress.parse(config.url.value).with_password(config.password.value)
        settings = LinkSettings(
            instance_name(f"{folder.path.absolute()}"), config.prefix, config.timeout, config.connect_timeout
        )
        self.link = Link(address, settings, time.monotonic)
        self.copies = StateFolder(folder.path / "shared")
        self.documents = SharedDocuments(self.link, self.copies)
        self.conversations = RedisConversations(self.link)
        self.stats = SharedStats(self.link, self.copies, time.time)
        self.waiting_cookies = WaitingCookies(self.copies)

    def turns(self, state: State) -> RedisTurns:
        """Turns at calls that may renew a login."""
        return RedisTurns(self.link, state, self.copies, time.monotonic)

    @property
    def trouble(self) -> str:
        """Why the shared state is not as it should be, a clause; '' where it is."""
        available = self.link.availability
        return "" if available.phase is Phase.UP else f"Redis at {self.link.address} cannot be used: {available.why}"

    def limits(self, limiter: Limiter) -> RedisLimits:
        """The limits of all processes, of which `limiter` keeps this one's."""
        return RedisLimits(self.link, limiter)

    @asynccontextmanager
    async def running(self, state: State) -> AsyncIterator[None]:
        """Connect, and wait for that at most `redis.connect_timeout`. Raises StateError about the folder.

        What `state` could not save in an outage is saved at its end.
        """
        self.copies.prepare()
        self.link.on_back(state.flush)
        async with self.link.running():
            await self.link.started()
            yield
