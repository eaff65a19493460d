"""The renewal of logins at an arena, with time under the test's control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from asking import connected
from manual_clock import Clock
from running import add_accounts, config_for

from bridge.accounts.renewals import Renewals
from bridge.config.schema import Config
from bridge.state.documents import StateFolder
from bridge.state.state import State, accounts_document
from bridge.tasks import TaskOwner
from upstream.accounts import Account
from upstream.arena import Arena, Call, Session
from upstream.client import ArenaClient
from upstream.site_clock import SiteClock


class Wall(Clock):
    """A wall clock that can be set without affecting the monotonic clock."""

    def __init__(self, monotonic: Clock) -> None:
        self._monotonic = monotonic
        self.ahead = 0.0

    def __call__(self) -> float:
        return self._monotonic() + self.ahead


@dataclass
class Keeping:
    """`clock` is the site's; `wall` is this machine's, which a test may set to a different time.

    `tasks` are the pending calls, `aside` are tasks of the test.
    """

    arena: Arena
    clock: Clock
    wall: Wall
    client: ArenaClient
    state: State
    folder: StateFolder
    renewals: Renewals
    tasks: TaskOwner
    aside: TaskOwner
    config: Config = field(repr=False)

    def account(self, session: Session) -> Account:
        """The account's current state."""
        account = self.state.pool.get(session.user_id)
        assert account is not None
        return account

    @property
    def reads(self) -> list[Call]:
        """The calls to `/api/me` so far."""
        return [call for call in self.arena.calls if call.kind == "me"]

    async def settled(self) -> None:
        """Wait until no call is pending, and all results are on disk."""
        while running := tuple(self.tasks):
            await asyncio.wait(running)
        await self.state.flush()

    async def look(self) -> float:
        """Make the calls that are due; return the seconds until the next check."""
        self.renewals.start_due()
        await self.settled()
        return self.renewals.start_due()

    async def run(self, seconds: float) -> None:
        """Let time pass, with checks as often as in the bridge."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            wait = await self.look()
            self.clock.now = min(end, self.clock.now + max(wait, 1.0))
        await self.look()

    async def on_disk(self, session: Session) -> Account:
        """The account as it would be loaded after a restart."""
        found = await accounts_document(self.folder).load()
        return next(account for account in found if account.user_id == session.user_id)


@asynccontextmanager
async def keeping(
    arena: Arena, folder: StateFolder, clock: Clock, *sessions: Session, connect_timeout: float = 5.0
) -> AsyncIterator[Keeping]:
    """Add an account to a state folder for each session, and prepare their renewals; nothing runs automatically."""
    folder.prepare()
    await add_accounts(folder, *sessions)
    arena.clock = clock
    wall = Wall(clock)
    config = config_for(arena, folder.path, {"upstream": {"connect_timeout": connect_timeout}})
    state = State(folder, wall)
    await state.load()
    async with connected(arena.origin, connections=300) as client, TaskOwner() as tasks, TaskOwner() as aside:
        client.clock = SiteClock(wall, clock)
        renewals = Renewals(client, state.pool, lambda: config, state.flush, tasks)
        yield Keeping(arena, clock, wall, client, state, folder, renewals, tasks, aside, config)
        await renewals.finish()
    await state.flush()
