"""Keys, accounts and the owner's settings in memory, where requests read them; changes are saved by write-behind.

A command may change keys and accounts while the daemon runs; the daemon notices within two seconds. Its own changes
(a rotated cookie, an expired account, a cooldown) are merged into the file, field by field (`_merged`):

    in the file            in memory              result
    ──────────────────────────────────────────────────────────────────────────────────────────────
    account removed        any                    removed
    account added          absent                 added
    session unchanged      session rotated        the session in memory
    session changed        any                    the file's account, a new login; but the one in memory
                                                  where the site had already replaced the file's session
    field unchanged        changed                the field in memory
    field changed          any                    the file's field: a command overrides the daemon
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from bridge.access.keys import ApiKey, KeyRing
from bridge.state.admin import ADMIN, Admin
from bridge.state.documents import Document, StateFolder
from bridge.state.errors import StateError, StateGone, StateUnavailable
from bridge.state.formats import DocumentFormat, DocumentSource, StoredDocument
from bridge.state.saving import Saver
from upstream.accounts import Account, AccountPool, digest
from upstream.protocol.models import Model

T = TypeVar("T")

#: After this many consecutive checks that did not find a file it counts as deleted, if its folder exists.
CHECKS_UNTIL_DELETED: Final = 10

_logger = logging.getLogger(__name__)


def _list_format(
    name: str, read: Callable[[object], T], write: Callable[[T], object], *, precious: bool
) -> DocumentFormat[tuple[T, ...]]:
    def parse(values: object) -> tuple[T, ...]:
        if not isinstance(values, list):
            raise ValueError("must be a list")
        return tuple(map(read, values))

    return DocumentFormat(name, 1, parse, lambda items: list(map(write, items)), (), precious)


#: `keys.json`: only hashes of keys.
KEYS: Final = _list_format("keys", ApiKey.from_json, ApiKey.to_json, precious=True)
#: `accounts.json`: the cookies, and what the site's answers showed about each account.
ACCOUNTS: Final = _list_format("accounts", Account.from_json, Account.to_json, precious=True)
#: `models.json`: the models as last read, used when the site's page cannot be read.
MODELS: Final = _list_format("models", Model.from_json, Model.to_json, precious=False)


def keys_document(folder: StateFolder) -> Document[tuple[ApiKey, ...]]:
    """`keys.json` of a state folder."""
    return folder.open(KEYS)


def accounts_document(folder: StateFolder) -> Document[tuple[Account, ...]]:
    """`accounts.json` of a state folder."""
    return folder.open(ACCOUNTS)


def models_document(folder: StateFolder) -> Document[tuple[Model, ...]]:
    """`models.json` of a state folder."""
    return folder.open(MODELS)


class UnsavedCookies(Protocol):
    """Keeps new cookies that cannot be saved with their accounts, also for the next run. All raise StateError."""

    async def applied(self, accounts: Iterable[Account]) -> tuple[Account, ...]:
        """The accounts with the cookies that were kept for them."""

    async def keep(self, shared: Mapping[str, Account], ours: Iterable[Account]) -> None:
        """Keep those cookies of `ours` that differ from the saved accounts `shared` (by user id), and no others."""


class State:
    """Keys, accounts and the owner's settings. Owned by the app: `load` first, then `watch` and `save` as tasks.

    `clock` gives unix seconds, `monotonic` the seconds of a monotonic clock, as in `AccountPool`. `on_password` is
    called when the dashboard's password has changed, by this process or another. `unsaved_cookies` keeps cookies that
    cannot be saved; it is not needed with files, which fail only with the disk. `shared` means that other daemons may
    use the accounts at the same time.
    """

    def __init__(
        self,
        source: DocumentSource,
        clock: Callable[[], float],
        on_password: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] | None = None,
        unsaved_cookies: UnsavedCookies | None = None,
        shared: bool = False,
    ) -> None:
        self._source = source
        self._keys = source.open(KEYS)
        self._accounts = source.open(ACCOUNTS)
        self._admin = source.open(ADMIN)
        self._on_disk: dict[str, Account] = {}  # as last read or written here; later differences are other processes'
        self._on_password = on_password
        self._unsaved_cookies = unsaved_cookies
        self._shared = shared
        self._merging = asyncio.Lock()
        self._saver = Saver("accounts are", self._merge)
        self.keys = KeyRing()
        self.admin = Admin()
        self.pool = AccountPool(clock, self._saver.mark_changed, monotonic)

    async def load(self) -> None:
        """Read everything. Raises StateError."""
        await self._load_keys()
        await self._load_admin()
        accounts = await self._accounts.load()
        self._on_disk = {account.user_id: account for account in accounts}
        if self._unsaved_cookies is not None:
            saved, accounts = accounts, await self._unsaved_cookies.applied(accounts)
            if accounts != saved:
                self._saver.mark_changed()
        self.pool.load(accounts, saved_at=self._accounts.written_at)

    async def update_keys(self, change: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]) -> None:
        """Change the keys on disk and here. Raises StateError, and what `change` raises."""
        self.keys = KeyRing(await self._keys.update(change))

    async def update_accounts(self, change: Callable[[tuple[Account, ...]], tuple[Account, ...]]) -> None:
        """Change the accounts on disk and here. Raises StateError, and what `change` raises."""
        await self._accounts.update(change)
        await self._merge()

    async def refresh_accounts(self) -> None:
        """Read the changes of other processes to accounts, and write those of this one. Raises StateError."""
        await self._merge()

    async def load_unsaved_cookies(self) -> None:
        """Load the cookies that other processes with the same folder could not save. Raises StateError."""
        if self._unsaved_cookies is None:
            return
        saved = self._on_disk
        kept = await self._unsaved_cookies.applied(tuple(saved.values()))  # they are found by what they replace there
        newer = {each.user_id: each.session for each in kept if each.session != saved[each.user_id].session}
        replaced = self.pool.replaced
        self.pool.load(
            replace(account, session=session, expired=False)
            if (session := newer.get(account.user_id)) is not None and digest(session.value) not in replaced
            else account
            for account in self.pool
        )

    @property
    def is_saved(self) -> bool:
        """Whether all changes to accounts are saved."""
        return not self._saver.is_pending

    async def update_admin(self, change: Callable[[Admin], Admin]) -> None:
        """Change the owner's settings on disk and here. Raises StateError, and what `change` raises."""
        self._set_admin(await self._admin.update(change))

    def _set_admin(self, admin: Admin) -> None:
        before, self.admin = self.admin, admin
        if admin.password_hash != before.password_hash:
            self._on_password()

    async def _load_keys(self) -> str:
        self.keys = KeyRing(await self._keys.load())
        return f"{len(self.keys)} keys"

    async def _load_admin(self) -> str:
        self._set_admin(await self._admin.load())
        return "the owner's settings"

    async def watch(self, on_accounts: Callable[[], None], on_clearance: Callable[[], None] = lambda: None) -> None:
        """Load the changes that other processes make, until cancelled.

        `on_accounts` is called when the accounts have changed, `on_clearance` when the pasted clearance has.
        """

        async def load_accounts() -> str:
            await self._merge()
            on_accounts()
            return f"{len(self.pool)} accounts"

        async def load_admin() -> str:
            before = self.admin.clearance
            loaded = await self._load_admin()
            if self.admin.clearance != before:
                on_clearance()
            return loaded

        watched = (
            _WatchedDocument(self._keys, self._load_keys),
            _WatchedDocument(self._accounts, load_accounts),
            _WatchedDocument(self._admin, load_admin),
        )
        while True:
            try:
                changed = await self._source.changes((self._keys, self._accounts, self._admin))
                if changed or any(each.is_missing for each in watched):
                    for each in watched:
                        await each.check()
            except Exception:  # the watch must survive any error, or no later change would be noticed
                _logger.exception("the state folder could not be checked; continuing with what was read before")

    async def save(self) -> None:
        """Write this process's changes to accounts as they happen, with retries, until cancelled."""
        await self._saver.keep()

    async def flush(self) -> None:
        """Write pending changes now. A failure is logged once, and `save` retries."""
        await self._saver.flush()

    async def finish(self) -> None:
        """Write pending changes a last time. What cannot be written is lost, and the log names it."""
        if await self._saver.finish():
            return
        why = self._saver.failure
        if isinstance(why, StateGone) and not why.with_folder:  # no time to wait for its return: recreate the file
            with suppress(StateError):
                await self._accounts.save(tuple(self.pool))
                return
        where, lost = self._accounts.where, [each.label for each in self.pool if not self._is_cookie_on_disk(each)]
        if lost:
            labels = ", ".join(map(repr, lost))
            _logger.critical(
                "%s could not be saved at shutdown: %s. LOST: the new session cookies of %s; add these accounts again",
                where,
                why,
                labels,
            )
        else:
            _logger.error(
                "%s could not be saved at shutdown: %s. No cookie is lost, only other changes to accounts", where, why
            )

    def _is_cookie_on_disk(self, account: Account) -> bool:
        on_disk = self._on_disk.get(account.user_id)
        return on_disk is not None and on_disk.session.value == account.session.value

    async def _merge(self) -> None:
        # Shielded: after half a merge, this process's own write would look like another one's.
        await asyncio.shield(self._merge_locked())

    async def _merge_locked(self) -> None:
        async with self._merging:
            ours = {account.user_id: account for account in self.pool}
            seen, replaced = dict(self._on_disk), self.pool.replaced
            merge = partial(_merged, shared=self._shared)
            try:
                merged = await self._accounts.update(
                    lambda on_disk: tuple(
                        merge(seen.get(each.user_id), each, ours.get(each.user_id), replaced) for each in on_disk
                    )
                )
                if self._unsaved_cookies is not None:
                    await self._unsaved_cookies.keep({}, ())
            except StateUnavailable:
                if self._unsaved_cookies is not None:
                    await self._unsaved_cookies.keep(seen, self.pool)
                raise
            self._on_disk = {account.user_id: account for account in merged}
            # The pool may have changed meanwhile: it keeps those changes, and the next merge writes them.
            self.pool.load(
                merge(ours.get(each.user_id), each, self.pool.get(each.user_id), self.pool.replaced) for each in merged
            )


def _merged(
    before: Account | None, theirs: Account, ours: Account | None, replaced: Set[bytes], *, shared: bool
) -> Account:
    """Merge two versions of an account that have diverged since `before`; where both changed a field, theirs wins.

    If their session is a different one, it is a new login, so the result is their account. But if the site had already
    replaced that session (`replaced` holds digests), theirs comes from an old copy of the file, and ours is the result.
    If accounts are `shared`, a different session may be another daemon's renewal, which does not end cooldowns.
    """
    if before is None or ours is None:
        return theirs
    cooldowns = ours.cooldowns if theirs.cooldowns == before.cooldowns else theirs.cooldowns
    paused = ours.paused if theirs.paused == before.paused else theirs.paused
    if theirs.session.value != before.session.value:
        if digest(theirs.session.value) in replaced:
            return replace(ours, paused=paused)
        return replace(theirs, cooldowns=cooldowns) if shared else theirs
    rotated = ours.session.value != before.session.value
    return replace(
        ours,
        label=ours.label if theirs.label == before.label else theirs.label,
        expired=ours.expired if rotated or theirs.expired == before.expired else theirs.expired,
        cooldowns=cooldowns,
        bar=ours.bar if theirs.bar is before.bar else theirs.bar,
        paused=paused,
        last_cooldown=ours.last_cooldown if theirs.last_cooldown == before.last_cooldown else theirs.last_cooldown,
    )


class _WatchedDocument:
    """A document that other processes may change while the daemon runs. `load` applies it and returns a summary.

    If the document cannot be read, nothing changes, and the reason is logged once. A missing file may return, because
    an editor, a restore or a mount may be in progress.
    """

    def __init__(self, document: StoredDocument[Any], load: Callable[[], Awaitable[str]]) -> None:
        self._document = document
        self._load = load
        self._logged_error = ""
        self._misses = 0  # consecutive checks that did not find the file
        self._counts_as_deleted = False  # to be loaded as an empty one

    @property
    def is_missing(self) -> bool:
        """Whether the last check did not find the file."""
        return self._misses > 0

    async def check(self) -> None:
        """Load the document if it has changed."""
        try:
            if not await self._document.changed() and not self._counts_as_deleted:
                if self.is_missing:
                    _logger.info("%s is back, unchanged", self._document.short_name)
                    self._logged_error, self._misses = "", 0
                return
            found = await self._load()
        except StateGone as error:
            self._log_once(error)
            self._misses += 1
            if self._misses >= CHECKS_UNTIL_DELETED and not error.with_folder:
                await self._document.accept_deletion()
                self._counts_as_deleted = True
                _logger.warning("%s has not come back: it is treated as empty", self._document.where)
        except StateError as error:
            self._log_once(error)
            self._misses = 0
        else:
            _logger.info("%s was changed: %s", self._document.short_name, found)
            self._logged_error, self._misses, self._counts_as_deleted = "", 0, False

    def _log_once(self, error: StateError) -> None:
        if str(error) != self._logged_error:
            _logger.error("%s; continuing with what was read before", error)
        self._logged_error = str(error)
