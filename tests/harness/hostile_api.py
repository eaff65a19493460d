"""A malicious server in place of a bridge: its texts must not control the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: Text that controls a terminal: a colour, a title, a bell, CSI of C1, reversed text, line breaks.
STEERING = "\x1b[31mred\x1b]0;title\x07 \x9b2J \x08\r over \u202e turned \u2066 \u2028 \ud83d end"


@asynccontextmanager
async def hostile(status: int, body: bytes) -> AsyncIterator[str]:
    """Run a server that lists one model and answers everything else with this status and body; yield its origin."""
    models = json.dumps({"data": [{"id": STEERING}]}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        content, code = (models, 200) if asked.startswith(b"GET ") else (body, status)
        writer.write(b"HTTP/1.1 %d X\r\nConnection: close\r\n\r\n%b" % (code, content))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def steers(text: str) -> bool:
    """Whether the text contains a character that controls a terminal."""
    obeyed = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
    return re.search(obeyed, text) is not None


def event(**value: object) -> bytes:
    """One server-sent event of a stream."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"
