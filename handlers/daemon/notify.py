"""What the service manager is told of the daemon: sd_notify(3) and its watchdog, without their library."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Self

#: How long a manager that does not read may hold the loop, in seconds.
_SEND_SECONDS: Final = 0.1
#: How often the status is looked at, in seconds; it is sent when it has changed.
_STATUS_SECONDS: Final = 2.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notifier:
    """Tells whoever listens at `address`, a socket's path or `@` and an abstract name; without one nobody.

    The manager wants a sign of life every `watchdog_seconds`, if at all.
    """

    address: str = ""
    watchdog_seconds: float | None = None

    @classmethod
    def inherited(cls, environ: MutableMapping[str, str]) -> Self:
        """As the manager that started this process wants it. The variables are unset: no child speaks for us."""
        address, interval = environ.pop("NOTIFY_SOCKET", ""), environ.pop("WATCHDOG_USEC", "")
        ours = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = int(interval) if ours and interval.isdecimal() else 0
        return cls(address, microseconds / 1_000_000 or None)

    def ready(self) -> None:
        """The daemon serves, for the first time or again after `reloading`."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The configuration is being read anew; `ready` must follow."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def status(self, line: str) -> None:
        """How the daemon is, in one line for people."""
        self._send(f"STATUS={line}")

    def alive(self) -> None:
        """The sign of life that the watchdog waits for."""
        self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if not self.address:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_SEND_SECONDS)
                sock.sendto(state.encode(), address)
        except OSError as error:
            _logger.warning("the service manager cannot be told %s: %s", state.partition("=")[0], error)


async def feed_watchdog(notifier: Notifier, tasks: Collection[asyncio.Task[Any]]) -> None:
    """Say that the loop turns, twice as often as is asked for, until one of `tasks` has failed."""
    if notifier.watchdog_seconds is None:
        return
    while not (failed := [task.get_name() for task in tasks if _has_failed(task)]):
        notifier.alive()
        await asyncio.sleep(notifier.watchdog_seconds / 2)
    _logger.critical("the service manager's watchdog is fed no more: %s has failed", ", ".join(failed))


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


async def report_status(notifier: Notifier, status: Callable[[], str]) -> None:
    """Pass on `status()` whenever it has changed, for ever."""
    told = ""
    while True:
        if (line := status()) != told:
            notifier.status(line)
            told = line
        await asyncio.sleep(_STATUS_SECONDS)
