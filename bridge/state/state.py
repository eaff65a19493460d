"""What the state folder holds, in memory: read from there in a request, written to disk behind it.

Keys and accounts may be changed by a command while the daemon runs: it notices within two seconds. The daemon's own
changes (a rotated cookie, an expired account, a rest) are merged into what stands on disk, where a command's wins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from bridge.access.keys import ApiKey, KeyRing
from bridge.answering.conversations import Conversations, Evaluation
from bridge.state.admin import Admin, admin_document
from bridge.state.documents import Document, StateError, StateFolder, StateGone, any_looks_changed
from bridge.state.saving import Saving, saving
from upstream.accounts import Account, AccountPool, digest
from upstream.modes import MODES, Modes
from upstream.protocol.models import Model

T = TypeVar("T")

#: A hundred thousand conversations, some of which have many digests, with room.
MAX_CONVERSATIONS_BYTES: Final = 256 * 1024 * 1024
#: How often a look is taken at the files, in seconds: a change must be noticed within two.
WATCH_SECONDS: Final = 1.0
#: After so many looks in a row that did not find a file it is believed to be gone, if its folder is there.
LOOKS_UNTIL_GONE: Final = 10

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
    before = await document.load()

    async def write() -> None:
        modes.forget(known)
        await document.save(SavedModes(modes.default, dict(modes.of_accounts)))

    async with saving("the site's modes are", write, loss="the next start learns them again") as kept:
        modes = Modes(kept.changed)
        modes.load(before.default, before.of_accounts)
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

    `clock` gives unix seconds, `monotonic` seconds that no setting of a clock changes, as in `AccountPool`;
    `on_password` is told of another password for the dashboard, whoever set it.
    """

    def __init__(
        self,
        folder: StateFolder,
        clock: Callable[[], float],
        on_password: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._keys = keys_document(folder)
        self._accounts = accounts_document(folder)
        self._admin = admin_document(folder)
        self._clock = clock
        self._on_disk: dict[str, Account] = {}  # as last seen there: what differs since, a command has written
        self._on_password = on_password
        self._turn = asyncio.Lock()
        self._saving = Saving("accounts are", self._merge)
        self.keys = KeyRing()
        self.admin = Admin()
        self.pool = AccountPool(clock, self._saving.changed, monotonic)

    async def load(self) -> None:
        """Read everything. Raises StateError."""
        await self._load_keys()
        await self._load_admin()
        accounts = await self._accounts.load()
        self._on_disk = {account.user_id: account for account in accounts}
        self.pool.load(accounts, saved_at=self._accounts.written_at)

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

    async def _load_keys(self) -> str:
        self.keys = KeyRing(await self._keys.load())
        return f"{len(self.keys)} keys"

    async def _load_admin(self) -> str:
        self._take_admin(await self._admin.load())
        return "the owner's settings"

    async def watch(self, on_accounts: Callable[[], None]) -> None:
        """Notice what commands change, until cancelled. `on_accounts` is told when it was the accounts."""

        async def load_accounts() -> str:
            await self._merge()
            on_accounts()
            return f"{len(self.pool)} accounts"

        watched = (
            _Watched(self._keys, self._load_keys),
            _Watched(self._accounts, load_accounts),
            _Watched(self._admin, self._load_admin),
        )
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                if await self._one_looks_changed() or any(each.is_gone for each in watched):
                    for each in watched:
                        await each.look()
            except Exception:  # a change that is never noticed again would be worse than any error
                _logger.exception("the state folder could not be looked at; going on with what was read before")

    async def _one_looks_changed(self) -> bool:
        try:
            return await any_looks_changed(self._keys, self._accounts, self._admin)
        except StateError:
            return True

    async def save(self) -> None:
        """Write what upstream changes, at once and as often as it takes, until cancelled."""
        await self._saving.keep()

    async def flush(self) -> None:
        """Write what is not yet on disk. A failure is logged once, and `save` tries again."""
        await self._saving.flush()

    async def finish(self) -> None:
        """Write what is not yet on disk, for the last time: what cannot be written is lost, and named in the log."""
        if await self._saving.finish():
            return
        why = self._saving.failure
        if isinstance(why, StateGone) and not why.with_folder:  # nobody puts it back in time
            with suppress(StateError):
                await self._accounts.save(tuple(self.pool))
                return
        path, lost = self._accounts.path, [each.label for each in self.pool if not self._is_cookie_on_disk(each)]
        if lost:
            labels = ", ".join(map(repr, lost))
            _logger.critical(
                "%s is not saved at the end: %s. LOST: the new session cookies of %s; add these accounts again",
                path,
                why,
                labels,
            )
        else:
            _logger.error("%s is not saved at the end: %s. No cookie is lost, only what was noted of them", path, why)

    def _is_cookie_on_disk(self, account: Account) -> bool:
        on_disk = self._on_disk.get(account.user_id)
        return on_disk is not None and on_disk.session.value == account.session.value

    async def _merge(self) -> None:
        # To the end, even when the daemon stops: half a merge would take our own writing for a command's.
        await asyncio.shield(self._merge_in_turn())

    async def _merge_in_turn(self) -> None:
        async with self._turn:
            ours = {account.user_id: account for account in self.pool}
            seen, replaced = dict(self._on_disk), self.pool.replaced
            merged = await self._accounts.update(
                lambda on_disk: tuple(
                    _merged(seen.get(each.user_id), each, ours.get(each.user_id), replaced) for each in on_disk
                )
            )
            self._on_disk = {account.user_id: account for account in merged}
            # Upstream may have said more meanwhile: that stays, and the next merge writes it.
            self.pool.load(
                _merged(ours.get(each.user_id), each, self.pool.get(each.user_id), self.pool.replaced)
                for each in merged
            )


def _merged(before: Account | None, theirs: Account, ours: Account | None, replaced: Set[bytes]) -> Account:
    """One account out of two that have both been changed since `before`; where both changed the same, theirs wins.

    Another session is another login, and all of it is theirs, unless the site has replaced that session (`replaced`
    holds digests): then all of it came out of an old copy of the file.
    """
    if before is None or ours is None:
        return theirs
    if theirs.session.value != before.session.value:
        return ours if digest(theirs.session.value) in replaced else theirs
    return Account(
        ours.label if theirs.label == before.label else theirs.label,
        ours.session,
        ours.expired if theirs.expired == before.expired else theirs.expired,
        ours.resting if theirs.resting == before.resting else theirs.resting,
        ours.bar if theirs.bar is before.bar else theirs.bar,
    )


class _Watched:
    """A document that others may change while the daemon runs. `load` takes it over and says what it is.

    What cannot be read changes nothing, and is said once. A file that is gone may come back: it is on its way into an
    editor, a restore or a mount.
    """

    def __init__(self, document: Document[Any], load: Callable[[], Awaitable[str]]) -> None:
        self._document = document
        self._load = load
        self._complaint = ""
        self._looks = 0  # in a row that did not find it
        self._is_believed_gone = False  # and is to be loaded as an empty one

    @property
    def is_gone(self) -> bool:
        """Whether the last look did not find it."""
        return self._looks > 0

    async def look(self) -> None:
        """Take over what has changed, if anything has."""
        try:
            if not await self._document.changed() and not self._is_believed_gone:
                if self.is_gone:
                    _logger.info("%s is there again, as it was", self._document.path.name)
                    self._complaint, self._looks = "", 0
                return
            found = await self._load()
        except StateGone as error:
            self._complain(error)
            self._looks += 1
            if self._looks >= LOOKS_UNTIL_GONE and not error.with_folder:
                await self._document.believe_gone()
                self._is_believed_gone = True
                _logger.warning("%s does not come back: it is taken for empty", self._document.path)
        except StateError as error:
            self._complain(error)
            self._looks = 0
        else:
            _logger.info("%s was changed: %s", self._document.path.name, found)
            self._complaint, self._looks, self._is_believed_gone = "", 0, False

    def _complain(self, error: StateError) -> None:
        if str(error) != self._complaint:
            _logger.error("%s; going on with what was read before", error)
        self._complaint = str(error)


def _list(values: object) -> list[object]:
    if not isinstance(values, list):
        raise ValueError("must be a list")
    return values
