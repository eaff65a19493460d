"""The folder of the state files: private to its owner, held by one daemon at a time, with a lock for each writer.

Everything here blocks: it runs in a thread, or before the daemon accepts requests.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.state.errors import StateError, StateUnavailable, os_errors
from bridge.state.regular_file import open_own
from upstream.loop.threads import Threads

FOLDER_MODE = 0o700
FILE_MODE = 0o600
LOCK_TIMEOUT = 10.0  # seconds; a holder only writes a small file, so a longer wait means a stopped process
DAEMON_LOCK_TIMEOUT = 0.05  # seconds; `holder` in another process holds the lock only for a moment
THREADS = 16  # more than there are documents; each runs one job at a time, so none waits for another
LOCK_POLL_SECONDS = 0.005  # flock has no timeout, so it is polled

_logger = logging.getLogger(__name__)


class PrivateFolder:
    """A folder that only its owner can access, with locks among processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.threads = Threads("state", THREADS)

    def prepare(self) -> None:
        """Create the folder or make it private, and remove temporary files of killed writers. Raises StateError."""
        with os_errors(self.path, "cannot be prepared; server.state_dir must name a folder that only the bridge uses"):
            self.path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            make_private(self.path, FOLDER_MODE)
            temporary = list(self.path.glob(".*.json.tmp"))
        for path in temporary:
            name = path.name.removeprefix(".").removesuffix(".json.tmp")
            with self.locked(name), os_errors(path, "cannot be removed"):  # locked, so that no writer is using it
                path.unlink(missing_ok=True)

    @contextmanager
    def hold(self) -> Iterator[int]:
        """Make this process the folder's only daemon while the context lasts. Raises StateError if there is another.

        Yields the descriptor of the lock: a child process that inherits it holds the folder too, until both have ended.
        """
        path = self.path / ".daemon.lock"
        with os_errors(path, "cannot be locked"):
            lock = self.create(path, os.O_RDWR)
        try:
            if not _try_flock(lock, path, timeout=DAEMON_LOCK_TIMEOUT):
                pid = os.read(lock, 20).decode("ascii", "replace").strip()
                holder = f"the daemon with process id {pid}" if pid else "another daemon"
                raise StateError(f"{self.path} is in use by {holder}: stop it, or set another server.state_dir")
            with os_errors(path, "cannot be written"):
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
        return exists(self.path / ".daemon.lock")

    def was_written(self, name: str) -> bool:
        """Whether document `name` has ever been written; blocking."""
        return exists(self.path / f".{name}.lock")

    def is_held(self) -> bool:
        """Whether a daemon is using this folder; does not wait. Raises StateError."""
        return self.holder() is not None

    def holder(self) -> int | None:
        """The process id of the daemon that is using this folder; None if there is none. Does not wait.

        The id is 0 if the daemon has not written it yet. Raises StateError.
        """
        path = self.path / ".daemon.lock"
        with os_errors(path, "cannot be read"):
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
        with os_errors(path, "cannot be locked"):
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
        with os_errors(path, "cannot be locked"):
            lock = self.create(path, os.O_RDWR)
        taken = False
        try:
            taken = _try_flock(lock, path)
        finally:
            if not taken:
                os.close(lock)
        return lock if taken else None

    def create(self, path: Path, flags: int) -> int:
        """Open or create a private file in the folder; return its descriptor. Raises OSError and NotReadable."""
        descriptor = open_own(path, flags | os.O_CREAT, FILE_MODE)
        if os.geteuid() == 0:  # a command run by root: the daemon's user must be able to read it
            owner = self.path.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return descriptor


def _try_flock(descriptor: int, path: Path, kind: int = fcntl.LOCK_EX, *, timeout: float = 0.0) -> bool:
    """Try to take a lock for `timeout` seconds, at least once; return whether it was taken."""
    deadline = time.monotonic() + timeout
    while True:
        with os_errors(path, "cannot be locked"):
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
            else:
                return True
        time.sleep(LOCK_POLL_SECONDS)  # in a thread, or for 50 ms before the daemon accepts requests


def make_private(path: Path, mode: int) -> None:
    """Remove the permissions beyond `mode`, with a warning if there were any."""
    found = stat.S_IMODE(path.stat().st_mode)
    if found & ~mode:
        path.chmod(found & mode)
        _logger.warning("%s was accessible to other users (mode %o) and is private now", path, found)


def exists(path: Path) -> bool:
    """Whether there is anything at the path, if only a broken link."""
    try:
        path.lstat()
    except OSError:
        return False
    return True
