"""JSON documents on disk: typed load, atomic save, and detection of changes made by other processes.

A document is one file of the state folder, `{"version": 1, "<name>": …}`. A save writes a temporary file beside it,
syncs it, and renames it over the document, so that a crash at any moment leaves either the old or the new file.
Writers in all processes are serialized by a separate lock file, since each save replaces the document's own inode.
Every operation runs as one job in a thread.

`load` reads without the lock, `update` reads, changes and writes under it. They handle the file's states like this:

    file                        precious document               other document
    ──────────────────────────────────────────────────────────────────────────────────────────────
    valid                       use it                          use it
    missing, never seen here    use `empty` (after 0.5 s, if    use `empty`
                                it was ever written)
    missing, seen here before   wait 0.5 s, then StateGone      load: StateGone; update: use `empty`
    (its folder exists)
    seen here before, but its   StateGone(with_folder=True)     load: the same; update: StateUnavailable
    whole folder is missing
    corrupt, too large, a pipe  StateError, file untouched      move it aside, warn, use `empty`
    unreadable (OSError)        StateUnavailable or StateError  StateUnavailable or StateError
    lock held for 10 s          update: StateUnavailable        update: StateUnavailable

`save` overwrites the file in any of these states; when it fails, the old file is intact.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from aiofiles.os import wrap

from bridge.state.errors import StateError, StateGone, os_errors
from bridge.state.folder import FILE_MODE, LOCK_POLL_SECONDS, PrivateFolder, exists, make_private
from bridge.state.formats import Damaged, DocumentFormat, StoredDocument, TooLarge
from bridge.state.regular_file import NotReadable, read

T = TypeVar("T")
R = TypeVar("R")

GAP_SECONDS = 0.5  # how long to wait for a missing file to return: some editors move it away, then write a new one
WATCH_SECONDS = 1.0  # how often files are checked: a change must be noticed within two seconds

_logger = logging.getLogger(__name__)


class Document(Generic[T]):
    """One JSON document of type T, in a file.

    If the file disappears after this instance has read or written it, StateGone is raised until `accept_deletion` is
    called. A file that this instance has never seen counts as `empty`. The module's table has all cases. Tasks may
    share an instance.
    """

    def __init__(self, folder: PrivateFolder, document_format: DocumentFormat[T]) -> None:
        self.path = folder.path / f"{document_format.name}.json"
        self._threads = folder.threads
        self._folder = folder
        self._format = document_format
        self._lock = asyncio.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._existed = False  # this instance has read or written the file

    @property
    def where(self) -> str:
        """The file's path."""
        return str(self.path)

    @property
    def short_name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def written_at(self) -> float | None:
        """Modification time, in unix seconds, of the file last read or written here; None if there was none."""
        return None if self._seen is None else self._seen[1] / 1e9

    async def load(self) -> T:
        """Read the document; `empty` if there never was one. Raises StateError."""
        return await self._shielded(self._load)

    async def save(self, value: T) -> None:
        """Overwrite the file with `value` as it is now. If that fails, raises StateError and keeps the old file."""
        await self._shielded(partial(self._save, self._encode(value)))

    async def update(self, change: Callable[[T], T]) -> T:
        """Read the document, apply `change`, and write and return the result, all under the writers' lock.

        `change` runs in a thread and must use nothing but its argument. If it raises, nothing is written, and the
        exception propagates. Raises StateError as load and save do.
        """
        return await self._shielded(partial(self._update, change))

    async def accept_deletion(self) -> None:
        """Treat a missing file as empty from now on."""
        await self._shielded(self._forget)

    async def changed(self) -> bool:
        """Whether another process has written the document since this instance loaded or saved it."""
        return await self._shielded(self.looks_changed)

    def looks_changed(self) -> bool:
        """Like `changed`, but blocking, and also true while this instance itself is writing. Raises StateError."""
        with os_errors(self.path, "cannot be read"):
            try:
                return _fingerprint(self.path.stat()) != self._seen
            except FileNotFoundError:
                return self._seen is not None

    async def _shielded(self, work: Callable[[], R]) -> R:
        """Run `work` in a thread, one job at a time. A cancelled caller ends at once, but the job completes."""
        abandoned = False

        async def run() -> R:
            async with self._lock:
                try:
                    return await wrap(work)(executor=self._threads)
                except StateError:
                    if abandoned:
                        _logger.exception("%s: its caller was cancelled before this failed", self.path)
                    raise

        try:
            return await asyncio.shield(run())
        except asyncio.CancelledError:
            abandoned = True
            raise

    # All methods below run in a thread, one at a time.

    def _forget(self) -> None:
        self._seen, self._existed = None, False

    def _wait_until_replaced(self) -> None:
        """Wait briefly for a missing precious file to return. Raises StateGone if this instance has seen it before."""
        existed = self._existed
        if not self._format.precious or not (existed or self._folder.was_written(self._format.name)):
            return
        deadline = time.monotonic() + GAP_SECONDS
        while not exists(self.path):
            if time.monotonic() >= deadline:
                if existed:
                    raise self._gone()
                return
            time.sleep(LOCK_POLL_SECONDS)  # in a thread, never on the event loop

    def _gone(self) -> StateGone:
        return StateGone(self.path, with_folder=not self._folder.exists)

    def _load(self) -> T:
        self._wait_until_replaced()
        with suppress(Damaged):
            return self._read()
        with self._folder.locked(self._format.name):
            return self._read_or_move_aside()

    def _save(self, data: bytes) -> None:
        with self._folder.locked(self._format.name):
            self._write(data)

    def _update(self, change: Callable[[T], T]) -> T:
        self._wait_until_replaced()
        with self._folder.locked(self._format.name):
            try:
                before = self._read_or_move_aside()
            except StateGone:
                if self._format.precious:
                    raise
                before = self._format.empty
            value = change(before)
            self._write(self._encode(value))
        return value

    def _read(self) -> T:
        with os_errors(self.path, "cannot be read"):
            try:
                data, status = read(self.path, self._format.max_bytes)
            except FileNotFoundError as error:
                if self._existed:
                    raise self._gone() from error
                self._seen = None
                return self._format.empty
            except (NotReadable, IsADirectoryError) as error:
                self._seen = _fingerprint(self.path.stat())  # so that it is reported once, not at every check
                if isinstance(error, NotReadable):
                    raise Damaged(str(error)) from error
                raise
            if self._format.precious:
                make_private(self.path, FILE_MODE)
            self._seen, self._existed = _fingerprint(status), True
        return self._format.decode(data)

    def _read_or_move_aside(self) -> T:
        """Read under the lock, so that a file is not moved aside that another process has just repaired."""
        try:
            return self._read()
        except Damaged as damage:
            if self._format.precious:
                advice = "repair it, restore a copy, or move it away to start without it"
                raise StateError(f"{self.path} {damage}; it was left untouched: {advice}") from damage
            aside = self.path.with_name(f"{self.path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
            with os_errors(self.path, f"{damage} and cannot be moved aside"):
                self.path.rename(aside)
            self._forget()
            _logger.warning("%s %s; moved aside to %s, starting without it", self.path, damage, aside.name)
            return self._format.empty

    def _write(self, data: bytes) -> None:
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with os_errors(self.path, "cannot be saved; free disk space, or make its folder writable"):
            temporary.unlink(missing_ok=True)
            try:
                with os.fdopen(self._folder.create(temporary, os.O_WRONLY | os.O_EXCL), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                    written = _fingerprint(os.fstat(file.fileno()))
                temporary.replace(self.path)
            except OSError:
                with suppress(OSError):
                    temporary.unlink()
                raise
            self._seen, self._existed = written, True
            _sync(self._folder.path)

    def _encode(self, value: T) -> bytes:
        try:
            return self._format.encode(value)
        except TooLarge as error:
            raise StateError(f"{self.path} cannot be saved: {error}") from error


class StateFolder(PrivateFolder):
    """The folder of the state files, as the source of documents."""

    def open(self, document_format: DocumentFormat[T]) -> Document[T]:
        """The document of this format in this folder."""
        return Document(self, document_format)

    async def changes(self, documents: Sequence[StoredDocument[Any]]) -> bool:
        """Wait `WATCH_SECONDS`; return whether any of the documents may have changed."""
        await asyncio.sleep(WATCH_SECONDS)
        any_changed = wrap(lambda: any(document.looks_changed() for document in documents))
        try:
            return bool(await any_changed(executor=self.threads))
        except StateError:  # each document's own check says why
            return True


def _fingerprint(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _sync(folder: Path) -> None:
    """Make a rename in the folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
