"""Keeps accounts' logins alive: one call at a time for each login, when `upstream.protocol.renewal` says it is due.

            due, or a new cookie          the site answers
    waiting ────────────────────▶ asking ─────────────────▶ waiting   alive: revived; guest or terms: barred
       ▲                            │  401, login page
       │                            ├─────────────────────▶ waiting   expired, retried with exponential backoff
       │   exponential backoff      │  anything else
       └────────────────────────────┴─────────────────────▶ waiting   unchanged, `failing_since` is set

Any authenticated GET may renew a login, and using a refresh token twice ends it. So all these calls are made here, one
at a time for each login, by tasks that are not cancelled with a request: even an answer that no request awaits any more
may bring new tokens, which must be kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeVar

from bridge.accounts.status import FailedRenewal
from bridge.config.schema import Config
from bridge.tasks import TaskOwner, set_within
from upstream.accounts import Account, AccountPool
from upstream.client import ArenaClient, SiteUser
from upstream.credentials import Credentials
from upstream.protocol.errors import ProtocolViolated, Reason, SessionExpired, TimedOut, UpstreamError
from upstream.protocol.renewal import RenewalState, may_renew, must_renew, renewed

T = TypeVar("T")

#: How long one call may take, in seconds: cancelling it would lose the tokens that a slow answer brings.
CALL_SECONDS: Final = 120.0
#: The name, among an account's limits, of the calls that ask who is logged in.
LOGIN: Final = "login"
#: The most logins that are renewed concurrently.
CONCURRENT_CALLS: Final = 8
#: The longest sleep between two checks of what is due, in seconds: the wall clock may be changed meanwhile.
CHECK_SECONDS: Final = 30.0
#: How long a call that may renew a login waits for the heads of answers that may replace its cookie, in seconds: the
#: site replaces it when it begins to answer, and showing it the old one then can end the login.
REPLACING_SECONDS: Final = 5.0
#: How often it is checked whether they have come, in seconds.
POLL_SECONDS: Final = 0.02
#: How long shutdown waits for calls in flight, in seconds. Tokens that arrive a little later are not lost either
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
    """Own the calls that renew logins; when the context ends, they have `SHUTDOWN_SECONDS` to finish.

    `save` writes the pool's changes to disk. If other processes use the accounts too, `turns` takes turns with them.
    """
    async with TaskOwner() as tasks:
        renewals = Renewals(client, pool, config, save, tasks, turns)
        try:
            yield renewals
        finally:
            await renewals.finish()


@dataclass(slots=True)
class RenewalTurn:
    """A process's turn to make calls with an account's login; `may_call` says whether it may call the site at all.

    `is_checked` says whether any process has checked the cookie at the site; a process sets it after its own call.
    `check` identifies that check.
    """

    may_call: bool
    is_checked: bool = False
    check: str = ""


class AccountTest(NamedTuple):
    """The outcome of testing an account: how many seconds the call took, and why it failed, if it did."""

    seconds: float
    error: UpstreamError | None = None


class RenewalTurns(Protocol):
    """Takes turns with other processes in making calls that may renew a login."""

    def turn(
        self, account: Account, known_check: str, *, doubted: bool, urgent: bool
    ) -> AbstractAsyncContextManager[RenewalTurn]:
        """Wait for this process's turn with an account's login, which it holds while the context lasts.

        A check that another process has made after `known_check` replaces this process's own, unless the cookie is
        `doubted` because a call was refused. `urgent` means that the token is about to expire.
        """


class _Login:
    """An account's login: a cookie and all its replacements by the site. A newly pasted cookie starts another login."""

    def __init__(self, account: Account, credentials: Credentials) -> None:
        self.user_id = account.user_id
        self.label = account.label
        self.credentials = credentials  # with the current cookie
        self.renewal = RenewalState()
        self.lock = asyncio.Lock()  # held during any call that may renew the login
        self.check = ""  # the last check that is known, if processes take turns
        self.doubted = False  # a call with the cookie was refused
        self.call: asyncio.Task[None] | None = None
        self.call_began = 0.0  # on the loop's clock

    def is_of(self, account: Account) -> bool:
        """Whether this is the login that the account has now."""
        return self.credentials.session == account.session.value


class Renewals:
    """The state of each login's renewal, and the calls that renew them."""

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
        """Check now what is due, because accounts or the configuration have changed."""
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
        """Since when, and why, the renewal of an account's login fails; None if it does not."""
        login, account = self._logins.get(user_id), self._pool.get(user_id)
        if login is None or account is None or not login.is_of(account):
            return None
        renewal = login.renewal
        if renewal.failing_since is None or renewal.failure is None:
            return None
        return FailedRenewal(renewal.failing_since, renewal.failure, renewal.failures)

    def unready(self) -> Set[str]:
        """User ids of accounts whose login is being renewed, or must be renewed but could not be."""
        now = self._client.clock()
        return {
            user_id
            for user_id, login in self._logins.items()
            if login.call is not None
            or (
                login.renewal.failure is not None
                and (account := self._pool.get(user_id)) is not None
                and must_renew(account.session, now)
            )
        }

    def must_wait(self, account: Account) -> bool:
        """Whether `fresh` must be awaited before the account is used; makes no call."""
        login = self._logins.get(account.user_id)
        return (login is not None and login.call is not None) or must_renew(account.session, self._client.clock())

    async def fresh(self, account: Account) -> Account:
        """Return the account, after renewing its cookie if that is necessary, and possible within `connect_timeout`."""
        login = self._login(account)
        if login.call is None:
            now = self._client.clock()
            if not must_renew(account.session, now) or not login.renewal.may_call(now):
                return account  # need not be renewed, or that failed a moment ago
            self._start(login)
        await self._wait_for_call(login)
        return self._pool.get(account.user_id) or account

    async def is_alive(self, account: Account) -> bool | None:
        """Ask the site at once whether it still accepts a login whose cookie it has refused.

        Also True if the account has another cookie by now; None if the site cannot be asked, or has not answered within
        `connect_timeout`.
        """
        current = self._pool.get(account.user_id)
        if current is not None and not current.expired and current.session.value == account.session.value:
            login = self._login(current)
            if login.call is None and (login.renewal.failure is None or login.renewal.may_call(self._client.clock())):
                login.doubted = True
                self._start(login)
            await self._wait_for_call(login)
            current = self._pool.get(account.user_id)
        if current is None or current.expired:
            return False
        if current.session.value != account.session.value:
            return True
        login = self._login(current)
        return True if login.call is None and login.renewal.failure is None else None

    async def read(self, account: Account, get: Callable[[Credentials], Awaitable[T]]) -> T | None:
        """Make an authenticated GET once no other call of the login is in flight; return what `get` returns.

        None if it fails or does not end within `connect_timeout`; in the latter case it continues in the background.
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

    async def test(self, account: Account) -> AccountTest:
        """Ask the site who is logged in, and record the result, even if the account is paused or expired."""
        found: AccountTest | None = None

        async def get(credentials: Credentials) -> None:
            nonlocal found
            began = time.monotonic()
            try:
                me = await _who_is_logged_in(self._client, credentials, CALL_SECONDS)
                if (current := self._pool.get(account.user_id)) is not None:
                    _record(me, self._pool, current)
                found = AccountTest(time.monotonic() - began)
            except UpstreamError as error:
                if isinstance(error, SessionExpired):
                    self._pool.expire(account)
                found = AccountTest(time.monotonic() - began, error)
                raise
            finally:
                self._pool.note_limit(account.user_id, LOGIN, credentials.limit)

        await self.read(account, get)
        self._wake.set()
        return found or AccountTest(
            self._config().upstream.connect_timeout, TimedOut("LMArena has not answered in time.")
        )

    async def _read(self, login: _Login, account: Account, get: Callable[[Credentials], Awaitable[T]]) -> T | None:
        """Make a GET, taking turns with other processes if it may renew the login."""
        renews = may_renew(account.session, self._client.clock())
        async with self._turn(login) if renews else nullcontext(RenewalTurn(may_call=True)) as turn:
            found = await get(login.credentials) if turn.may_call else None
            await self._save()
        return found

    @asynccontextmanager
    async def _turn(self, login: _Login) -> AsyncIterator[RenewalTurn]:
        """The turn at a call with a login, which must not be made if the cookie has been replaced by then.

        If the call may renew the login, or a chat was refused, it waits until no other answer can replace the cookie.
        """
        account = self._account_of(login)
        if account is not None and (login.doubted or may_renew(account.session, self._client.clock())):
            await self._wait_for_replacement(login)
            account = self._account_of(login)
        if account is None or self._turns is None:
            yield RenewalTurn(may_call=account is not None)
            return
        urgent = must_renew(account.session, self._client.clock())
        async with self._turns.turn(account, login.check, doubted=login.doubted, urgent=urgent) as turn:
            yield turn

    async def _wait_for_replacement(self, login: _Login) -> None:
        """Wait until every other call with the login's cookie has its response's head, up to `REPLACING_SECONDS`."""
        until = time.monotonic() + REPLACING_SECONDS
        # Polled: an event would have to be set for each request, and this happens about once in a token's lifetime.
        while self._client.may_replace(login.credentials.session) and time.monotonic() < until:  # noqa: ASYNC110 — as above
            await asyncio.sleep(POLL_SECONDS)

    async def _wait_for_call(self, login: _Login) -> None:
        """Wait for the call in flight, but no longer than `connect_timeout` after it began."""
        if login.call is not None:
            left = login.call_began + self._config().upstream.connect_timeout - asyncio.get_running_loop().time()
            await asyncio.wait((login.call,), timeout=max(0.0, left))

    def _login(self, account: Account) -> _Login:
        """The account's login; a new cookie starts another one, which is due for renewal at once."""
        login = self._logins.get(account.user_id)
        if login is None or not login.is_of(account):
            login = _Login(account, self._pool.credentials(account))
            self._logins[account.user_id] = login
        return login

    def _account_of(self, login: _Login) -> Account | None:
        """The login's account in its current state; None if it was removed or has another login."""
        account = self._pool.get(login.user_id)
        return account if account is not None and login.is_of(account) else None

    def _start(self, login: _Login) -> None:
        login.renewal = login.renewal.pending(self._client.clock())
        login.call = self._tasks.spawn(self._renew(login), name=f"renew {login.label}")
        login.call_began = asyncio.get_running_loop().time()
        login.call.add_done_callback(lambda _: self._ended(login))

    def _ended(self, login: _Login) -> None:
        login.call = None
        self._wake.set()

    async def _renew(self, login: _Login) -> None:
        """Ask the site who is logged in, and record the result."""
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
                return  # neither this process nor another one may call the site now
            login.check = turn.check
            if turn.may_call and (account := self._account_of(login)) is not None:
                _record(me, self._pool, account)
        except UpstreamError as failure:
            error = failure.with_traceback(None)  # breaks a reference cycle: the traceback refers to this frame
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


async def check_login(client: ArenaClient, pool: AccountPool, account: Account, *, timeout: float) -> None:
    """Ask the site once who is logged in, and record the result in the pool. For commands, which have no `Renewals`.

    Raises UpstreamError: SessionExpired if the site does not accept the login.
    """
    try:
        me = await _who_is_logged_in(client, pool.credentials(account), timeout)
    except SessionExpired:
        pool.expire(account)
        raise
    _record(me, pool, pool.get(account.user_id) or account)


async def _who_is_logged_in(client: ArenaClient, credentials: Credentials, timeout: float) -> SiteUser | None:
    """Make a call that also renews a session near its end; None if the site does not say who is logged in."""
    me = await client.me(credentials, timeout=timeout)
    if me is None:  # any authenticated GET renews, but does not prove that the login is alive
        await client.page(credentials, timeout=timeout)
    return me


def _record(me: SiteUser | None, pool: AccountPool, account: Account) -> None:
    """Record what the site says about an account.

    Raises ProtocolViolated if it does not say whether an expired login is alive again.
    """
    if me is not None:
        pool.revive(account)
        pool.set_bar(account.user_id, _bar(me))
    elif account.expired:
        raise ProtocolViolated("LMArena's page does not show whether the login is alive.")


def _bar(me: SiteUser) -> Reason | None:
    if not me.email:
        return Reason.GUEST
    return None if me.consented else Reason.TERMS
