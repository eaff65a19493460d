"""The files of recorded requests: `activity/<day>.jsonl` in the state folder, by the UTC day of writing.

A day with many requests has several files, `2026-11-30.jsonl`, `2026-11-30.002.jsonl`, …, so that the oldest requests
can be deleted in smaller parts. Any number of processes may append: each batch is one write.
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

from bridge.state.documents import StateFolder
from bridge.state.folder import FOLDER_MODE
from bridge.state.regular_file import NotReadable, open_own

FOLDER: Final = "activity"
#: A new file is begun once the last one has this share of all bytes that may be kept, or this many bytes: each file is
#: searched in memory.
PART_SHARE: Final = 1 / 16
PART_BYTES: Final = 64 * 1024 * 1024
#: At most this share of the disk is used, and never the last bytes that are free: logins and keys need those.
DISK_SHARE: Final = 1 / 4
LEFT_BYTES: Final = 8 * 1024 * 1024
#: A larger file was not written by the bridge, whose batches are much smaller.
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
    #: Whether the bridge may have written it; anything else (links, devices, pipes) is left alone.
    ours: bool = True


def open_part(part: Part) -> BinaryIO:
    """Open a file for reading. Raises OSError, which is FileNotFoundError also if something else has replaced it."""
    try:
        return os.fdopen(open_own(part.path, os.O_RDONLY), "rb")
    except (OSError, NotReadable) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise
        raise FileNotFoundError(errno.ENOENT, "it was replaced") from error


def parts_of(folder: StateFolder) -> list[Part]:
    """The files of the folder, the oldest first; blocking. Raises OSError."""
    return [part for part in _named(folder) if part.ours]


def _named(folder: StateFolder) -> list[Part]:
    """Everything that has the name of such a file, the oldest first. Raises OSError."""
    found = []
    try:
        with os.scandir(folder.path / FOLDER) as entries:
            for each in entries:
                if match := _NAME.fullmatch(each.name):
                    with suppress(FileNotFoundError):  # another process has just deleted it
                        status = each.stat(follow_symlinks=False)
                        ours = stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES
                        found.append(Part(match[1], int(match[2] or 1), Path(each.path), status.st_size, ours))
    except FileNotFoundError:
        return []
    return sorted(found)


def append(folder: StateFolder, lines: list[bytes], retention: Retention, now: float) -> None:
    """Append lines, and remove from `lines` those that were written; then delete old files. Blocking.

    Raises OSError and NotReadable: the lines that remain must be written again.
    """
    home = folder.path / FOLDER
    if not home.is_dir():
        home.mkdir(FOLDER_MODE, exist_ok=True)  # not its parents: a missing state folder may be mounted again
    disk = os.statvfs(home)
    retention = retention._replace(size=min(retention.size, int(disk.f_blocks * disk.f_frsize * DISK_SHARE)))
    if disk.f_bavail * disk.f_frsize < LEFT_BYTES:
        _delete_old(parts_of(folder), retention, now)
        raise OSError(errno.ENOSPC, f"less than {LEFT_BYTES // 2**20} MiB are free, and logins come first")
    day = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
    number = 1
    if todays := [part for part in _named(folder) if part.day == day]:
        last = todays[-1]
        number = last.number + (not last.ours or last.size >= min(retention.size * PART_SHARE, PART_BYTES))
    name = f"{day}.jsonl" if number == 1 else f"{day}.{number:03}.jsonl"
    descriptor = folder.create(home / name, os.O_RDWR | os.O_APPEND)
    try:
        _write(descriptor, lines)
    finally:
        os.close(descriptor)
    _delete_old(parts_of(folder), retention, now)


def _write(descriptor: int, lines: list[bytes]) -> None:
    """Write lines in as few writes as possible; a line that was written in part is written again."""
    size = os.fstat(descriptor).st_size
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"  # a process was killed, or the disk was full
    while lines:
        data = b"".join(lines)
        written = os.write(descriptor, b"\n" + data if torn else data) - torn
        if written == len(data):
            lines.clear()
            return
        whole = data[: max(written, 0)].count(b"\n")
        del lines[:whole]
        torn = True  # the next write fails, or writes the whole line after its first part


def _delete_old(parts: list[Part], retention: Retention, now: float) -> None:
    """Delete the files of days that are too old, and the oldest files while all of them are too large."""
    first = f"{datetime.fromtimestamp(now, UTC) - timedelta(days=retention.days - 1):%Y-%m-%d}"
    size = sum(part.size for part in parts)
    for part in parts:
        if part.day >= first and size <= retention.size:
            return
        part.path.unlink(missing_ok=True)
        size -= part.size
