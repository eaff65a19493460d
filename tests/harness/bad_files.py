"""Replaces a file with what must not be read as one: no content, a pipe, a folder, a device, a terminal, a terabyte."""

from __future__ import annotations

import os
from pathlib import Path


def emptied(path: Path) -> None:
    path.write_text("")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def terminal(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/tty")


def huge(path: Path) -> None:
    os.truncate(path, 1 << 40)
