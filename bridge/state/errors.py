"""The errors of the state on disk, and their translation from those of the operating system."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bridge.state.regular_file import NotReadable

#: Errors that mean that something else is at the path; all others may be temporary.
_WRONG_PLACE: Final = frozenset((errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG))


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


@contextmanager
def os_errors(path: Path, what: str) -> Iterator[None]:
    """Raise StateError for an error of the operating system; `what` continues a sentence that begins with `path`."""
    try:
        yield
    except NotReadable as error:
        raise StateError(f"{path} {what}: it {error}") from error
    except OSError as error:
        kind = StateError if error.errno in _WRONG_PLACE else StateUnavailable
        raise kind(f"{path} {what}: {error.strerror}") from error
