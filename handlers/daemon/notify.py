"""Notifications to the service manager: sd_notify(3) and its watchdog, without libsystemd."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Self

#: How long a manager that does not read its socket may block the event loop, in seconds.
_SEND_SECONDS: Final = 0.1
#: How often the status is checked, in seconds; it is sent when it has changed.
_STATUS_SECONDS: Final = 2.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notifier:
    """Sends notifications to the socket `address`, a path or `@` and an abstract name; does nothing if that is empty.

    The manager expects a watchdog message every `watchdog_seconds`, None for never.
    """

    address: str = ""
    watchdog_seconds: float | None = None

    @classmethod
    def inherited(cls, environ: MutableMapping[str, str]) -> Self:
        """Read the manager's variables, and unset them, so that no child process notifies in our name."""
        address, interval = environ.pop("NOTIFY_SOCKET", ""), environ.pop("WATCHDOG_USEC", "")
        for_us = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = int(interval) if for_us and interval.isdecimal() else 0
        return cls(address, microseconds / 1_000_000 or None)

    def ready(self) -> None:
        """Notify that the daemon is ready, after its start or after `reloading`."""
        self.send("READY=1")

    def reloading(self) -> None:
        """Notify that the configuration is being reloaded; `ready` must follow."""
        self.send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Notify that the shutdown has begun."""
        self.send("STOPPING=1")

    def status(self, line: str) -> None:
        """Send the daemon's status as one line of text."""
        self.send(f"STATUS={line}")

    def alive(self) -> None:
        """Send the watchdog message."""
        self.send("WATCHDOG=1")

    def send(self, state: str) -> None:
        """Send one notification."""
        if not self.address:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_SEND_SECONDS)
                sock.sendto(state.encode(), address)
        except OSError as error:
            _logger.warning("the service manager cannot be notified of %s: %s", state.partition("=")[0], error)


async def feed_watchdog(notifier: Notifier, tasks: Collection[asyncio.Task[Any]]) -> None:
    """Send watchdog messages, twice as often as required, until one of `tasks` has failed."""
    if notifier.watchdog_seconds is None:
        return
    while not (failed := [task.get_name() for task in tasks if _has_failed(task)]):
        notifier.alive()
        await asyncio.sleep(notifier.watchdog_seconds / 2)
    _logger.critical("the service manager's watchdog gets no more messages: %s has failed", ", ".join(failed))


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


async def report_status(notifier: Notifier, status: Callable[[], str]) -> None:
    """Send `status()` whenever it has changed, until cancelled."""
    sent = ""
    while True:
        if (line := status()) != sent:
            notifier.status(line)
            sent = line
        await asyncio.sleep(_STATUS_SECONDS)
