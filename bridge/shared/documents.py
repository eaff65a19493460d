"""Versioned documents in Redis, with copies in a local folder.

A document is the hash `lmab:doc:<name>` of `version`, which grows, and `data`, the bytes that its file would have. An
update is a compare-and-set: it is written only if the version is still the one that was read, and is otherwise computed
again from the present value. Each write is announced to all processes, which then read the new version; in case an
announcement is lost, each process also fetches the versions every two seconds.

Whatever is read or written is copied to the folder. A daemon that starts without Redis begins with the copies. If Redis
has lost a document, or has an older version after a restart, the last known one is written to it again:

    in Redis              known here        result
    ────────────────────────────────────────────────────────────────────────────
    none                  none              the format's `empty`
    none, or older        version n         version n, which is written to Redis again
    the same version      version n         the known value, without transferring it
    newer                 any               the value in Redis
    damaged, too large    any               StateError; Redis is left untouched, and the daemon keeps what it knows
    Redis cannot be used  any               load: the known value, or the copy; save, update: SharedStateDown
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final, Generic, NamedTuple, TypeVar

from bridge.shared.errors import CommandRefused, SharedStateDown
from bridge.shared.link import Link
from bridge.shared.script import Script
from bridge.state.documents import StateFolder
from bridge.state.errors import StateError, StateUnavailable
from bridge.state.formats import Damaged, DocumentFormat, StoredDocument, TooLarge
from bridge.tasks import set_within

T = TypeVar("T")

#: How often the versions are fetched, in seconds, in case news were missed.
POLL_SECONDS: Final = 2.0
#: Longer documents are parsed in a thread: it would block the event loop.
THREAD_BYTES: Final = 32 * 1024
#: How often an update is tried while other processes keep writing the document.
MAX_TRIES: Final = 100

#: The topic of news about documents. The text is a document's name and its new version.
TOPIC: Final = "document"

#: How many low bits of a version are random. The others count; together they are a number of at most 15 digits.
_RANDOM_BITS: Final = 20

_READ: Final = Script("read")
_WRITE: Final = Script("write")
_RESTORE: Final = Script("restore")
_VERSIONS: Final = Script("versions")

_logger = logging.getLogger(__name__)


class VersionedValue(NamedTuple, Generic[T]):
    """A document's value, and the version that it has in Redis; 0 if it was never written."""

    version: int
    value: T


def copy_format(document_format: DocumentFormat[T]) -> DocumentFormat[VersionedValue[T]]:
    """The format of the local copies of documents with this format."""

    def parse(value: object) -> VersionedValue[T]:
        match value:
            case {"version": int(version), "value": kept} if version >= 0:
                return VersionedValue(version, document_format.parse(kept))
        raise ValueError("a copy needs version and value")

    def dump(copy: VersionedValue[T]) -> object:
        return {"version": copy.version, "value": document_format.dump(copy.value)}

    max_bytes = document_format.max_bytes + 1024
    return DocumentFormat(
        document_format.name,
        document_format.version,
        parse,
        dump,
        VersionedValue(0, document_format.empty),
        precious=False,
        max_bytes=max_bytes,
    )


def version_after(version: int) -> int:
    """The next version: a count and random bits, so that two histories that diverged do not have the same version."""
    return ((version >> _RANDOM_BITS) + 1 << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)


class SharedDocuments:
    """The source of all shared documents. `copies` is the folder for their copies."""

    def __init__(self, link: Link, copies: StateFolder) -> None:
        self.link = link
        self._copies = copies
        self._opened: dict[str, list[SharedDocument[Any]]] = {}
        self._news = asyncio.Event()
        link.on_news(TOPIC, self._on_news)
        link.on_reconnect(self.catch_up)

    def open(self, document_format: DocumentFormat[T]) -> SharedDocument[T]:
        """The document of this format."""
        document = SharedDocument(self.link, document_format, self._copies)
        self._opened.setdefault(document_format.name, []).append(document)
        return document

    async def changes(self, documents: Sequence[StoredDocument[Any]]) -> bool:
        """Wait for news, for at most `POLL_SECONDS`; return whether any of these documents may have changed."""
        if not await set_within(self._news, POLL_SECONDS):
            with suppress(StateUnavailable):
                await self._fetch_versions()
        self._news.clear()
        return self.link.usable and any(document.looks_changed() for document in documents)

    async def catch_up(self) -> None:
        """Write what Redis has lost, and let others' changes be read. Raises SharedStateDown."""
        for documents in self._opened.values():
            try:
                await max(documents, key=lambda document: document.version).restore()
            except SharedStateDown:
                raise
            except StateError as error:  # the other documents can be restored
                _logger.error("%s", error)
        await self._fetch_versions()
        self._news.set()

    def _on_news(self, text: str) -> None:
        """A document has a new version; without a text, news may have been missed."""
        name, _, version = text.partition(" ")
        documents = self._opened.get(name, ()) if name else chain.from_iterable(self._opened.values())
        for document in documents:
            document.note_version(version.encode() if version else None)
            if document.looks_changed():
                self._news.set()

    async def _fetch_versions(self) -> None:
        """Fetch the versions of all documents in one round trip. Raises StateUnavailable."""
        names = list(self._opened)
        versions = await self.link.call(_VERSIONS.call(tuple([self.link.key("doc", name) for name in names])))
        for name, version in zip(names, versions, strict=True):
            for document in self._opened[name]:
                document.note_version(version)


class SharedDocument(Generic[T]):
    """A document in Redis, with the interface of `bridge.state.formats.StoredDocument`. Tasks may share an instance."""

    def __init__(self, link: Link, document_format: DocumentFormat[T], copies: StateFolder) -> None:
        self._link = link
        self._format = document_format
        self._threads = copies.threads
        self._copy = copies.open(copy_format(document_format))
        self._key = link.key("doc", document_format.name)
        self._lock = asyncio.Lock()
        self._known: VersionedValue[T] | None = None  # as last read or written
        self._changed = True  # Redis may have another version than the known one
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
        """The known version; 0 before the first."""
        return self._known.version if self._known is not None else 0

    @property
    def written_at(self) -> float | None:
        """When the local copy was written, if the known value comes from there, in unix seconds; otherwise None."""
        return self._copy.written_at if self._from_copy else None

    async def load(self) -> T:
        """The present value; without Redis, the last one that this or an earlier run knew. Raises StateError."""
        async with self._lock:
            await self._load_copy()
            with suppress(SharedStateDown):
                return (await self._read()).value
            return self._current().value

    async def save(self, value: T) -> None:
        """Replace the value, whatever it is now. Raises StateError."""
        await self.update(lambda _: value)

    async def update(self, change: Callable[[T], T]) -> T:
        """Change the value. Raises StateError, SharedStateDown while Redis cannot be used, and what `change` raises."""
        return await asyncio.shield(self._update(change))  # cancelled halfway, it would leave the copy out of date

    async def accept_deletion(self) -> None:
        """Do nothing: a document that is missing in Redis is written to it again."""

    async def changed(self) -> bool:
        """Whether Redis may have another version than the known one."""
        return self._changed

    def looks_changed(self) -> bool:
        """As `changed`."""
        return self._changed

    def note_version(self, version: object) -> None:
        """Note which version Redis has, as bytes: None if it has no document, b"" if what it has is not a version."""
        if version != (b"%d" % self.version if self.version else None):
            self._changed = True

    async def restore(self) -> None:
        """Write the known value to Redis, if that has none or an older version. Raises StateError."""
        async with self._lock:
            await self._restore()

    async def _update(self, change: Callable[[T], T]) -> T:
        async with self._lock:
            await self._load_copy()
            for _ in range(MAX_TRIES):
                before = await self._read()
                value = change(before.value)
                if before.version and value == before.value:  # a new version would only make others read it
                    return value
                after = VersionedValue(version_after(before.version), value)
                data = await self._run(self._encode, after.value, in_thread=self._is_large(before.value))
                news = self._news(after.version)
                if await self._call(_WRITE.call((self._key,), before.version, after.version, data, *news)):
                    await self._adopt(after)
                    return after.value
        raise StateUnavailable(f"{self.where} keeps being changed by other processes; nothing was changed")

    async def _load_copy(self) -> None:
        """At first use, read the copy that an earlier run has left."""
        if self._known is None:
            self._known = VersionedValue(0, self._format.empty)
            with suppress(StateError):  # logged where it is read; a damaged copy counts as none
                self._known = await self._copy.load()
                self._from_copy = self._known.version > 0

    def _news(self, version: int) -> tuple[str, str]:
        return self._link.key("news"), f"{TOPIC} {self._format.name} {version}"

    def _current(self) -> VersionedValue[T]:
        return self._known if self._known is not None else VersionedValue(0, self._format.empty)

    async def _read(self) -> VersionedValue[T]:
        """The present version; if Redis has lost it, it is written there again. Raises StateError."""
        known, self._changed = self._current(), False
        version, *rest = await self._call(_READ.call((self._key,), known.version, self._format.max_bytes))
        if 0 <= version < known.version:
            await self._restore()
            version, *rest = await self._call(_READ.call((self._key,), known.version, self._format.max_bytes))
        match version, rest:
            case _, []:
                return known
            case 0, _:
                return VersionedValue(0, self._format.empty)
            case int(), [bytes(data)] if version > 0:
                value = await self._run(self._decode, data, in_thread=len(data) > THREAD_BYTES)
                return await self._adopt(VersionedValue(version, value))
            case _, [None, int(size)]:
                raise StateError(
                    f"{self.where} has {size:,} bytes, of at most {self._format.max_bytes:,}; {_UNTOUCHED}"
                )
        raise StateError(f"{self.where} is not a document of the bridge; {_UNTOUCHED}")

    async def _restore(self) -> None:
        known = self._current()
        if not known.version:
            return
        data = await self._run(self._encode, known.value, in_thread=self._is_large(known.value))
        if await self._call(_RESTORE.call((self._key,), known.version, data, *self._news(known.version))):
            _logger.warning("Redis had lost %s: it was written again, as last known here", self._key)

    async def _adopt(self, current: VersionedValue[T]) -> VersionedValue[T]:
        """Make this version, which was read or written, the known one; copy and return it."""
        self._known, self._from_copy = current, False
        try:
            await self._copy.save(current)
        except StateError as error:
            if not self._copy_fails:
                _logger.error("%s: the daemon could not start without Redis", error)
            self._copy_fails = True
        else:
            self._copy_fails = False
        return current

    async def _call(self, command: Any) -> Any:
        try:
            return await self._link.call(command)
        except SharedStateDown as error:
            self._changed = True
            raise SharedStateDown(f"{error}. Nothing was changed") from error
        except CommandRefused as error:
            raise StateError(f"{self.where} is not a document of the bridge; {_UNTOUCHED}: {error}") from error

    async def _run(self, work: Callable[[Any], Any], value: object, *, in_thread: bool) -> Any:
        return await self._threads.run(work, value) if in_thread else work(value)

    def _is_large(self, value: object) -> bool:
        """Whether a value has so many items that it should be encoded in a thread."""
        return isinstance(value, tuple) and len(value) > 50

    def _encode(self, value: T) -> bytes:
        try:
            return self._format.encode(value)
        except TooLarge as error:
            raise StateError(f"{self.where} cannot be saved: {error}") from error

    def _decode(self, data: bytes) -> T:
        try:
            return self._format.decode(data)
        except Damaged as error:
            raise StateError(f"{self.where} {error}; {_UNTOUCHED}") from error


_UNTOUCHED: Final = "it was left untouched: repair it, or delete it, and a daemon that knows it writes it again"
