"""The files of kept requests: `activity/<day>.jsonl` in the state folder, by the UTC day of writing.

A day that grows long has several: `2026-11-30.jsonl`, `2026-11-30.002.jsonl`, …, so that the oldest can be dropped in
pieces. Any number of processes may append: each batch is one write.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from bridge.state.documents import FOLDER_MODE, StateFolder
from bridge.state.regular_file import NotReadable, open_own

FOLDER: Final = "activity"
#: A file that has this share of all that may be kept, or this many bytes, is followed by another: each is searched in
#: memory.
SHARE: Final = 16
PART_BYTES: Final = 64 * 1024 * 1024
#: No more than this share of the disk is taken, and never the last bytes of it: logins and keys need those.
SHARE_OF_DISK: Final = 4
LEFT_BYTES: Final = 8 * 1024 * 1024
#: A larger file was not written by the bridge. A batch is never so large.
MAX_BYTES: Final = 1024 * 1024 * 1024

_NAME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.(\d{3,6}))?\.jsonl")


class Retention(NamedTuple):
    """How much is kept: the days, today among them, and the bytes of all files."""

    days: int
    size: int


class Part(NamedTuple):
    """One file; parts are ordered by time."""

    day: str
    number: int
    path: Path
    size: int
    #: Whether it may be one that the bridge wrote; others (links, devices, pipes) are left alone.
    ours: bool = True


def opened(part: Part) -> BinaryIO:
    """Open a file for reading. Raises OSError: FileNotFoundError also if another is in its place that is not ours."""
    try:
        return os.fdopen(open_own(part.path, os.O_RDONLY), "rb")
    except (OSError, NotReadable) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise
        raise FileNotFoundError(errno.ENOENT, "it was replaced") from error


def parts_of(folder: StateFolder) -> list[Part]:
    """The files that there are, the oldest first; blocking. Raises OSError."""
    return [part for part in _named(folder) if part.ours]


def _named(folder: StateFolder) -> list[Part]:
    """All that has the name of a file, the oldest first. Raises OSError."""
    found = []
    try:
        with os.scandir(folder.path / FOLDER) as entries:
            for each in entries:
                if match := _NAME.fullmatch(each.name):
                    with suppress(FileNotFoundError):  # another process has just dropped it
                        status = each.stat(follow_symlinks=False)
                        ours = stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES
                        found.append(Part(match[1], int(match[2] or 1), Path(each.path), status.st_size, ours))
    except FileNotFoundError:
        return []
    return sorted(found)


def append(folder: StateFolder, lines: list[bytes], keep: Retention, now: float) -> None:
    """Append lines, and remove from `lines` those that were written; then drop what is too old to be kept; blocking.

    Raises OSError and NotReadable: the lines that are left are to be written again.
    """
    home = folder.path / FOLDER
    if not home.is_dir():
        home.mkdir(FOLDER_MODE, exist_ok=True)  # not its parents: a state folder that is gone may be mounted again
    disk = os.statvfs(home)
    keep = keep._replace(size=min(keep.size, disk.f_blocks * disk.f_frsize // SHARE_OF_DISK))
    if disk.f_bavail * disk.f_frsize < LEFT_BYTES:
        _drop(parts_of(folder), keep, now)
        raise OSError(errno.ENOSPC, f"less than {LEFT_BYTES // 2**20} MiB are free, and logins come first")
    day = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
    number = 1
    if todays := [part for part in _named(folder) if part.day == day]:
        last = todays[-1]
        number = last.number + (not last.ours or last.size >= min(keep.size // SHARE, PART_BYTES))
    name = f"{day}.jsonl" if number == 1 else f"{day}.{number:03}.jsonl"
    descriptor = folder.create(home / name, os.O_RDWR | os.O_APPEND)
    try:
        _write(descriptor, lines)
    finally:
        os.close(descriptor)
    _drop(parts_of(folder), keep, now)


def _write(descriptor: int, lines: list[bytes]) -> None:
    """Write lines in as few pieces as the system takes, each line whole or, after a failure, again."""
    size = os.fstat(descriptor).st_size
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"  # by a process that was killed, or a full disk
    while lines:
        data = b"".join(lines)
        written = os.write(descriptor, b"\n" + data if torn else data) - torn
        if written == len(data):
            lines.clear()
            return
        whole = data[: max(written, 0)].count(b"\n")
        del lines[:whole]
        torn = True  # the next write fails, or writes the whole line behind what there is of it


def _drop(parts: list[Part], keep: Retention, now: float) -> None:
    """Remove the files of days that are over, and the oldest while all together are too large."""
    first = f"{datetime.fromtimestamp(now, UTC) - timedelta(days=keep.days - 1):%Y-%m-%d}"
    size = sum(part.size for part in parts)
    for part in parts:
        if part.day >= first and size <= keep.size:
            return
        part.path.unlink(missing_ok=True)
        size -= part.size
