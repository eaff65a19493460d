"""Documents in Redis, each with a version, and their last known state in a folder of this machine.

A document is a hash, `lmab:doc:<name>`, of `version`, which grows, and `data`, the bytes that would be its file's. A
change is made to what was read, and written only if the version is still the same; otherwise it is made again to what
is there now. Whoever writes tells it, and everyone reads the new version; whoever has missed it asks every two seconds.

Whatever is read or written is copied to the folder. A start without Redis begins with the copies. A Redis that has lost
a document, or has an older version since it was restarted, is given the last known one again:

    in Redis              known here        result
    ────────────────────────────────────────────────────────────────────────────
    none                  none              the form's `empty`
    none, or older        version n         version n, which is written to Redis again
    the same version      version n         what is known, without reading it again
    newer                 any               Redis's
    damaged, too large    any               StateError, Redis's untouched; the daemon goes on with what it knows
    Redis cannot be used  any               load: what is known, or the copy; save, update: SharedStateDown
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, NamedTuple, TypeVar

from bridge.shared.errors import CommandRefused, SharedStateDown
from bridge.shared.link import Link
from bridge.shared.script import Script
from bridge.state.documents import StateError, StateFolder, StateUnavailable
from bridge.state.forms import Damaged, DocumentForm, StoredDocument, TooLarge
from bridge.tasks import set_within

T = TypeVar("T")

#: How often the versions are asked for, in seconds, in case that news were missed.
POLL_SECONDS: Final = 2.0
#: A longer document is read and written in a thread: parsing it would hold the loop.
THREAD_BYTES: Final = 32 * 1024
#: How often a change is made again because somebody else was quicker.
MAX_TRIES: Final = 100

#: The topic of news about documents; the text is a document's name and its new version.
TOPIC: Final = "document"

#: Of a version; the count has what is left of the 49 bits that a number of 15 digits holds.
_RANDOM_BITS: Final = 20

_READ: Final = Script("read")
_WRITE: Final = Script("write")
_RESTORE: Final = Script("restore")
_VERSIONS: Final = Script("versions")

_logger = logging.getLogger(__name__)


class Copied(NamedTuple, Generic[T]):
    """What a copy holds: a document's value, and the version that it had in Redis."""

    version: int
    value: T


def copied(form: DocumentForm[T]) -> DocumentForm[Copied[T]]:
    """The form of the copies of a document."""

    def parse(value: object) -> Copied[T]:
        match value:
            case {"version": int(version), "value": kept} if version >= 0:
                return Copied(version, form.parse(kept))
        raise ValueError("a copy needs version and value")

    def dump(copy: Copied[T]) -> object:
        return {"version": copy.version, "value": form.dump(copy.value)}

    max_bytes = form.max_bytes + 1024
    return DocumentForm(
        form.name, form.version, parse, dump, Copied(0, form.empty), precious=False, max_bytes=max_bytes
    )


def version_after(version: int) -> int:
    """The next version: a count, and random bits, so that two that grew apart are never taken for the same."""
    return ((version >> _RANDOM_BITS) + 1 << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)


class SharedDocuments:
    """The source of all shared documents; `copies` is a folder for their copies."""

    def __init__(self, link: Link, copies: StateFolder) -> None:
        self.link = link
        self._copies = copies
        self._opened: dict[str, list[SharedDocument[Any]]] = {}
        self._news = asyncio.Event()
        link.on_news(TOPIC, self._told)
        link.on_reconnect(self.catch_up)

    def open(self, form: DocumentForm[T]) -> SharedDocument[T]:
        """The document of this form."""
        document = SharedDocument(self.link, form, self._copies)
        self._opened.setdefault(form.name, []).append(document)
        return document

    async def changes(self, documents: Sequence[StoredDocument[Any]]) -> bool:
        """Wait for news, at most `POLL_SECONDS`; return whether any of these has another version than is known."""
        if not await set_within(self._news, POLL_SECONDS):
            with suppress(StateUnavailable):
                await self._ask()
        self._news.clear()
        return self.link.usable and any(document.looks_changed() for document in documents)

    async def catch_up(self) -> None:
        """Give Redis what it has lost, and have the others' changes read. Raises SharedStateDown."""
        for documents in self._opened.values():
            try:
                await max(documents, key=lambda document: document.version).restore()
            except SharedStateDown:
                raise
            except StateError as error:  # the rest is as it should be
                _logger.error("%s", error)
        await self._ask()
        self._news.set()

    def _told(self, text: str) -> None:
        """A document has another version, or, without a text, news were missed."""
        name, _, version = text.partition(" ")
        for document in self._opened.get(name, ()) if name else _all(self._opened):
            document.see(version.encode() if version else None)
            if document.looks_changed():
                self._news.set()

    async def _ask(self) -> None:
        """Ask for the versions of all documents in one round trip. Raises StateUnavailable."""
        names = list(self._opened)
        versions = await self.link.call(_VERSIONS.call(tuple([self.link.key("doc", name) for name in names])))
        for name, version in zip(names, versions, strict=True):
            for document in self._opened[name]:
                document.see(version)


def _all(opened: dict[str, list[SharedDocument[Any]]]) -> list[SharedDocument[Any]]:
    return [document for documents in opened.values() for document in documents]


class SharedDocument(Generic[T]):
    """One document in Redis, with the interface of `bridge.state.forms.StoredDocument`. Tasks may share an instance."""

    def __init__(self, link: Link, form: DocumentForm[T], copies: StateFolder) -> None:
        self._link = link
        self._form = form
        self._threads = copies.threads
        self._copy = copies.open(copied(form))
        self._key = link.key("doc", form.name)
        self._lock = asyncio.Lock()
        self._known: Copied[T] | None = None  # as last read or written
        self._changed = True  # there may be another version than the known one
        self._from_copy = False
        self._copy_fails = False

    @property
    def where(self) -> str:
        """The key and the server, for messages."""
        return f"{self._key} in Redis at {self._link.address}"

    @property
    def short_name(self) -> str:
        """The key."""
        return self._key

    @property
    def version(self) -> int:
        """The version that is known; 0 before the first."""
        return self._known.version if self._known is not None else 0

    @property
    def written_at(self) -> float | None:
        """When the copy was written, where what is known comes from there; else None."""
        return self._copy.written_at if self._from_copy else None

    async def load(self) -> T:
        """The present value; without Redis, what was last known here or at an earlier run. Raises StateError."""
        async with self._lock:
            await self._begin()
            with suppress(SharedStateDown):
                return (await self._read()).value
            return self._present().value

    async def save(self, value: T) -> None:
        """Replace the value, whatever it is. Raises StateError."""
        await self.update(lambda _: value)

    async def update(self, change: Callable[[T], T]) -> T:
        """Change the value. Raises StateError, SharedStateDown while Redis cannot be used, and what `change` raises."""
        return await asyncio.shield(self._update(change))  # half of it would leave the copy behind

    async def accept_deletion(self) -> None:
        """Nothing: a document that is missing in Redis is given to it again."""

    async def changed(self) -> bool:
        """Whether there may be another version than the known one."""
        return self._changed

    def looks_changed(self) -> bool:
        """The same."""
        return self._changed

    def see(self, version: object) -> None:
        """Take note of the version that Redis answers, as bytes; None where it has none, b"" where it is none."""
        if version != (b"%d" % self.version if self.version else None):
            self._changed = True

    async def restore(self) -> None:
        """Give Redis what is known here, if it has none or an older version. Raises StateError."""
        async with self._lock:
            await self._restore()

    async def _update(self, change: Callable[[T], T]) -> T:
        async with self._lock:
            await self._begin()
            for _ in range(MAX_TRIES):
                before = await self._read()
                value = change(before.value)
                if (
                    before.version and value == before.value
                ):  # a version of the same would make others read and merge it
                    return value
                after = Copied(version_after(before.version), value)
                data = await self._in_thread(self._encode, after.value, large=self._is_large(before.value))
                news = self._news(after.version)
                if await self._call(_WRITE.call((self._key,), before.version, after.version, data, *news)):
                    await self._know(after)
                    return after.value
        raise StateUnavailable(f"{self.where} is changed by others all the time; nothing was changed")

    async def _begin(self) -> None:
        """Read the copy of an earlier run, the first time."""
        if self._known is None:
            self._known = Copied(0, self._form.empty)
            with suppress(StateError):  # it is logged where it is damaged; it is a copy
                self._known = await self._copy.load()
                self._from_copy = self._known.version > 0

    def _news(self, version: int) -> tuple[str, str]:
        return self._link.key("news"), f"{TOPIC} {self._form.name} {version}"

    def _present(self) -> Copied[T]:
        return self._known if self._known is not None else Copied(0, self._form.empty)

    async def _read(self) -> Copied[T]:
        """The present version, which Redis is given where it has lost it. Raises StateError."""
        known, self._changed = self._present(), False
        version, *rest = await self._call(_READ.call((self._key,), known.version, self._form.max_bytes))
        if 0 <= version < known.version:
            await self._restore()
            version, *rest = await self._call(_READ.call((self._key,), known.version, self._form.max_bytes))
        match version, rest:
            case _, []:
                return known
            case 0, _:
                return Copied(0, self._form.empty)
            case int(), [bytes(data)] if version > 0:
                value = await self._in_thread(self._decode, data, large=len(data) > THREAD_BYTES)
                await self._know(Copied(version, value))
                return self._present()
            case _, [None, int(size)]:
                raise StateError(f"{self.where} has {size:,} bytes, of at most {self._form.max_bytes:,}; {_UNTOUCHED}")
        raise StateError(f"{self.where} is no document of the bridge; {_UNTOUCHED}")

    async def _restore(self) -> None:
        known = self._present()
        if not known.version:
            return
        data = await self._in_thread(self._encode, known.value, large=self._is_large(known.value))
        if await self._call(_RESTORE.call((self._key,), known.version, data, *self._news(known.version))):
            _logger.warning("Redis had lost %s: it was written again, as last known here", self._key)

    async def _know(self, present: Copied[T]) -> None:
        """Take over a version that was read or written, and copy it."""
        self._known, self._from_copy = present, False
        try:
            await self._copy.save(present)
        except StateError as error:
            if not self._copy_fails:
                _logger.error("%s: the daemon could not start without Redis", error)
            self._copy_fails = True
        else:
            self._copy_fails = False

    async def _call(self, command: Any) -> Any:
        try:
            return await self._link.call(command)
        except SharedStateDown as error:
            self._changed = True
            raise SharedStateDown(f"{error}. Nothing was changed") from error
        except CommandRefused as error:
            raise StateError(f"{self.where} is no document of the bridge; {_UNTOUCHED}: {error}") from error

    async def _in_thread(self, work: Callable[[Any], Any], value: object, *, large: bool) -> Any:
        return await self._threads.run(work, value) if large else work(value)

    def _is_large(self, value: object) -> bool:
        """Whether a value is worth a thread: many items."""
        return isinstance(value, tuple) and len(value) > 50

    def _encode(self, value: T) -> bytes:
        try:
            return self._form.encode(value)
        except TooLarge as error:
            raise StateError(f"{self.where} cannot be saved: {error}") from error

    def _decode(self, data: bytes) -> T:
        try:
            return self._form.decode(data)
        except Damaged as error:
            raise StateError(f"{self.where} {error}; {_UNTOUCHED}") from error


_UNTOUCHED: Final = "it was left untouched: repair it, or delete it, and a daemon that knows it writes it again"
