"""What the state folder holds, in memory: read from there in a request, written to disk behind it.

Keys and accounts may be changed by a command while the daemon runs: it notices within two seconds. The daemon's own
changes (a rotated cookie, an expired account, a rest) are merged into what stands on disk, where a command's wins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from bridge.admin import Admin, admin_document
from bridge.conversations import Conversations, Evaluation
from bridge.keys import ApiKey, KeyRing
from bridge.store import Document, StateError, StateFolder, any_looks_changed
from bridge.tasks import TaskOwner
from upstream.accounts import Account, AccountPool
from upstream.models import Model
from upstream.modes import MODES, Modes

T = TypeVar("T")

#: How soon what could not be saved is tried again, in seconds.
SAVE_AGAIN_SECONDS: Final = 10.0
#: A hundred thousand conversations, some of which have many digests, with room.
MAX_CONVERSATIONS_BYTES: Final = 256 * 1024 * 1024
#: How often a look is taken at the files, in seconds: a change must be noticed within two.
WATCH_SECONDS: Final = 1.0

_logger = logging.getLogger(__name__)


def keys_document(folder: StateFolder) -> Document[tuple[ApiKey, ...]]:
    """`keys.json`: only hashes of keys."""
    return _list_document(folder, "keys", ApiKey.from_json, ApiKey.to_json, precious=True)


def accounts_document(folder: StateFolder) -> Document[tuple[Account, ...]]:
    """`accounts.json`: the cookies, and what upstream made of them."""
    return _list_document(folder, "accounts", Account.from_json, Account.to_json, precious=True)


def models_document(folder: StateFolder) -> Document[tuple[Model, ...]]:
    """`models.json`: the models as last read, for when the page cannot be had."""
    return _list_document(folder, "models", Model.from_json, Model.to_json, precious=False)


@dataclass(frozen=True, slots=True)
class SavedModes:
    """What `site.json` holds: the modes that new evaluations must name (`upstream.modes`)."""

    default: str = MODES[0]
    of_accounts: Mapping[str, str] = field(default_factory=dict)


def site_document(folder: StateFolder) -> Document[SavedModes]:
    """`site.json`: what the site has shown it wants, by account."""

    def parse(value: object) -> SavedModes:
        match value:
            case {"mode": str(default), "modes": dict(of_accounts)}:
                return SavedModes(default, {str(user_id): str(mode) for user_id, mode in of_accounts.items()})
        raise ValueError("site needs mode and modes")

    return Document(
        folder,
        "site",
        version=1,
        parse=parse,
        dump=lambda saved: {"mode": saved.default, "modes": dict(saved.of_accounts)},
        empty=SavedModes(),
        precious=False,
    )


@asynccontextmanager
async def kept_modes(folder: StateFolder, known: Callable[[str], bool]) -> AsyncIterator[Modes]:
    """The modes as the last run learned them, saved when they change.

    `known` says whether an account (by user id) exists: what was learned of others is dropped.
    """
    document = site_document(folder)
    changed = asyncio.Event()
    modes = Modes(changed.set)
    saved = await document.load()
    modes.load(saved.default, saved.of_accounts)

    async def save() -> None:
        while True:
            await changed.wait()
            changed.clear()
            modes.forget(known)
            try:
                await document.save(SavedModes(modes.default, dict(modes.of_accounts)))
            except StateError as error:  # the next start learns them again, at the cost of one refused call
                _logger.error("the site's modes are not saved: %s", error)

    async with TaskOwner() as tasks:
        tasks.spawn(save(), name="save modes")
        yield modes


def _list_document(
    folder: StateFolder, name: str, read: Callable[[object], T], write: Callable[[T], object], *, precious: bool
) -> Document[tuple[T, ...]]:
    return Document(
        folder,
        name,
        version=1,
        parse=lambda values: tuple(map(read, _list(values))),
        dump=lambda items: list(map(write, items)),
        empty=(),
        precious=precious,
    )


@dataclass(frozen=True, slots=True)
class SavedConversations:
    """What `conversations.json` holds. Trusted only after a clean stop: turns may have been sent since."""

    clean: bool = False
    evaluations: tuple[Evaluation, ...] = ()


def conversations_document(folder: StateFolder) -> Document[SavedConversations]:
    """`conversations.json`: evaluations at rest, the least recently used first."""

    def parse(value: object) -> SavedConversations:
        match value:
            case {"clean": bool(clean), "evaluations": list(saved)}:
                return SavedConversations(clean, tuple(Evaluation.from_json(each) for each in saved))
        raise ValueError("conversations need clean and evaluations")

    return Document(
        folder,
        "conversations",
        version=1,
        parse=parse,
        dump=lambda saved: {"clean": saved.clean, "evaluations": [each.to_json() for each in saved.evaluations]},
        empty=SavedConversations(),
        precious=False,
        max_bytes=MAX_CONVERSATIONS_BYTES,
    )


@asynccontextmanager
async def kept_conversations(folder: StateFolder) -> AsyncIterator[Conversations]:
    """The table of the last run, if it stopped cleanly; saved again by a clean stop of this one."""
    document = conversations_document(folder)
    saved = await document.load()
    conversations = Conversations()
    if saved.clean:
        conversations.load(saved.evaluations)
    await document.save(SavedConversations())
    yield conversations
    try:
        # In the document's thread: they may be a hundred thousand, and nobody changes them any more.
        await document.update(lambda _: SavedConversations(clean=True, evaluations=tuple(conversations)))
    except StateError as error:  # the next start begins every conversation anew, which is right, only slower
        _logger.error("conversations are not saved: %s", error)


class State:
    """Keys, accounts and the owner's settings. Owned by the app: `load` first, then `watch` and `save` as tasks.

    `clock` gives unix seconds; `on_password` is told of another password for the dashboard, whoever set it.
    """

    def __init__(
        self, folder: StateFolder, clock: Callable[[], float], on_password: Callable[[], None] = lambda: None
    ) -> None:
        self._keys = keys_document(folder)
        self._accounts = accounts_document(folder)
        self._admin = admin_document(folder)
        self._on_disk: dict[str, Account] = {}  # as last seen there: what differs since, a command has written
        self._dirty = asyncio.Event()
        self._on_password = on_password
        self._turn = asyncio.Lock()
        self._unsaved = ""  # why accounts could not be saved, the last time
        self.keys = KeyRing()
        self.admin = Admin()
        self.pool = AccountPool(clock, self._dirty.set)

    async def load(self) -> None:
        """Read everything. Raises StateError."""
        self.keys = KeyRing(await self._keys.load())
        self.admin = await self._admin.load()
        accounts = await self._accounts.load()
        self._on_disk = {account.user_id: account for account in accounts}
        self.pool.load(accounts)

    async def update_keys(self, change: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]) -> None:
        """Change the keys on disk and here. Raises StateError, and what `change` raises."""
        self.keys = KeyRing(await self._keys.update(change))

    async def update_accounts(self, change: Callable[[tuple[Account, ...]], tuple[Account, ...]]) -> None:
        """Change the accounts on disk and here. Raises StateError, and what `change` raises."""
        await self._accounts.update(change)
        await self._merge()

    async def update_admin(self, change: Callable[[Admin], Admin]) -> None:
        """Change what the owner has set, on disk and here. Raises StateError, and what `change` raises."""
        self._take_admin(await self._admin.update(change))

    def _take_admin(self, admin: Admin) -> None:
        before, self.admin = self.admin, admin
        if admin.password_hash != before.password_hash:
            self._on_password()

    async def watch(self, on_accounts: Callable[[], None]) -> None:
        """Notice what commands change, for ever. `on_accounts` is told when it was the accounts."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                if not await any_looks_changed(self._keys, self._accounts, self._admin):
                    continue
                if await self._keys.changed():
                    self.keys = KeyRing(await self._keys.load())
                    _logger.info("keys.json was changed: %d keys", len(self.keys))
                if await self._accounts.changed():
                    await self._merge()
                    _logger.info("accounts.json was changed: %d accounts", len(self.pool))
                    on_accounts()
                if await self._admin.changed():
                    self._take_admin(await self._admin.load())
                    _logger.info("admin.json was changed")
            except StateError as error:
                _logger.error("%s; going on with what was read before", error)
            except Exception:  # a change that is never noticed again would be worse than any error
                _logger.exception("the state folder could not be looked at; going on with what was read before")

    async def save(self) -> None:
        """Write what upstream changes, at once, for ever."""
        while True:
            await self._dirty.wait()
            await self.flush()
            if self._dirty.is_set():  # in vain, or there is news already
                await asyncio.sleep(SAVE_AGAIN_SECONDS if self._unsaved else 0)

    async def flush(self) -> None:
        """Write what is not yet on disk. A failure is logged once, and `save` tries again."""
        try:
            await self._merge(if_dirty=True)
        except StateError as error:
            if str(error) != self._unsaved:
                _logger.error("accounts are not saved: %s", error)
            self._unsaved = str(error)
        else:
            self._unsaved = ""

    async def _merge(self, *, if_dirty: bool = False) -> None:
        # To the end, even when the daemon stops: half a merge would take our own writing for a command's.
        await asyncio.shield(self._merge_in_turn(if_dirty=if_dirty))

    async def _merge_in_turn(self, *, if_dirty: bool) -> None:
        async with self._turn:
            if if_dirty and not self._dirty.is_set():
                return
            self._dirty.clear()
            ours = {account.user_id: account for account in self.pool}
            seen = dict(self._on_disk)
            try:
                merged = await self._accounts.update(lambda on_disk: _merged(on_disk, ours, seen))
            except StateError:
                self._dirty.set()  # a cookie that is on no disk is lost with the process
                raise
            self._on_disk = {account.user_id: account for account in merged}
            # Where ours was written, the pool may have news since, which the next merge writes; else the disk has won.
            self.pool.load(
                self.pool.get(account.user_id) or account if account == ours.get(account.user_id) else account
                for account in merged
            )


def _merged(on_disk: tuple[Account, ...], ours: dict[str, Account], seen: dict[str, Account]) -> tuple[Account, ...]:
    """Put our view of each account in the place of the one on disk, unless a command has written that since.

    A command that has left the cookie as it was does not bring back one that the site has replaced.
    """

    def one(account: Account) -> Account:
        mine, before = ours.get(account.user_id), seen.get(account.user_id)
        if mine is None or before is None or account.session != before.session:
            return account
        return mine if account == before else replace(account, session=mine.session)

    return tuple(map(one, on_disk))


def _list(values: object) -> list[object]:
    if not isinstance(values, list):
        raise ValueError("must be a list")
    return values
