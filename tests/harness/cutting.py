"""A proxy that cuts off the first answer to chosen requests after a number of bytes, like an unreliable network."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from yarl import URL

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@asynccontextmanager
async def cutting(origin: str) -> AsyncIterator[tuple[str, dict[str, int]]]:
    """Serve one request per connection; yield the proxy's origin and a mapping of cuts.

    It maps a text within the request's body to the number of bytes before the cut. An entry is removed when used.
    """
    url, cuts = URL(origin), dict[str, int]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            found = next((text for text in cuts if f"{text}.".encode() in body), None)
            left = cuts.pop(found) if found is not None else None
            up_reader, up_writer = await asyncio.open_connection(url.host, url.port)
            with closing(up_writer):
                up_writer.write(head + body)
                while left != 0 and (data := await up_reader.read(65536)):
                    if left is not None:
                        data = data[:left]
                        left -= len(data)
                    writer.write(data)
                    await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", cuts
