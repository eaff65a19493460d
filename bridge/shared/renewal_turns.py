"""Turns at calls that may renew a login: one process at a time, and only with the newest cookie.

    Redis      this process                                    may call
    ─────────────────────────────────────────────────────────────────────────────────────────────────────
    up         has the account's lock, and its cookie is that  yes
               of the account as it has just been read
    up         the same, but another has called since this     no: it takes over what the other has learned
               one last did
    up         finds another cookie, at once or, where this    no: another process has renewed it
               one was refused, a moment later
    cannot be  all processes were below one state folder, the  yes, under a lock in that folder
    used       token is at its end
    cannot be  others may be elsewhere, or it can wait         no
    used

The lock in Redis ends by itself, later than any call that was begun under it. That the holder's process is dead is no
reason to take it earlier: the kernel goes on sending what was written, so its call may reach the site after the next
holder's, and a refresh token that is used twice ends the login. A frozen one may wake in the middle of a call, too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from bridge.accounts.renewals import CALL_SECONDS, RenewalTurn
from bridge.shared.connection import Command
from bridge.shared.errors import SharedStateDown
from bridge.shared.link import Link
from bridge.shared.script import Script
from bridge.state.documents import StateError, StateFolder
from bridge.state.state import State
from upstream.accounts import Account, digest

#: How long a lock lasts whose holder does not give it back, in seconds; a call must begin well before.
LOCK_SECONDS: Final = CALL_SECONDS + 30.0
#: How long after taking the lock a call may begin, in seconds: a process may have been stopped in between.
BEGIN_SECONDS: Final = 15.0
#: How long after Redis was started again no lock is taken, in seconds: those that were held are being taken again.
SETTLE_SECONDS: Final = 2.0
#: How often a lock is tried that another process has, in seconds.
RETRY_SECONDS: Final = 0.1
#: How long a process may take to save the cookie that has replaced a refused one, in seconds.
SAVING_SECONDS: Final = 0.5
#: How long it is known that a cookie was shown to the site, in seconds.
KNOWN_SECONDS: Final = 86_400.0

_UNLOCK: Final = Script("unlock")

_logger = logging.getLogger(__name__)


class RedisTurns:
    """Takes turns, with the interface of `bridge.accounts.renewals.RenewalTurns`. `clock` is monotonic, in seconds."""

    def __init__(self, link: Link, state: State, copies: StateFolder, clock: Callable[[], float]) -> None:
        self._link = link
        self._state = state
        self._copies = copies
        self._clock = clock
        self._held: dict[str, str] = {}  # tokens by lock
        self._run_id = link.run_id  # of the Redis that has all locks
        link.on_reconnect(self._take_again)

    @asynccontextmanager
    async def turn(
        self, account: Account, known_check: str, *, doubted: bool, urgent: bool
    ) -> AsyncIterator[RenewalTurn]:
        """Wait for the turn at an account's login; see `RenewalTurns`."""
        lock, token = self._link.key("renewal", account.user_id), secrets.token_hex(16)
        turn: RenewalTurn | None = None
        try:
            try:
                turn = await self._turn_behind(lock, token, account, known_check, doubted=doubted)
            except SharedStateDown:
                async with self._alone(account, urgent=urgent) as turn:
                    yield turn
                return
            except StateError as error:  # it cannot be known whether the cookie is the newest
                _logger.error("the login of account %s is not renewed: %s", account.label, error)
                turn = RenewalTurn(may_call=False)
            yield turn
            if turn.is_checked and turn.may_call:
                present = self._state.pool.get(account.user_id) or account
                turn.check = f"{_cookie_id(present)} {secrets.token_hex(8)}"
                self._link.post(("SET", self._check_of(account.user_id), turn.check, "EX", round(KNOWN_SECONDS)))
        finally:  # also of what was cancelled while it waited: its lock may be on its way
            self._held.pop(lock, None)
            if turn is None or not turn.may_call or self._state.is_saved:
                self._link.post(_UNLOCK.call((lock,), token))
            # else nobody may use the old cookie: the lock ends by itself

    async def _turn_behind(
        self, lock: str, token: str, account: Account, known_check: str, *, doubted: bool
    ) -> RenewalTurn:
        """Wait for the lock, and see what others have done. Raises StateError."""
        taken_at = await self._lock(lock, token)
        await self._state.refresh_accounts()
        if doubted and self._is_present(account):
            await asyncio.sleep(SAVING_SECONDS)  # an answer to another process may have replaced it a moment ago
            await self._state.refresh_accounts()
        found = (await self._link.text(self._check_of(account.user_id)) or b"").decode("utf-8", "replace")
        is_checked = found.startswith(_cookie_id(account)) and found != known_check and not doubted
        if not self._is_present(account) or self._clock() - taken_at > BEGIN_SECONDS:
            return RenewalTurn(may_call=False)
        return RenewalTurn(may_call=not is_checked, is_checked=is_checked, check=found)

    async def _lock(self, lock: str, token: str) -> float:
        """Wait for the lock; return when it was asked for. Raises SharedStateDown and CommandRefused."""
        while True:
            run_id = self._link.run_id
            if self._run_id not in ("", run_id):
                await asyncio.sleep(SETTLE_SECONDS)
            self._run_id = run_id
            asked_at = self._clock()
            if await self._link.call(_lock_command(lock, token)):
                self._held[lock] = token
                return asked_at
            await asyncio.sleep(RETRY_SECONDS)

    async def _take_again(self) -> None:
        """Take the locks that are held here again, which Redis may have lost. Raises SharedStateDown."""
        if self._held:
            await self._link.run(*[_lock_command(lock, token) for lock, token in self._held.items()])

    @asynccontextmanager
    async def _alone(self, account: Account, *, urgent: bool) -> AsyncIterator[RenewalTurn]:
        """The turn without Redis: under a lock of the folder, if all processes are below it."""
        if not urgent or not self._link.all_use_one_folder:
            yield RenewalTurn(may_call=False)
            return
        name = f"renewal-{digest(account.user_id).hex()[:32]}"
        while (lock := await self._copies.threads.run(self._copies.try_lock, name)) is None:  # noqa: ASYNC110 — a file
            await asyncio.sleep(RETRY_SECONDS)
        try:
            await self._state.load_unsaved_cookies()
            yield RenewalTurn(may_call=self._is_present(account))
        finally:
            os.close(lock)

    def _is_present(self, account: Account) -> bool:
        """Whether the account still has this cookie."""
        present = self._state.pool.get(account.user_id)
        return present is not None and present.session.value == account.session.value

    def _check_of(self, user_id: str) -> str:
        return self._link.key("checked", user_id)


def _lock_command(lock: str, token: str) -> Command:
    return ("SET", lock, token, "NX", "PX", round(LOCK_SECONDS * 1000))


def _cookie_id(account: Account) -> str:
    return digest(account.session.value).hex()[:16]
