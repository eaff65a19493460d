"""A caller on a raw connection: it can stop within a request, not read its answer, or reset the connection."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

from yarl import URL

#: The limit of the stream reader, which buffers up to twice as much of an answer that is not read.
READ_AHEAD_BYTES = 8 * 1024


@dataclass(slots=True)
class Caller:
    """One connection to a bridge; `reader` gets the raw answer, including chunk sizes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    _head: str

    async def ask(self, body: Mapping[str, object]) -> None:
        """Send a chat."""
        data = json.dumps(body).encode()
        await self.send_head(len(data))
        self.writer.write(data)
        await self.writer.drain()

    async def send_head(self, length: int, *headers: str) -> None:
        """Send a chat's request line and headers; `length` bytes of body must follow."""
        lines = (self._head, f"Content-Length: {length}", *headers)
        self.writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        await self.writer.drain()

    async def sees(self, text: bytes) -> bytes:
        """Read until `text` has arrived."""
        return await self.reader.readuntil(text)

    def leave(self) -> None:
        """Close the connection properly."""
        self.writer.close()

    def vanish(self) -> None:
        """Reset the connection, as a crashed caller or a middlebox does."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def calling(
    origin: str, key: str, *, receive_bytes: int | None = None, path: str = "/v1/chat/completions"
) -> AsyncIterator[Caller]:
    """Connect; `receive_bytes` is the size of the kernel's receive buffer."""
    url = URL(origin)
    with socket.socket() as sock:
        sock.setblocking(False)
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        await asyncio.get_running_loop().sock_connect(sock, (url.host, url.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=READ_AHEAD_BYTES)
        lines = (f"POST {path} HTTP/1.1", f"Host: {url.authority}", f"Authorization: Bearer {key}")
        try:
            yield Caller(reader, writer, "\r\n".join((*lines, "Content-Type: application/json")))
        finally:
            writer.transport.abort()


async def exchange(origin: str, sent: str, *, head_only: bool = False) -> str:
    """Send a text unchanged on a new connection; read until the bridge closes it, or only the head of the answer."""
    url = URL(origin)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    with closing(writer):
        writer.write(sent.encode())
        async with asyncio.timeout(10):
            return (await (reader.readuntil(b"\r\n\r\n") if head_only else reader.read())).decode(errors="replace")
