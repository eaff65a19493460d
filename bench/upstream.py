"""A fast fake upstream that sends prebuilt bytes with a bare protocol, a minimal part of docs/protocol.md.

    python -m bench.upstream PORT

It answers as the prompt demands, in LMArena's lines or, for proxies that do not translate, in OpenAI's frames.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

from bench import site
from bench.scenarios import Play

#: A text that occurs once in each delta and nowhere else; in a paced stream the time of sending follows it.
TEXT: Final = b"answer"

_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class _Lines:
    before: bytes
    after: bytes
    end: bytes


_LMARENA: Final = _Lines(b'a0:"', b'"\n', b'ad:{"finishReason":"stop"}\n')
_CHUNK: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"%b",'
    b'"choices":[{"index":0,"delta":{' % site.MODEL.encode()
)
_OPENAI: Final = _Lines(
    _CHUNK + b'"content":"',
    b'"},"finish_reason":null}]}\n\n',
    _CHUNK + b'},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


#: The text before and after the deltas of a call of the first tool (bench/requests.py), escaped for JSON.
_CALL: Final = (
    rb"<tool_call>\n{\"name\": \"tool_0\", \"arguments\": {\"parameter_0\": \"",
    rb"\"}}\n</tool_call>",
)


def answer(play: Play) -> bytes:
    """The body of an answer in LMArena's lines."""
    return b"".join(_pieces(_LMARENA, play))


def _pieces(lines: _Lines, play: Play) -> Sequence[bytes]:
    """The body of an answer, with one piece for each delta."""
    texts = [b"%b%d " % (TEXT, at % 10) for at in range(play.deltas)]  # LiteLLM aborts a stream of equal deltas
    if play.called:
        texts = [_CALL[0], *texts, _CALL[1]]
    return [*(lines.before + text + lines.after for text in texts), lines.end]


@lru_cache
def _whole(lines: _Lines, play: Play) -> bytes:
    """Build an answer that is sent at once: in chunks of `play.chunk` bytes or, as servers do, one for each delta."""
    pieces = _pieces(lines, play)
    if play.chunk:
        body = b"".join(pieces)
        pieces = [body[at : at + play.chunk] for at in range(0, len(body), play.chunk)]
    return b"".join((_HEAD, *map(_chunk, pieces), b"0\r\n\r\n"))


class Upstream(asyncio.Protocol):
    """One connection; requests come one after another, with a Content-Length."""

    _transport: asyncio.WriteTransport
    _origin: str

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._missing = 0  # bytes of the current body that have yet to arrive

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._origin = f"http://127.0.0.1:{transport.get_extra_info('sockname')[1]}"

    def data_received(self, data: bytes) -> None:
        """Buffer the data until the request is complete, then answer it."""
        self._received += data
        if self._missing:
            self._missing = max(0, self._missing - len(data))
        else:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._missing = max(0, end + 4 + _content_length(self._received[:end]) - len(self._received))
        if not self._missing:
            request, self._received = self._received, bytearray()
            self._answer(request)

    def _answer(self, request: bytearray) -> None:
        served = site.serve(request, self._origin)
        if served is not None:
            self._transport.write(served)
            return
        lines = _OPENAI if request.startswith(b"POST /v1/") else _LMARENA
        play = Play.read(request)
        if play.interval:
            self._transport.write(_HEAD)
            self._play(lines, play, self._loop.time())
        else:
            self._transport.write(_whole(lines, play))

    def _play(self, lines: _Lines, play: Play, began: float, played: int = 0) -> None:
        """Send one delta, and schedule the next one."""
        if self._transport.is_closing():
            return
        if played == play.deltas:
            self._transport.write(_chunk(lines.end) + b"0\r\n\r\n")
            return
        stamp = b"%b %.6f " % (TEXT, self._loop.time())
        self._transport.write(_chunk(lines.before + stamp + lines.after))
        due = began + (played + 1) * play.interval
        self._loop.call_at(due, self._play, lines, play, began, played + 1)


def _content_length(head: bytearray) -> int:
    _, found, value = head.lower().partition(b"content-length:")
    return int(value.partition(b"\r\n")[0]) if found else 0


async def serve(port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
    """Serve forever."""
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Upstream))
