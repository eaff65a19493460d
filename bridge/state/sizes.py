"""How large the files of a state folder are. Blocking."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class FolderEntry(NamedTuple):
    """A file of the folder, or a folder in it: the number of files, and their bytes in total."""

    name: str
    files: int
    size: int
    is_folder: bool


def entries(folder: Path) -> tuple[FolderEntry, ...]:
    """The entries of a folder, the largest first. What cannot be read or has just been deleted counts as empty."""
    found = []
    try:
        with os.scandir(folder) as scan:
            for each in scan:
                is_folder = each.is_dir(follow_symlinks=False)
                files, size = _inside(each.path) if is_folder else (1, _size(each))
                found.append(FolderEntry(each.name, files, size, is_folder))
    except OSError:
        return ()
    return tuple(sorted(found, key=lambda entry: (-entry.size, entry.name)))


def _inside(folder: str) -> tuple[int, int]:
    files = size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            files += 1
            try:
                size += Path(path, name).lstat().st_size
            except OSError:  # just deleted
                continue
    return files, size


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:  # just deleted
        return 0
