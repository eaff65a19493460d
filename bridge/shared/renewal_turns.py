"""Turns at calls that may renew a login: one process at a time, and only with the newest cookie.

    Redis      this process                                    may call
    ─────────────────────────────────────────────────────────────────────────────────────────────────────
    up         has the account's lock, and its cookie is the   yes
               one that was just read from Redis
    up         the same, but another process has called since  no: it adopts what the other has learned
               this one did
    up         finds another cookie: at once or, if its own    no: another process has renewed the login
               was refused, a moment later
    cannot be  all processes use one state folder, and the     yes
    used       token is about to end
    cannot be  others may be elsewhere, or it is not urgent    no
    used

In all cases the process also holds the account's lock in its state folder: Redis may fail during a call that began
under the lock in Redis, or be back during one that began without, and each process notices that at another moment.

The lock in Redis expires, but only after any call that began under it has ended. It is not taken earlier even if its
holder is known to be dead: the kernel goes on sending what was written, so the dead process's call might reach the site
after the next holder's, and a refresh token that is used twice ends the login. A frozen process may also resume in the
middle of a call.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Final

from bridge.accounts.renewals import CALL_SECONDS, RenewalTurn
from bridge.shared.connection import Command
from bridge.shared.errors import SharedStateDown
from bridge.shared.link import Link
from bridge.shared.script import Script
from bridge.state.documents import StateFolder
from bridge.state.errors import StateError
from bridge.state.state import State
from upstream.accounts import Account, digest

#: After how long a lock that is not released expires, in seconds.
LOCK_SECONDS: Final = CALL_SECONDS + 30.0
#: How long after acquiring the lock a call may begin, in seconds: the process may have been frozen in between.
BEGIN_SECONDS: Final = 15.0
#: The pause between two attempts to acquire a lock, in seconds.
RETRY_SECONDS: Final = 0.1
#: How long another process may take to save a cookie that has just replaced this one's, in seconds.
SAVING_SECONDS: Final = 0.5
#: How long it is remembered that a cookie was checked with the site, in seconds.
CHECK_SECONDS: Final = 86_400.0

_UNLOCK: Final = Script("unlock")

_logger = logging.getLogger(__name__)


class RedisTurns:
    """Takes turns, with the interface of `bridge.accounts.renewals.RenewalTurns`. `clock` is monotonic, in seconds."""

    def __init__(self, link: Link, state: State, copies: StateFolder, clock: Callable[[], float]) -> None:
        self._link = link
        self._state = state
        self._copies = copies
        self._clock = clock
        self._held: dict[str, str] = {}  # the token of each lock that this process holds
        link.on_reconnect(self._reacquire)

    @asynccontextmanager
    async def turn(
        self, account: Account, known_check: str, *, doubted: bool, urgent: bool
    ) -> AsyncIterator[RenewalTurn]:
        """Wait for this process's turn at an account's login; see `RenewalTurns`."""
        lock, token = self._link.key("renewal", account.user_id), secrets.token_hex(16)
        turn: RenewalTurn | None = None
        try:
            async with self._folder_lock(account) as is_locked:
                try:
                    turn = await self._turn_under_lock(lock, token, account, known_check, doubted=doubted)
                except SharedStateDown:
                    turn = await self._turn_without_redis(account, may_begin=urgent and is_locked)
                except StateError as error:  # whether the cookie is the newest cannot be known
                    _logger.error("the login of account %s is not renewed: %s", account.label, error)
                    turn = RenewalTurn(may_call=False)
                yield turn
                if turn.is_checked and turn.may_call:
                    present = self._state.pool.get(account.user_id) or account
                    turn.check = f"{_cookie_id(present)} {secrets.token_hex(8)}"
                    self._link.post(("SET", self._check_key(account.user_id), turn.check, "EX", round(CHECK_SECONDS)))
        finally:  # also after a cancelled wait: the lock may be acquired all the same
            self._held.pop(lock, None)
            if turn is None or not turn.may_call or self._state.is_saved:
                self._link.post(_UNLOCK.call((lock,), token))
            # Otherwise nobody may use the old cookie, and the lock expires.

    async def _turn_under_lock(
        self, lock: str, token: str, account: Account, known_check: str, *, doubted: bool
    ) -> RenewalTurn:
        """Wait for the lock, and find out what others have done. Raises StateError."""
        acquired_at = await self._acquire(lock, token)
        await self._state.load_unsaved_cookies()
        await self._state.refresh_accounts()
        if doubted and self._is_present(account):
            await asyncio.sleep(SAVING_SECONDS)  # an answer to another process may just have replaced it
            await self._state.refresh_accounts()
        found = (await self._link.text(self._check_key(account.user_id)) or b"").decode("utf-8", "replace")
        is_checked = found.startswith(_cookie_id(account)) and found != known_check and not doubted
        if not self._is_present(account) or self._clock() - acquired_at > BEGIN_SECONDS:
            return RenewalTurn(may_call=False)
        return RenewalTurn(may_call=not is_checked, is_checked=is_checked, check=found)

    async def _acquire(self, lock: str, token: str) -> float:
        """Wait for the lock; return when the successful attempt began. Raises SharedStateDown and CommandRefused.

        While Redis is settling, none is acquired: the holders of locks that it has lost acquire theirs again.
        """
        while True:
            if seconds := self._link.seconds_until_settled:
                await asyncio.sleep(seconds)
                continue  # it may have started once more
            began = self._clock()
            if await self._link.call(_lock_command(lock, token)):
                self._held[lock] = token
                return began
            await asyncio.sleep(RETRY_SECONDS)

    async def _reacquire(self) -> None:
        """Acquire the locks that are held here again, since Redis may have lost them. Raises SharedStateDown."""
        if self._held:
            await self._link.run(*[_lock_command(lock, token) for lock, token in self._held.items()])

    async def _turn_without_redis(self, account: Account, *, may_begin: bool) -> RenewalTurn:
        """The turn without Redis, under the lock in the state folder, if all processes use that."""
        if not may_begin or not self._link.all_use_one_folder:
            return RenewalTurn(may_call=False)
        try:
            await self._state.load_unsaved_cookies()
        except StateError as error:
            _logger.error("the login of account %s is not renewed: %s", account.label, error)
            return RenewalTurn(may_call=False)
        return RenewalTurn(may_call=self._is_present(account))

    @asynccontextmanager
    async def _folder_lock(self, account: Account) -> AsyncIterator[bool]:
        """Hold the account's lock in the state folder; yields whether the folder can be locked at all."""
        name = f"renewal-{digest(account.user_id).hex()[:32]}"
        lock: int | None = None
        try:
            while (lock := await self._try_folder_lock(name)) is None:  # noqa: ASYNC110 — a file sets no event
                await asyncio.sleep(RETRY_SECONDS)
        except StateError as error:  # then no process with this folder takes a turn without Redis
            _logger.warning("%s: without Redis, the login of account %s cannot be renewed", error, account.label)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                os.close(lock)

    async def _try_folder_lock(self, name: str) -> int | None:
        """As `StateFolder.try_lock`, in a thread. A lock that is taken after a cancellation is released."""
        taking = self._copies.threads.submit(self._copies.try_lock, name)
        try:
            return await asyncio.wrap_future(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(_release)
            raise

    def _is_present(self, account: Account) -> bool:
        """Whether the account still has this cookie."""
        present = self._state.pool.get(account.user_id)
        return present is not None and present.session.value == account.session.value

    def _check_key(self, user_id: str) -> str:
        return self._link.key("checked", user_id)


def _lock_command(lock: str, token: str) -> Command:
    return ("SET", lock, token, "NX", "PX", round(LOCK_SECONDS * 1000))


def _release(taking: Future[int | None]) -> None:
    if not taking.cancelled() and taking.exception() is None and (lock := taking.result()) is not None:
        os.close(lock)


def _cookie_id(account: Account) -> str:
    return digest(account.session.value).hex()[:16]
