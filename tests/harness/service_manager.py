"""Stands in for systemd: receives the notifications of a daemon, sd_notify(3)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Manager(asyncio.DatagramProtocol):
    """Receives the messages to a notification socket; `address` is for NOTIFY_SOCKET, `status` is the last STATUS."""

    address: str
    status: str = ""
    _unread: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    @property
    def environ(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address}

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - the protocol's signature
        message = data.decode()
        if message.startswith("STATUS="):
            self.status = message.removeprefix("STATUS=")
        self._unread.put_nowait(message)

    async def hears(self, start: str, within: float = 10.0) -> str:
        """Wait for the next message that begins with `start`; skip others."""
        async with asyncio.timeout(within):
            while not (message := await self._unread.get()).startswith(start):
                pass
        return message

    def heard(self) -> list[str]:
        """All messages that have arrived and have not been read."""
        return [self._unread.get_nowait() for _ in range(self._unread.qsize())]


@asynccontextmanager
async def listening(address: str) -> AsyncIterator[Manager]:
    name = "\0" + address[1:] if address.startswith("@") else address
    transport, manager = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Manager(address), local_addr=name, family=socket.AF_UNIX
    )
    try:
        yield manager
    finally:
        transport.close()
