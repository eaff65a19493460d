"""The files of recordings in the state folder, and what commands ask of a running daemon through them.

    recordings/wanted-<nonce>.json   a command wants a recording: of the next call, or of one that has ended
    recordings/armed-<nonce>         a daemon has seen that, and records the next call, or has the one that is wanted
    recordings/made-<nonce>.json     the recording; the command takes it away
    drift/<time>-<nonce>.json        recordings of what the site sent that this version does not know; the last 20

No part of a name comes from a caller or from the site: a nonce is random, of the command or of the daemon.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from bridge.state.documents import FOLDER_MODE, StateFolder
from bridge.state.regular_file import NotReadable, open_own, read

RECORDINGS: Final = "recordings"
DRIFT: Final = "drift"
#: How many recordings of drift are kept, and how large one may be.
MAX_DRIFT: Final = 20
MAX_DRIFT_BYTES: Final = 512 * 1024
#: What a daemon leaves of commands that were killed, in seconds.
STALE_SECONDS: Final = 3600.0
_MAX_WANTED_BYTES: Final = 4096
_MAX_WANTED: Final = 100

_WANTED: Final = re.compile(r"wanted-([0-9a-f]{16})\.json")
_OURS: Final = re.compile(r"(?:wanted|made)-[0-9a-f]{16}\.json|armed-[0-9a-f]{16}")
_DRIFT_NAME: Final = re.compile(r"\d{13}-[0-9a-f]{8}\.json")


class Wanted(NamedTuple):
    """What a command wants: the call with this id, or the next one where it is None; with texts or without."""

    nonce: str
    request_id: str | None
    texts: bool


class RecordingFiles:
    """The files; all methods block, and raise OSError and NotReadable."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self.path = folder.path / RECORDINGS
        self._drift = folder.path / DRIFT

    # For commands

    def want(self, request_id: str | None, *, texts: bool) -> Wanted:
        """Ask the running daemon for a recording."""
        wanted = Wanted(secrets.token_hex(8), request_id, texts)
        self._make(self.path)
        self._write(self._of("wanted", wanted.nonce), orjson.dumps(wanted._asdict()))
        return wanted

    def is_armed(self, wanted: Wanted) -> bool:
        """Whether a daemon has seen the wish."""
        return (self.path / f"armed-{wanted.nonce}").exists()

    def take(self, wanted: Wanted, limit: int) -> bytes | None:
        """Read what was made, and remove it; None as long as there is nothing."""
        path = self._of("made", wanted.nonce)
        try:
            data, _ = read(path, limit)
        except FileNotFoundError:
            return None
        path.unlink(missing_ok=True)
        return data

    def withdraw(self, wanted: Wanted) -> None:
        """Remove the wish and all that came of it."""
        for name in (f"wanted-{wanted.nonce}.json", f"made-{wanted.nonce}.json", f"armed-{wanted.nonce}"):
            (self.path / name).unlink(missing_ok=True)

    # For the daemon

    def wanted(self) -> list[Wanted]:
        """All wishes, in the order of their names; what cannot be read is none."""
        found: list[Wanted] = []
        for name in sorted(_names(self.path))[:_MAX_WANTED]:
            nonce = _WANTED.fullmatch(name)
            if nonce is None:
                continue
            with suppress(OSError, NotReadable, ValueError, KeyError, TypeError):
                document = orjson.loads(read(self.path / name, _MAX_WANTED_BYTES)[0])
                request_id = document["request_id"]
                found.append(Wanted(nonce[1], None if request_id is None else str(request_id), bool(document["texts"])))
        return found

    def arm(self, wanted: Wanted) -> None:
        """Say that the wish is going to be fulfilled."""
        self._write(self.path / f"armed-{wanted.nonce}", b"")

    def claim(self, wanted: Wanted) -> bool:
        """Take a wish, among all processes that may; False if another one has, or the command has withdrawn it."""
        try:
            self._of("wanted", wanted.nonce).unlink()
        except FileNotFoundError:
            return False
        return True

    def give(self, wanted: Wanted, file: bytes) -> None:
        """Give a command what it wants."""
        made = self.path / f".{wanted.nonce}.part"
        self._write(made, file)
        made.replace(self._of("made", wanted.nonce))

    def tidy(self, now: float) -> None:
        """Remove what commands that were killed have left."""
        for name in _names(self.path):
            path = self.path / name
            if _OURS.fullmatch(name):
                with suppress(OSError):
                    if path.lstat().st_mtime < now - STALE_SECONDS:
                        path.unlink()

    def keep_drift(self, file: bytes, now: float) -> Path | None:
        """Keep a recording of drift, and drop the oldest above MAX_DRIFT; None for one that is too large."""
        if len(file) > MAX_DRIFT_BYTES:
            return None
        self._make(self._drift)
        path = self._drift / f"{int(now * 1000):013d}-{secrets.token_hex(4)}.json"
        self._write(path, file)
        for old in self.drift()[MAX_DRIFT:]:
            old.unlink(missing_ok=True)
        return path

    def drift(self) -> list[Path]:
        """The kept recordings of drift, the newest first."""
        return [self._drift / name for name in sorted(_names(self._drift), reverse=True) if _DRIFT_NAME.fullmatch(name)]

    def _of(self, what: str, nonce: str) -> Path:
        return self.path / f"{what}-{nonce}.json"

    def _make(self, path: Path) -> None:
        path.mkdir(FOLDER_MODE, exist_ok=True)
        if os.geteuid() == 0:  # a command run by root: the daemon's user must be able to use it
            owner = self._folder.path.stat()
            os.chown(path, owner.st_uid, owner.st_gid)

    def _write(self, path: Path, data: bytes) -> None:
        descriptor = self._folder.create(path, os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)


def save(path: Path, data: bytes) -> None:
    """Write a new private file. Raises FileExistsError, other OSErrors and NotReadable."""
    with os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(data)


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
