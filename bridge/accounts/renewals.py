"""Keeps accounts' logins alive: one call at a time for each login, at the times that `upstream.protocol.renewal` gives.

            due, or a new cookie          the site answers
    waiting ────────────────────▶ asking ─────────────────▶ waiting   alive: revived; guest or terms: barred
       ▲                            │  401, login page
       │                            ├─────────────────────▶ waiting   expired, asked again after a growing pause
       │     a growing pause        │  anything else
       └────────────────────────────┴─────────────────────▶ waiting   unchanged, `failing_since` is set

Any authenticated GET may renew a login, and a refresh token that is used twice ends it. So all these calls are made
here, one at a time for each login, by tasks that are not cancelled with a request: even an answer that no request
awaits any more may bring new tokens, which must be kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeVar

from bridge.accounts.status import FailedRenewal
from bridge.config.schema import Config
from bridge.tasks import TaskOwner, set_within
from upstream.accounts import Account, AccountPool
from upstream.client import ArenaClient, Me
from upstream.credentials import Credentials
from upstream.protocol.errors import ProtocolViolated, Reason, SessionExpired, TimedOut, UpstreamError
from upstream.protocol.renewal import RenewalState, may_renew, must_renew, renewed

T = TypeVar("T")

#: How long one call may take, in seconds: cancelling it would lose the tokens that a slow answer brings.
CALL_SECONDS: Final = 120.0
#: The kind of call, among an account's limits, that asks who is logged in.
LOGIN: Final = "login"
#: How many accounts are renewed concurrently.
CONCURRENT_CALLS: Final = 8
#: The longest sleep between two checks of what is due, in seconds: the wall clock may be set meanwhile.
CHECK_SECONDS: Final = 30.0
#: How long shutdown waits for calls in flight, in seconds. Tokens that come a little later are not lost either
#: (`upstream.http.exchange.FINISH_SECONDS`).
SHUTDOWN_SECONDS: Final = 0.1

_logger = logging.getLogger(__name__)


@asynccontextmanager
async def renewing(
    client: ArenaClient,
    pool: AccountPool,
    config: Callable[[], Config],
    save: Callable[[], Awaitable[None]],
    turns: RenewalTurns | None = None,
) -> AsyncIterator[Renewals]:
    """Own the calls in flight; at the context's end they may finish within `SHUTDOWN_SECONDS`.

    `save` writes what the pool holds to disk. Where other processes use the accounts too, `turns` are taken with them.
    """
    async with TaskOwner() as tasks:
        renewals = Renewals(client, pool, config, save, tasks, turns)
        try:
            yield renewals
        finally:
            await renewals.finish()


@dataclass(slots=True)
class RenewalTurn:
    """A turn at an account's login: `may_call` says whether the site may be called.

    `is_checked`: somebody has shown the cookie to the site; the caller sets it after its own call. `check` names that.
    """

    may_call: bool
    is_checked: bool = False
    check: str = ""


class Tested(NamedTuple):
    """The outcome of asking the site about an account: how many seconds that took, and why it failed, if it did."""

    seconds: float
    error: UpstreamError | None = None


class RenewalTurns(Protocol):
    """Takes turns with other processes at calls that may renew a login."""

    def turn(
        self, account: Account, known_check: str, *, doubted: bool, urgent: bool
    ) -> AbstractAsyncContextManager[RenewalTurn]:
        """Wait for the turn at an account's login, held while the context lasts.

        A call that another process has made since the check that is known here stands for one of this process's, unless
        the cookie is `doubted` since a call was refused. `urgent`: its token is at its end.
        """


class _Login:
    """An account's login: a cookie and the site's replacements of it. A newly pasted cookie starts another login."""

    def __init__(self, account: Account, credentials: Credentials) -> None:
        self.user_id = account.user_id
        self.label = account.label
        self.credentials = credentials  # the present cookie
        self.renewal = RenewalState()
        self.lock = asyncio.Lock()  # held during any call that may renew the login
        self.check = ""  # the last one that is known, among processes that take turns
        self.doubted = False  # a call with the cookie was refused
        self.call: asyncio.Task[None] | None = None
        self.call_began = 0.0  # on the loop's clock

    def is_of(self, account: Account) -> bool:
        """Whether this is the login that the account has now."""
        return self.credentials.session == account.session.value


class Renewals:
    """How the renewal of each account's login goes, and the calls that renew them."""

    def __init__(
        self,
        client: ArenaClient,
        pool: AccountPool,
        config: Callable[[], Config],
        save: Callable[[], Awaitable[None]],
        tasks: TaskOwner,
        turns: RenewalTurns | None = None,
    ) -> None:
        self._client = client
        self._pool = pool
        self._config = config
        self._save = save
        self._tasks = tasks
        self._turns = turns
        self._logins: dict[str, _Login] = {}
        self._slots = asyncio.Semaphore(CONCURRENT_CALLS)
        self._wake = asyncio.Event()
        self._finishing = False

    async def keep(self) -> None:
        """Renew what is due, until cancelled."""
        while True:
            self._wake.clear()
            wait = self.start_due()
            await set_within(self._wake, wait)

    async def finish(self) -> None:
        """Start no more calls, and wait up to `SHUTDOWN_SECONDS` for those in flight."""
        self._finishing = True
        if running := tuple(self._tasks):
            await asyncio.wait(running, timeout=SHUTDOWN_SECONDS)

    def wake(self) -> None:
        """Check now what is due: accounts or the configuration have changed."""
        self._wake.set()

    def start_due(self) -> float:
        """Start a call for each account that is due; return the seconds until the next check."""
        now = self._client.clock()
        accounts = tuple(self._pool)
        self._logins = {account.user_id: self._login(account) for account in accounts}
        next_in = CHECK_SECONDS
        for account in accounts:
            login = self._logins[account.user_id]
            if login.call is not None:
                continue
            due_in = login.renewal.due_in(now, expired=account.expired)
            if due_in == 0.0:
                self._start(login)
            else:
                next_in = min(next_in, due_in)
        return next_in

    def failing(self, user_id: str) -> FailedRenewal | None:
        """Since when, and why, an account's renewal fails; None where it does not."""
        login, account = self._logins.get(user_id), self._pool.get(user_id)
        if login is None or account is None or not login.is_of(account):
            return None
        renewal = login.renewal
        if renewal.failing_since is None or renewal.failure is None:
            return None
        return FailedRenewal(renewal.failing_since, renewal.failure, renewal.failures)

    def unready(self) -> frozenset[str]:
        """User ids of accounts that are being renewed, or whose token has ended and could not be renewed."""
        now = self._client.clock()
        return frozenset(
            user_id
            for user_id, login in self._logins.items()
            if login.call is not None
            or (
                login.renewal.failure is not None
                and (account := self._pool.get(user_id)) is not None
                and must_renew(account.session, now)
            )
        )

    def must_wait(self, account: Account) -> bool:
        """Whether `fresh` has to be awaited before the account is used; cheap."""
        login = self._logins.get(account.user_id)
        return (login is not None and login.call is not None) or must_renew(account.session, self._client.clock())

    async def fresh(self, account: Account) -> Account:
        """Return the account, with its cookie renewed first if necessary and possible within `connect_timeout`."""
        login = self._login(account)
        if login.call is None:
            now = self._client.clock()
            if not must_renew(account.session, now) or not login.renewal.may_ask(now):
                return account  # fresh, or a renewal failed a moment ago
            self._start(login)
        await self._answered(login)
        return self._pool.get(account.user_id) or account

    async def is_alive(self, account: Account) -> bool | None:
        """Ask the site at once whether it still accepts a login whose cookie it has refused.

        Also True if the account has another cookie by now. None if this is unknown: the site cannot be asked or has
        not answered within `connect_timeout`.
        """
        current = self._pool.get(account.user_id)
        if current is not None and not current.expired and current.session.value == account.session.value:
            login = self._login(current)
            if login.call is None and (login.renewal.failure is None or login.renewal.may_ask(self._client.clock())):
                login.doubted = True
                self._start(login)
            await self._answered(login)
            current = self._pool.get(account.user_id)
        if current is None or current.expired:
            return False
        if current.session.value != account.session.value:
            return True
        login = self._login(current)
        return True if login.call is None and login.renewal.failure is None else None

    async def read(self, account: Account, get: Callable[[Credentials], Awaitable[T]]) -> T | None:
        """Make an authenticated GET after those before it; return what `get` returns.

        None if it fails or has not ended within `connect_timeout`; in the latter case it continues in the background.
        """
        login, begun = self._login(account), False

        async def run() -> T | None:
            nonlocal begun
            try:
                async with login.lock:
                    begun = not self._finishing
                    return await self._read(login, account, get) if begun else None
            except UpstreamError:
                return None

        task = self._tasks.spawn(run(), name=f"read for {login.label}")
        try:
            await asyncio.wait((task,), timeout=self._config().upstream.connect_timeout)
        finally:
            if not begun:
                task.cancel()
        return task.result() if task.done() and not task.cancelled() else None

    async def test(self, account: Account) -> Tested:
        """Ask the site who is logged in, and note what that shows; also where the account is paused or expired."""
        found: Tested | None = None

        async def get(credentials: Credentials) -> None:
            nonlocal found
            began = time.monotonic()
            try:
                me = await _who_is_logged_in(self._client, credentials, CALL_SECONDS)
                if (current := self._pool.get(account.user_id)) is not None:
                    _note(me, self._pool, current)
                found = Tested(time.monotonic() - began)
            except UpstreamError as error:
                if isinstance(error, SessionExpired):
                    self._pool.expire(account)
                found = Tested(time.monotonic() - began, error)
                raise
            finally:
                self._pool.saw_limit(account.user_id, LOGIN, credentials.limit)

        await self.read(account, get)
        self._wake.set()
        return found or Tested(self._config().upstream.connect_timeout, TimedOut("LMArena has not answered in time."))

    async def _read(self, login: _Login, account: Account, get: Callable[[Credentials], Awaitable[T]]) -> T | None:
        """Make a GET, in turn if it may renew the login."""
        renews = may_renew(account.session, self._client.clock())
        async with self._turn(login) if renews else nullcontext(RenewalTurn(may_call=True)) as turn:
            found = await get(login.credentials) if turn.may_call else None
            await self._save()
        return found

    def _turn(self, login: _Login) -> AbstractAsyncContextManager[RenewalTurn]:
        account = self._account_of(login)
        if self._turns is None or account is None:
            return nullcontext(RenewalTurn(may_call=True))
        urgent = must_renew(account.session, self._client.clock())
        return self._turns.turn(account, login.check, doubted=login.doubted, urgent=urgent)

    async def _answered(self, login: _Login) -> None:
        """Wait for the call in flight, until `connect_timeout` after it began."""
        if login.call is not None:
            left = login.call_began + self._config().upstream.connect_timeout - asyncio.get_running_loop().time()
            await asyncio.wait((login.call,), timeout=max(0.0, left))

    def _login(self, account: Account) -> _Login:
        """The account's login; a login with a new cookie is due for renewal at once."""
        login = self._logins.get(account.user_id)
        if login is None or not login.is_of(account):
            login = _Login(account, self._pool.credentials(account))
            self._logins[account.user_id] = login
        return login

    def _account_of(self, login: _Login) -> Account | None:
        """The login's account as it is now; None if it was removed or has another login."""
        account = self._pool.get(login.user_id)
        return account if account is not None and login.is_of(account) else None

    def _start(self, login: _Login) -> None:
        login.renewal = login.renewal.asked(self._client.clock())
        login.call = self._tasks.spawn(self._renew(login), name=f"renew {login.label}")
        login.call_began = asyncio.get_running_loop().time()
        login.call.add_done_callback(lambda _: self._ended(login))

    def _ended(self, login: _Login) -> None:
        login.call = None
        self._wake.set()

    async def _renew(self, login: _Login) -> None:
        """Ask who is logged in, and note what that shows."""
        every = self._config().models.refresh_minutes * 60.0
        before, me = login.renewal, None
        error: UpstreamError | None = None
        try:
            async with login.lock, self._slots, self._turn(login) as turn:
                if self._finishing:
                    return
                if turn.may_call:
                    me = await _who_is_logged_in(self._client, login.credentials, CALL_SECONDS)
                    turn.is_checked = True
                    await self._save()  # before the next turn, which may be another process's
            if not turn.is_checked:
                return  # another process has renewed it, or none may now
            login.check = turn.check
            if turn.may_call and (account := self._account_of(login)) is not None:
                _note(me, self._pool, account)
        except UpstreamError as failure:
            error = failure.with_traceback(None)  # which holds this frame
        now, account = self._client.clock(), self._account_of(login)
        if account is None:
            return
        if isinstance(error, SessionExpired):
            self._pool.expire(account)
            login.renewal = before.failed(error, now, longest=every)
        elif error is not None:
            if before.failing_since is None:
                _logger.info("the login of account %s could not be renewed: %s", account.label, error)
            login.renewal = before.failed(error, now)
        else:
            login.doubted = False
            login.renewal = renewed(account.session, now, every)


async def ask(client: ArenaClient, pool: AccountPool, account: Account, *, timeout: float) -> None:
    """Ask the site once who is logged in, and record the result in the pool: for a command, without `Renewals`.

    Raises UpstreamError: SessionExpired if the site does not accept the login.
    """
    try:
        me = await _who_is_logged_in(client, pool.credentials(account), timeout)
    except SessionExpired:
        pool.expire(account)
        raise
    _note(me, pool, pool.get(account.user_id) or account)


async def _who_is_logged_in(client: ArenaClient, credentials: Credentials, timeout: float) -> Me | None:
    """Make the call that also renews a session near its end; None if the site does not say who is logged in."""
    me = await client.me(credentials, timeout=timeout)
    if me is None:  # any authenticated GET renews, but proves no login
        await client.page(credentials, timeout=timeout)
    return me


def _note(me: Me | None, pool: AccountPool, account: Account) -> None:
    """Record what the site says of an account. Raises ProtocolViolated if an expired login's state is not shown."""
    if me is not None:
        pool.revive(account)
        pool.set_bar(account.user_id, _bar(me))
    elif account.expired:
        raise ProtocolViolated("LMArena's page does not show whether the login is alive.")


def _bar(me: Me) -> Reason | None:
    if not me.email:
        return Reason.GUEST
    return None if me.consented else Reason.TERMS
