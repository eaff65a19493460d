"""The arguments of a worker, which its parent passes in one variable of the environment."""

from __future__ import annotations

import socket
from collections.abc import MutableMapping
from typing import Final, NamedTuple, Self

#: The variable; unlike the configuration's, its name has no section.
VARIABLE: Final = "LMARENA_BRIDGE_PLACE"
#: The configuration's variable with the state folder, which the parent has locked.
STATE_DIR: Final = "LMARENA_BRIDGE_SERVER__STATE_DIR"


class WorkerArguments(NamedTuple):
    """The worker's number, from 1; descriptors: of the link to its parent, `ConnectionCounts`, the listening sockets.

    The parent expects a sign of life every `watchdog_seconds`. All workers have the same `setup_code`.
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
        """Read and unset the variable; None in a process that no parent has started. Raises ValueError."""
        text = environ.pop(VARIABLE, "")
        if not text:
            return None
        number, link, connection_counts, sockets, seconds, code = text.split(" ")
        return cls(
            int(number), int(link), int(connection_counts), tuple(map(int, sockets.split(","))), float(seconds), code
        )

    def open_sockets(self) -> list[socket.socket]:
        """The listening sockets; child processes do not inherit them."""
        return [_opened(descriptor) for descriptor in self.sockets]

    def open_link(self) -> socket.socket:
        """The worker's end of the link."""
        return _opened(self.link)


def _opened(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock
