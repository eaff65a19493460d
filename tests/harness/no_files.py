"""Things in place of a file that must not be read, and how the error for a document describes them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path


def socket_at(path: Path) -> None:
    """Create a socket by its path relative to the working directory, since the length of a socket's path is limited."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(path))


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def _linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_suffix(".pipe"))
    path.symlink_to(path.with_suffix(".pipe"))


NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "is a pipe"),
    "a link to a pipe": (_linked_pipe, "is a pipe"),
    "a socket": (socket_at, "is a socket"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "an empty device": (lambda path: path.symlink_to("/dev/null"), "is a device"),
    "a terminal": (lambda path: path.symlink_to("/dev/tty"), "is a device"),
    "a huge file": (_huge, "has 1,099,511,627,776 bytes or more"),
}
