"""Keeps accounts' logins alive: one call at a time for each account, at the times that `upstream.renewal` gives.

            due, or a new cookie          the site answers
    waiting ────────────────────▶ asking ─────────────────▶ waiting   alive: revived; guest or terms: barred
       ▲                            │  401, login page
       │                            ├─────────────────────▶ waiting   expired, asked again after a growing pause
       │     a growing pause        │  anything else
       └────────────────────────────┴─────────────────────▶ waiting   unchanged, `failing_since` is set

A refresh token that is used twice ends the whole login, so nobody else makes authenticated GETs near a token's end: who
needs the account then waits for this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from bridge.config import Config
from bridge.tasks import TaskOwner
from upstream.accounts import Account, AccountPool
from upstream.client import ArenaClient, Credentials, Me
from upstream.errors import ProtocolViolated, Reason, SessionExpired, UpstreamError
from upstream.renewal import Standing, must_renew, renewed

#: How long one call may take, in seconds: giving it up would lose the tokens that a slow answer brings.
CALL_SECONDS: Final = 120.0
#: How many accounts are asked about at the same time.
SIDE_BY_SIDE: Final = 8
#: The longest sleep between two looks at what is due, in seconds: the wall clock may be set meanwhile.
LOOK_SECONDS: Final = 30.0
#: How long calls that are under way may take when the daemon stops, in seconds: they may bring new tokens.
FAREWELL_SECONDS: Final = 0.7

_logger = logging.getLogger(__name__)


class Failing(NamedTuple):
    """A login whose renewal fails: since when (unix seconds), and why."""

    since: float
    error: UpstreamError


@asynccontextmanager
async def renewing(client: ArenaClient, pool: AccountPool, config: Callable[[], Config]) -> AsyncIterator[Renewals]:
    """Own the calls that are under way: on the way out they may finish, within `FAREWELL_SECONDS`."""
    async with TaskOwner() as tasks:
        yield Renewals(client, pool, config, tasks)
        if running := tuple(tasks):
            await asyncio.wait(running, timeout=FAREWELL_SECONDS)


class Renewals:
    """The standing of each account's login, and the calls that renew them."""

    def __init__(self, client: ArenaClient, pool: AccountPool, config: Callable[[], Config], tasks: TaskOwner) -> None:
        self._client = client
        self._pool = pool
        self._config = config
        self._tasks = tasks
        self._standings: dict[str, Standing] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._places = asyncio.Semaphore(SIDE_BY_SIDE)
        self._wake = asyncio.Event()

    async def keep(self) -> None:
        """Renew what is due, until cancelled."""
        while True:
            self._wake.clear()
            wait = self.start_due()
            try:
                async with asyncio.timeout(min(wait, LOOK_SECONDS)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def wake(self) -> None:
        """Accounts or the configuration have changed: look at what is due now."""
        self._wake.set()

    def start_due(self) -> float:
        """Start a call for each account that is due; return the seconds until the next one is."""
        now = self._client.clock()
        known = {account.user_id for account in self._pool}
        self._standings = {user_id: each for user_id, each in self._standings.items() if user_id in known}
        self._locks = {user_id: lock for user_id, lock in self._locks.items() if user_id in known or lock.locked()}
        next_at = now + LOOK_SECONDS
        for account in self._pool:
            if account.user_id in self._running:
                continue
            standing = self._standing(account)
            if standing.next_at <= now:
                self._start(account)
            else:
                next_at = min(next_at, standing.next_at)
        return max(0.0, next_at - now)

    def failing(self, user_id: str) -> Failing | None:
        """Since when, and why, an account's renewal fails; None where it does not."""
        standing = self._standings.get(user_id)
        if standing is None or standing.failing_since is None or standing.failure is None:
            return None
        return Failing(standing.failing_since, standing.failure)

    def must_wait(self, account: Account) -> bool:
        """Whether `fresh` has to be awaited before the account is used; costs nothing worth mentioning."""
        return account.user_id in self._running or must_renew(account.session, self._client.clock())

    async def fresh(self, account: Account) -> Account:
        """Return the account with a cookie that can be used, as far as it can be had within `connect_timeout`."""
        running = self._running.get(account.user_id)
        if running is None:
            now = self._client.clock()
            if not must_renew(account.session, now) or self._standing(account).next_at > now:
                return account  # fresh, or renewed in vain a moment ago
            running = self._start(account)
        return await self._after(running, account)

    async def is_alive(self, account: Account) -> bool:
        """Ask the site at once whether it knows the login, after it has refused the account's cookie.

        False where it says no, or cannot be asked; `expire` is the pool's to know then.
        """
        current = self._pool.get(account.user_id)
        if current is None or current.expired:
            return False
        if current.session.value == account.session.value:
            await self._after(self._running.get(account.user_id) or self._start(account), account)
            current = self._pool.get(account.user_id)
        return current is not None and not current.expired and self.failing(account.user_id) is None

    async def read(self, account: Account, call: Callable[[Credentials], Awaitable[bytes | None]]) -> bytes | None:
        """Make an authenticated GET of another kind, which may renew the login too: never two at a time.

        It is made to its end, whoever leaves: its answer may bring new tokens. None where it fails, or does not
        come within `connect_timeout`.
        """
        timeout = self._config().upstream.connect_timeout
        reading = self._tasks.spawn(self._read(account, call, timeout), name=f"read for {account.label}")
        await asyncio.wait((reading,), timeout=timeout)
        return reading.result() if reading.done() else None

    async def _read(
        self, account: Account, call: Callable[[Credentials], Awaitable[bytes | None]], timeout: float
    ) -> bytes | None:
        lock = self._lock(account.user_id)
        try:
            async with asyncio.timeout(timeout):  # nobody waits any longer, and renewals want their turn
                await lock.acquire()
        except TimeoutError:
            return None
        try:
            current = self._pool.get(account.user_id)
            return None if current is None else await call(self._credentials(current))
        except UpstreamError as error:
            _logger.info("what account %s was to read cannot be read: %s", account.label, error)
            return None
        finally:
            lock.release()

    def _lock(self, user_id: str) -> asyncio.Lock:
        """What whoever makes an authenticated GET of the account must hold."""
        return self._locks.setdefault(user_id, asyncio.Lock())

    def _credentials(self, account: Account) -> Credentials:
        return Credentials(account.session.value, self._pool.rotation(account))

    async def _after(self, running: asyncio.Task[None], account: Account) -> Account:
        await asyncio.wait((running,), timeout=self._config().upstream.connect_timeout)
        return self._pool.get(account.user_id) or account

    def _standing(self, account: Account) -> Standing:
        """What is known of the account's cookie; a new one is due at once."""
        standing = self._standings.get(account.user_id)
        if standing is None or standing.session != account.session.value:
            standing = self._standings[account.user_id] = Standing(account.session.value, 0.0)
        return standing

    def _start(self, account: Account) -> asyncio.Task[None]:
        task = self._tasks.spawn(self._renew(account), name=f"renew {account.label}")
        self._running[account.user_id] = task
        task.add_done_callback(lambda _: self._ended(account.user_id))
        return task

    def _ended(self, user_id: str) -> None:
        del self._running[user_id]
        self._wake.set()

    async def _renew(self, account: Account) -> None:
        """Ask who is logged in, and note what that shows."""
        user_id, standing = account.user_id, self._standing(account)
        every = self._config().models.refresh_minutes * 60.0
        try:
            async with self._places, self._lock(user_id):
                account = self._pool.get(user_id) or account  # the last to hold the lock may have renewed it
                me = await self._ask(account)
        except SessionExpired as error:
            self._pool.expire(account)
            self._standings[user_id] = standing.failed(error, self._client.clock(), longest=every)
            return
        except UpstreamError as error:
            if standing.failing_since is None:
                _logger.info("the login of account %s could not be renewed: %s", account.label, error)
            self._standings[user_id] = standing.failed(error, self._client.clock())
            return
        if me is not None:
            self._pool.revive(account)
            self._pool.set_bar(user_id, _bar(me))
        current = self._pool.get(user_id) or account
        self._standings[user_id] = renewed(current.session, self._client.clock(), every)

    async def _ask(self, account: Account) -> Me | None:
        """Make the call; None where the site has none that says who is logged in. Raises UpstreamError."""
        credentials = self._credentials(account)
        me = await self._client.me(credentials, timeout=CALL_SECONDS)
        if me is None:  # any authenticated GET renews, but proves no login
            await self._client.page(credentials, timeout=CALL_SECONDS)
            current = self._pool.get(account.user_id)
            if account.expired and current is not None and current.expired:
                raise ProtocolViolated("LMArena's page does not show whether the login is alive.")
        return me


def _bar(me: Me) -> Reason | None:
    if not me.email:
        return Reason.GUEST
    return None if me.consented else Reason.TERMS
