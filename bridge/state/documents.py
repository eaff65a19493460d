"""JSON documents on disk: typed load, atomic save, notices outside changes.

A document is one file of the state folder, `{"version": 1, "<name>": …}`. It is written whole into a temporary file
beside it, flushed, and renamed over it, so that a kill at any moment leaves the old or the new one. Writers of all
processes take turns by a lock on a file of its own (the document's own file is another one after each save).
Every operation is one hop into a thread.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
from aiofiles.os import wrap

from bridge.state.regular_file import NotReadable, open_own, read
from upstream.loop.threads import Threads

T = TypeVar("T")
R = TypeVar("R")

FOLDER_MODE = 0o700
FILE_MODE = 0o600
LOCK_TIMEOUT = 10.0  # seconds; a holder only writes a small file, so a longer wait means a stopped process
HOLD_PATIENCE = 0.05  # seconds; who asks whether a daemon runs (`is_held`) has its lock for a moment
THREADS = 16  # more than there are documents, of which each does one thing at a time: none waits for another
LOCK_POLL_SECONDS = 0.005  # flock can wait for ever or not at all: we ask again
GAP_SECONDS = 0.5  # how long a file is looked for again that was there: editors move it away, then write another

MAX_BYTES = 32 * 1024 * 1024  # of a document: far above what any of them holds, but for conversations

#: Errors that say that something else is where the folder or a file must be; all others may pass by themselves.
_WRONG_PLACE = frozenset((errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG))

_logger = logging.getLogger(__name__)


class StateError(Exception):
    """The state on disk cannot be used or saved; the text names the file, what is wrong and what to do."""


class StateUnavailable(StateError):
    """The disk refuses, or another process is in the way: later it may be otherwise, without anybody's doing."""


class StateGone(StateError):
    """A file that was there is not there now: that does not make it an empty one.

    `with_folder`: the whole folder is gone, or another one is in its place, as after a mount that was lost.
    """

    def __init__(self, path: Path, *, with_folder: bool) -> None:
        super().__init__(f"{path} is gone" + (", with its whole folder: is it mounted?" if with_folder else ""))
        self.with_folder = with_folder


class StateFolder:
    """The folder of the state files, private to its owner."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.threads = Threads("state", THREADS)

    def prepare(self) -> None:
        """Makes the folder, or makes it private, and sweeps what killed writers left. Raises StateError."""
        with _os_errors(self.path, "cannot be prepared; server.state_dir must name a folder of the bridge's own"):
            self.path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            _tighten(self.path, FOLDER_MODE)
            strays = list(self.path.glob(".*.json.tmp"))
        for stray in strays:
            name = stray.name.removeprefix(".").removesuffix(".json.tmp")
            with self.locked(name), _os_errors(stray, "cannot be removed"):  # locked: a live writer's is no stray
                stray.unlink(missing_ok=True)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Makes this process the folder's only daemon while the context lasts. Raises StateError if there is one."""
        path = self.path / ".daemon.lock"
        with _os_errors(path, "cannot be locked"):
            lock = self.create(path, os.O_RDWR)
        try:
            if not _try_flock(lock, path, patience=HOLD_PATIENCE):
                pid = os.read(lock, 20).decode("ascii", "replace").strip()
                holder = f"the daemon with process id {pid}" if pid else "another daemon"
                raise StateError(f"{self.path} is in use by {holder}: stop it, or set another server.state_dir")
            with _os_errors(path, "cannot be written"):
                os.ftruncate(lock, 0)
                os.write(lock, f"{os.getpid()}\n".encode())
            yield
        finally:
            self.threads.idle(LOCK_TIMEOUT)  # a writer whose caller has left finishes its file
            os.close(lock)  # which unlocks; the file stays, since unlinking it would race with the next daemon

    @property
    def is_there(self) -> bool:
        """Whether the folder that a daemon holds is still at its place; blocking."""
        return _is_there(self.path / ".daemon.lock")

    def was_written(self, name: str) -> bool:
        """Whether document `name` has ever been written; blocking."""
        return _is_there(self.path / f".{name}.lock")

    def is_held(self) -> bool:
        """Whether a daemon runs on this folder now; does not wait. Raises StateError."""
        path = self.path / ".daemon.lock"
        with _os_errors(path, "cannot be read"):
            try:
                lock = open_own(path, os.O_RDONLY)
            except FileNotFoundError:
                return False
        try:
            return not _try_flock(lock, path, fcntl.LOCK_SH)
        finally:
            os.close(lock)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """The turn to write document `name`, among threads and processes. Blocks up to LOCK_TIMEOUT: for threads."""
        path = self.path / f".{name}.lock"
        with _os_errors(path, "cannot be locked"):
            lock = self.create(path, os.O_RDWR)
        try:
            if not _try_flock(lock, path, patience=LOCK_TIMEOUT):  # in a thread of its own, never on the loop
                raise StateUnavailable(f"{path} has been locked for {LOCK_TIMEOUT:g} s: look for a stopped process")
            yield
        finally:
            os.close(lock)

    def create(self, path: Path, flags: int) -> int:
        """A descriptor of a private file in the folder. Raises OSError and NotReadable."""
        descriptor = open_own(path, flags | os.O_CREAT, FILE_MODE)
        if os.geteuid() == 0:  # root runs a command for a daemon of another user, who must be able to read it
            owner = self.path.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return descriptor


async def any_looks_changed(*documents: Document[Any]) -> bool:
    """Whether it is worth while to ask each for `changed`: one hop into a thread for all. Raises StateError."""
    look = wrap(lambda: any(document.looks_changed() for document in documents))
    return await look(executor=documents[0].threads if documents else None)


class Document(Generic[T]):
    """One JSON document of type T.

    `parse` turns plain JSON values into T and may raise ValueError, LookupError, TypeError, AttributeError or
    ArithmeticError where they are of another form; `dump` is its inverse.
    A file that is gone after this instance has read or written it raises StateGone, until `believe_gone` is called;
    before, a missing file means `empty`.
    On a file that does not parse, is larger than `max_bytes` or is no file (a pipe, say), a `precious` document raises
    StateError and leaves it untouched; another one moves it aside, logs a warning and goes on with `empty`.
    One instance may serve many tasks.
    """

    def __init__(
        self,
        folder: StateFolder,
        name: str,
        *,
        version: int,
        parse: Callable[[object], T],
        dump: Callable[[T], object],
        empty: T,
        precious: bool,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.path = folder.path / f"{name}.json"
        self.threads = folder.threads
        self._folder = folder
        self._name = name
        self._version = version
        self._parse = parse
        self._dump = dump
        self._empty = empty
        self._precious = precious
        self._max_bytes = max_bytes
        self._lock = asyncio.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._was_there = False  # a file that could be read, or was written

    @property
    def written_at(self) -> float | None:
        """When the file was written that this instance has read or written last, in unix seconds; None without one."""
        return None if self._seen is None else self._seen[1] / 1e9

    async def load(self) -> T:
        """The document as it is on disk, `empty` where there never was one. Raises StateError."""
        return await self._to_the_end(self._load)

    async def save(self, value: T) -> None:
        """Writes `value` as it is now over whatever is there. Raises StateError; the old file is intact then."""
        await self._to_the_end(partial(self._save, self._encode(value)))

    async def update(self, change: Callable[[T], T]) -> T:
        """Applies `change` to what is on disk and writes the outcome; nobody else writes in between.

        `change` runs in a thread: it must look at nothing but its argument. What it raises comes out, and nothing is
        written. Raises StateError as load and save do.
        """
        return await self._to_the_end(partial(self._update, change))

    async def believe_gone(self) -> None:
        """Take a file that is gone for empty from now on."""
        await self._to_the_end(self._forget)

    async def changed(self) -> bool:
        """Whether another process wrote the document since this one loaded or saved it."""
        return await self._to_the_end(self.looks_changed)

    def looks_changed(self) -> bool:
        """The same, but blocking, and true as well while this instance itself is writing. Raises StateError."""
        with _os_errors(self.path, "cannot be read"):
            try:
                return _fingerprint(self.path.stat()) != self._seen
            except FileNotFoundError:
                return self._seen is not None

    async def _to_the_end(self, work: Callable[[], R]) -> R:
        """Runs `work` in a thread, one at a time. A cancelled caller leaves at once; work and lock last to the end."""
        abandoned = False

        async def run() -> R:
            async with self._lock:
                try:
                    return await wrap(work)(executor=self.threads)
                except StateError:
                    if abandoned:
                        _logger.exception("%s: its caller left before this failed", self.path)
                    raise

        try:
            return await asyncio.shield(run())
        except asyncio.CancelledError:
            abandoned = True
            raise

    # From here on: in a thread, one at a time.

    def _forget(self) -> None:
        self._seen, self._was_there = None, False

    def _await_return(self) -> None:
        """Wait for a precious file that was there and is not, for a moment. Raises StateGone if it was seen before."""
        known = self._was_there
        if not self._precious or not (known or self._folder.was_written(self._name)):
            return
        deadline = time.monotonic() + GAP_SECONDS
        while not _is_there(self.path):
            if time.monotonic() >= deadline:
                if known:
                    raise self._gone()
                return
            time.sleep(LOCK_POLL_SECONDS)  # in a thread of its own, never on the loop

    def _gone(self) -> StateGone:
        return StateGone(self.path, with_folder=not self._folder.is_there)

    def _load(self) -> T:
        self._await_return()
        with suppress(_Damaged):
            return self._read()
        with self._folder.locked(self._name):
            return self._read_or_move_aside()

    def _save(self, data: bytes) -> None:
        with self._folder.locked(self._name):
            self._write(data)

    def _update(self, change: Callable[[T], T]) -> T:
        self._await_return()
        with self._folder.locked(self._name):
            try:
                before = self._read_or_move_aside()
            except StateGone:
                if self._precious:
                    raise
                before = self._empty
            value = change(before)
            self._write(self._encode(value))
        return value

    def _read(self) -> T:
        with _os_errors(self.path, "cannot be read"):
            try:
                data, status = read(self.path, self._max_bytes)
            except FileNotFoundError as error:
                if self._was_there:
                    raise self._gone() from error
                self._seen = None
                return self._empty
            except (NotReadable, IsADirectoryError) as error:
                self._seen = _fingerprint(self.path.stat())  # told once, not with each look
                if isinstance(error, NotReadable):
                    raise _Damaged(str(error)) from error
                raise
            if self._precious:
                _tighten(self.path, FILE_MODE)
            self._seen, self._was_there = _fingerprint(status), True
        return self._decode(data)

    def _read_or_move_aside(self) -> T:
        """Under the lock, so that what is moved aside is not what another process has just put right."""
        try:
            return self._read()
        except _Damaged as damage:
            if self._precious:
                advice = "repair it, restore a copy, or move it away to start without it"
                raise StateError(f"{self.path} {damage}; it was left untouched: {advice}") from damage
            aside = self.path.with_name(f"{self.path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
            with _os_errors(self.path, f"{damage} and cannot be moved aside"):
                self.path.rename(aside)
            self._forget()
            _logger.warning("%s %s; moved aside to %s, starting without it", self.path, damage, aside.name)
            return self._empty

    def _write(self, data: bytes) -> None:
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with _os_errors(self.path, "cannot be saved, make room or make its folder writable"):
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
            self._seen, self._was_there = written, True
            _sync(self._folder.path)

    def _encode(self, value: T) -> bytes:
        document = {"version": self._version, self._name: self._dump(value)}
        data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        if len(data) > self._max_bytes:  # it could not be read again
            raise StateError(f"{self.path} cannot be saved: {len(data):,} bytes, of at most {self._max_bytes:,}")
        return data

    def _decode(self, data: bytes) -> T:
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise _Damaged(f"is not JSON at line {error.lineno}, column {error.colno}") from error
        if not (isinstance(document, dict) and isinstance(document.get("version"), int) and self._name in document):
            raise _Damaged(f'is not an object with "version" and "{self._name}"')
        if document["version"] != self._version:
            raise _Damaged(f"has version {document['version']}, this bridge reads {self._version}")
        try:
            return self._parse(document[self._name])
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            # Not chained: the parser's own words may quote a secret.
            raise _Damaged(f"holds a value of the wrong form ({type(error).__name__})") from None


class _Damaged(Exception):
    """A file is there but is no document of this version; the text goes on after the file's name."""


@contextmanager
def _os_errors(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except NotReadable as error:
        raise StateError(f"{path} {what}: it {error}") from error
    except OSError as error:
        kind = StateError if error.errno in _WRONG_PLACE else StateUnavailable
        raise kind(f"{path} {what}: {error.strerror}") from error


def _try_flock(descriptor: int, path: Path, kind: int = fcntl.LOCK_EX, *, patience: float = 0.0) -> bool:
    """Take a lock, at once or within `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        with _os_errors(path, "cannot be locked"):
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
            else:
                return True
        time.sleep(LOCK_POLL_SECONDS)  # in a thread, or for 50 ms before the daemon serves


def _tighten(path: Path, mode: int) -> None:
    found = stat.S_IMODE(path.stat().st_mode)
    if found & ~mode:
        path.chmod(found & mode)
        _logger.warning("%s was open to others (mode %o) and is private now", path, found)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _fingerprint(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _sync(folder: Path) -> None:
    """Makes a rename in the folder outlast a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
