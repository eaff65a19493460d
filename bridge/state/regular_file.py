"""Reading a small file that the bridge may not have created, with a bounded size and a bounded wait.

Opening a named pipe blocks until there is a writer, a device may yield endless bytes, and a link may lead to either.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path
from typing import Final

#: How long the writer of a pipe may take to close it, in seconds.
PIPE_SECONDS: Final = 10.0

_KINDS: Final = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotReadable(Exception):
    """This is no regular file of an acceptable size; the text continues a sentence that begins with its name."""


def read(path: Path, limit: int, *, stream: bool = False) -> tuple[bytes, os.stat_result]:
    """Return the bytes of a regular file, at most `limit`, and its status. Links are followed.

    With `stream`, a pipe is also read to its end, and /dev/null is an empty file. Raises OSError and NotReadable.
    """
    _check(path.stat(), stream=stream)  # before opening, which may have side effects on a device or a socket
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        _check(status, stream=stream)
        if status.st_size > limit:
            raise NotReadable(_too_large(status.st_size, limit))
        data = _read_pipe(descriptor, limit) if stat.S_ISFIFO(status.st_mode) else _read_file(descriptor, limit)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise NotReadable(_too_large(len(data), limit))
    return data, status


def open_own(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a regular file that is not a link; return its descriptor. Raises OSError and NotReadable; never blocks."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    try:
        _check(os.fstat(descriptor), stream=False)
    except NotReadable:
        os.close(descriptor)
        raise
    return descriptor


def kind(mode: int) -> str:
    """What a file of this mode is, such as `a pipe`; '' for a regular file."""
    if stat.S_ISREG(mode):
        return ""
    if stat.S_ISDIR(mode):
        return "a directory"
    return next((name for matches, name in _KINDS if matches(mode)), "not a regular file")


def is_null(status: os.stat_result) -> bool:
    """Whether this is the status of /dev/null."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


def _check(status: os.stat_result, *, stream: bool) -> None:
    if stream and (stat.S_ISFIFO(status.st_mode) or is_null(status)):
        return
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if found := kind(status.st_mode):
        raise NotReadable(f"is {found}, but must be a regular file")


def _too_large(size: int, limit: int) -> str:
    return f"has {size:,} bytes or more; the limit is {limit:,}"


def _read_file(descriptor: int, limit: int) -> bytes:
    parts: list[bytes] = []
    left = limit + 1
    while left and (part := os.read(descriptor, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _read_pipe(descriptor: int, limit: int) -> bytes:
    end = time.monotonic() + PIPE_SECONDS
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    data = b""
    while len(data) <= limit:
        try:
            part = os.read(descriptor, 1 << 16)
        except BlockingIOError:  # a writer still has it open
            if not ready.poll(max(0.0, end - time.monotonic()) * 1000):
                raise NotReadable(f"is a pipe whose writer did not close it within {PIPE_SECONDS:g} s") from None
            continue
        if not part:
            break
        data += part
    return data
