"""A worker's place: what its parent tells it when it starts, in one variable of the environment."""

from __future__ import annotations

import socket
from collections.abc import MutableMapping
from typing import Final, NamedTuple, Self

#: The variable; it has no section's form, so that the configuration does not read it.
VARIABLE: Final = "LMARENA_BRIDGE_PLACE"
#: The variable with the state folder, which the parent holds.
STATE_DIR: Final = "LMARENA_BRIDGE_SERVER__STATE_DIR"


class WorkerPlace(NamedTuple):
    """The worker's number, from 1; the descriptors of its link to the parent, of the counts of connections,
    and of the sockets.

    The parent expects a sign of life every `watchdog_seconds`. The `setup_code` is that of all workers.
    """

    number: int
    link: int
    connection_counts: int
    sockets: tuple[int, ...]
    watchdog_seconds: float
    setup_code: str

    def write(self) -> str:
        """The variable's value."""
        sockets = ",".join(map(str, self.sockets))
        return f"{self.number} {self.link} {self.connection_counts} {sockets} {self.watchdog_seconds} {self.setup_code}"

    @classmethod
    def inherited(cls, environ: MutableMapping[str, str]) -> Self | None:
        """Read the variable and unset it; None for a process without a parent of ours. Raises ValueError."""
        text = environ.pop(VARIABLE, "")
        if not text:
            return None
        number, link, connection_counts, sockets, seconds, code = text.split(" ")
        return cls(
            int(number), int(link), int(connection_counts), tuple(map(int, sockets.split(","))), float(seconds), code
        )

    def open(self) -> list[socket.socket]:
        """The listening sockets, which no child process inherits."""
        return [_opened(descriptor) for descriptor in self.sockets]

    def open_link(self) -> socket.socket:
        """This end of the link."""
        return _opened(self.link)


def _opened(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock
