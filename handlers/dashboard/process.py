"""Facts about this process: versions, uptime, memory, open files, the state folder's sizes."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web

import bridge
from bridge.state.sizes import FolderEntry, entries
from handlers.daemon.memory import resident_bytes
from handlers.daemon.reloading import RELOADING
from handlers.request.appkeys import SETTINGS
from handlers.workers.link import LINK

#: Libraries whose versions matter most.
_LIBRARIES: Final = ("aiohttp", "httptools", "orjson", "jinja2")


class Worker(NamedTuple):
    """Which of several worker processes this is."""

    number: int
    of: int


class Process(NamedTuple):
    """This process. `limit` is the limit of open files, None for no limit; `uptime` is in seconds."""

    version: str
    python: str
    system: str
    pid: int
    worker: Worker | None
    uptime: float
    memory: int
    open_files: int
    limit: int | None
    folder: Path
    files: Sequence[FolderEntry]

    @property
    def state_size(self) -> int:
        """The bytes of the whole state folder."""
        return sum(entry.size for entry in self.files)


async def process_of(app: web.Application) -> Process:
    """This process as it is now."""
    folder = app[SETTINGS].config.server.state_dir
    files, open_files = await asyncio.to_thread(lambda: (entries(folder), _open_files()))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Process(
        bridge.__version__,
        f"{platform.python_implementation()} {platform.python_version()}",
        f"{platform.system()} {platform.release()} {platform.machine()}",
        os.getpid(),
        _worker(app),
        time.monotonic() - app[RELOADING].began,
        resident_bytes(),
        open_files,
        None if soft == resource.RLIM_INFINITY else soft,
        folder,
        files,
    )


def libraries() -> dict[str, str]:
    """The versions of libraries."""
    return {name: version(name) for name in _LIBRARIES}


def _worker(app: web.Application) -> Worker | None:
    link = app.get(LINK)
    return None if link is None else Worker(link.number, len({row.worker for row in link.roster}) or 1)


def _open_files() -> int:
    linux = Path("/proc/self/fd")
    listing = linux if linux.is_dir() else Path("/dev/fd")
    return sum(1 for _ in listing.iterdir()) - 1  # without the descriptor of the listing itself
