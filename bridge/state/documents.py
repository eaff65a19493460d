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
import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from aiofiles.os import wrap

from bridge.state.formats import Damaged, DocumentFormat, StoredDocument, TooLarge
from bridge.state.regular_file import NotReadable, open_own, read
from upstream.loop.threads import Threads

T = TypeVar("T")
R = TypeVar("R")

FOLDER_MODE = 0o700
FILE_MODE = 0o600
LOCK_TIMEOUT = 10.0  # seconds; a holder only writes a small file, so a longer wait means a stopped process
DAEMON_LOCK_TIMEOUT = 0.05  # seconds; `holder` in another process holds the lock only for a moment
THREADS = 16  # more than there are documents; each runs one job at a time, so none waits for another
LOCK_POLL_SECONDS = 0.005  # flock has no timeout, so it is polled
GAP_SECONDS = 0.5  # how long to wait for a missing file to return: some editors move it away, then write a new one
WATCH_SECONDS = 1.0  # how often files are checked: a change must be noticed within two seconds

#: Errors that mean that something else is at the path; all others may be temporary.
_WRONG_PLACE = frozenset((errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG))

_logger = logging.getLogger(__name__)


class StateError(Exception):
    """The state on disk cannot be used or saved; the text names the file, what is wrong and what to do."""


class StateUnavailable(StateError):
    """The state cannot be used now, because of the disk or another process: a retry may succeed."""


class StateGone(StateError):
    """A file that existed is missing now, which must not be mistaken for an empty file.

    `with_folder`: the whole folder is missing or has been replaced, as when a mount is lost.
    """

    def __init__(self, path: Path, *, with_folder: bool) -> None:
        super().__init__(f"{path} is gone" + (", with its whole folder: is it mounted?" if with_folder else ""))
        self.with_folder = with_folder


class StateFolder:
    """The folder of the state files, which only its owner can access."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.threads = Threads("state", THREADS)

    def prepare(self) -> None:
        """Create the folder or make it private, and remove temporary files of killed writers. Raises StateError."""
        with _os_errors(self.path, "cannot be prepared; server.state_dir must name a folder that only the bridge uses"):
            self.path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            _tighten(self.path, FOLDER_MODE)
            temporary = list(self.path.glob(".*.json.tmp"))
        for path in temporary:
            name = path.name.removeprefix(".").removesuffix(".json.tmp")
            with self.locked(name), _os_errors(path, "cannot be removed"):  # locked, so that no writer is using it
                path.unlink(missing_ok=True)

    @contextmanager
    def hold(self) -> Iterator[int]:
        """Make this process the folder's only daemon while the context lasts. Raises StateError if there is another.

        Yields the descriptor of the lock: a child process that inherits it holds the folder too, until both have ended.
        """
        path = self.path / ".daemon.lock"
        with _os_errors(path, "cannot be locked"):
            lock = self.create(path, os.O_RDWR)
        try:
            if not _try_flock(lock, path, timeout=DAEMON_LOCK_TIMEOUT):
                pid = os.read(lock, 20).decode("ascii", "replace").strip()
                holder = f"the daemon with process id {pid}" if pid else "another daemon"
                raise StateError(f"{self.path} is in use by {holder}: stop it, or set another server.state_dir")
            with _os_errors(path, "cannot be written"):
                os.ftruncate(lock, 0)
                os.write(lock, f"{os.getpid()}\n".encode())
            yield lock
        finally:
            self.threads.wait_until_idle(LOCK_TIMEOUT)  # writes whose callers were cancelled finish first
            os.close(lock)  # this unlocks; the file stays, since unlinking it would race with the next daemon

    @contextmanager
    def share(self) -> Iterator[None]:
        """Use the folder, which this process's parent holds, while the context lasts."""
        try:
            yield
        finally:
            self.threads.wait_until_idle(LOCK_TIMEOUT)

    @property
    def exists(self) -> bool:
        """Whether the folder that a daemon has locked is still there; blocking."""
        return _exists(self.path / ".daemon.lock")

    def was_written(self, name: str) -> bool:
        """Whether document `name` has ever been written; blocking."""
        return _exists(self.path / f".{name}.lock")

    def is_held(self) -> bool:
        """Whether a daemon is using this folder; does not wait. Raises StateError."""
        return self.holder() is not None

    def holder(self) -> int | None:
        """The process id of the daemon that is using this folder; None if there is none. Does not wait.

        The id is 0 if the daemon has not written it yet. Raises StateError.
        """
        path = self.path / ".daemon.lock"
        with _os_errors(path, "cannot be read"):
            try:
                lock = open_own(path, os.O_RDONLY)
            except FileNotFoundError:
                return None
        try:
            if _try_flock(lock, path, fcntl.LOCK_SH):
                return None
            pid = os.read(lock, 20).strip()
            return int(pid) if pid.isdigit() else 0
        finally:
            os.close(lock)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock for writing document `name`, among threads and processes. Blocks for up to LOCK_TIMEOUT."""
        path = self.path / f".{name}.lock"
        with _os_errors(path, "cannot be locked"):
            lock = self.create(path, os.O_RDWR)
        try:
            if not _try_flock(lock, path, timeout=LOCK_TIMEOUT):  # in a thread, never on the event loop
                raise StateUnavailable(f"{path} has been locked for {LOCK_TIMEOUT:g} s: look for a suspended process")
            yield
        finally:
            os.close(lock)

    def try_lock(self, name: str) -> int | None:
        """Try to take a lock of this name; return the descriptor that holds it until closed. Raises StateError."""
        path = self.path / f".{name}.lock"
        with _os_errors(path, "cannot be locked"):
            lock = self.create(path, os.O_RDWR)
        taken = False
        try:
            taken = _try_flock(lock, path)
        finally:
            if not taken:
                os.close(lock)
        return lock if taken else None

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

    def create(self, path: Path, flags: int) -> int:
        """Open or create a private file in the folder; return its descriptor. Raises OSError and NotReadable."""
        descriptor = open_own(path, flags | os.O_CREAT, FILE_MODE)
        if os.geteuid() == 0:  # a command run by root: the daemon's user must be able to read it
            owner = self.path.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return descriptor


class Document(Generic[T]):
    """One JSON document of type T, in a file.

    If the file disappears after this instance has read or written it, StateGone is raised until `accept_deletion` is
    called. A file that this instance has never seen counts as `empty`. The module's table has all cases. Tasks may
    share an instance.
    """

    def __init__(self, folder: StateFolder, document_format: DocumentFormat[T]) -> None:
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
        with _os_errors(self.path, "cannot be read"):
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
        while not _exists(self.path):
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
        with _os_errors(self.path, "cannot be read"):
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
                _tighten(self.path, FILE_MODE)
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
            with _os_errors(self.path, f"{damage} and cannot be moved aside"):
                self.path.rename(aside)
            self._forget()
            _logger.warning("%s %s; moved aside to %s, starting without it", self.path, damage, aside.name)
            return self._format.empty

    def _write(self, data: bytes) -> None:
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with _os_errors(self.path, "cannot be saved; free disk space, or make its folder writable"):
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


@contextmanager
def _os_errors(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except NotReadable as error:
        raise StateError(f"{path} {what}: it {error}") from error
    except OSError as error:
        kind = StateError if error.errno in _WRONG_PLACE else StateUnavailable
        raise kind(f"{path} {what}: {error.strerror}") from error


def _try_flock(descriptor: int, path: Path, kind: int = fcntl.LOCK_EX, *, timeout: float = 0.0) -> bool:
    """Try to take a lock for `timeout` seconds, at least once; return whether it was taken."""
    deadline = time.monotonic() + timeout
    while True:
        with _os_errors(path, "cannot be locked"):
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
            else:
                return True
        time.sleep(LOCK_POLL_SECONDS)  # in a thread, or for 50 ms before the daemon accepts requests


def _tighten(path: Path, mode: int) -> None:
    found = stat.S_IMODE(path.stat().st_mode)
    if found & ~mode:
        path.chmod(found & mode)
        _logger.warning("%s was accessible to other users (mode %o) and is private now", path, found)


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
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
