"""The load generator: a bare protocol that sends prebuilt requests and counts the deltas of the answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, cast

from bench.requests import Requests
from bench.scenarios import Scenario
from bench.upstream import TEXT

_CONTENT_LENGTH: Final = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)


class Lost(Exception):
    """An answer failed or lacks deltas, so the measurement is invalid."""


@dataclass(slots=True)
class Tally:
    """The results of one run: seconds from a request to its first delta, and from sending a delta to receiving it."""

    deltas: int = 0
    ttfts: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)


async def run(port: int, requests: Requests, scenario: Scenario, mark: bytes = TEXT) -> Tally:
    """Run a scenario against the server on `port`. Raises Lost.

    `mark` occurs exactly once in each delta of an answer, and nowhere else.
    """
    tally = Tally()
    work = map(requests, range(scenario.streams))
    try:
        async with asyncio.TaskGroup() as group:
            for at in range(scenario.at_once):
                group.create_task(_work(port, work, tally, mark, scenario.spread * at / scenario.at_once))
    except ExceptionGroup as errors:  # anything but a lost delta or connection is a bug in the benchmark
        _, others = errors.split((Lost, OSError))
        raise others or Lost(str(errors.exceptions[0])) from errors
    if tally.deltas != scenario.streams * scenario.play.deltas:
        raise Lost(f"{scenario.name}: {tally.deltas} of {scenario.streams * scenario.play.deltas} deltas arrived")
    return tally


async def _work(port: int, work: Iterator[bytes], tally: Tally, mark: bytes, wait: float) -> None:
    await asyncio.sleep(wait)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    transport, _ = await loop.create_connection(lambda: _Caller(work, tally, mark, done), "127.0.0.1", port)
    try:
        await done
    finally:
        transport.close()


class _Caller(asyncio.Protocol):
    """One connection: sends one request after another, as long as there are any."""

    _transport: asyncio.WriteTransport

    def __init__(self, work: Iterator[bytes], tally: Tally, mark: bytes, done: asyncio.Future[None]) -> None:
        self._work = work
        self._tally = tally
        self._mark = mark
        self._stamp = re.compile(re.escape(mark) + rb" ([\d.]+) ")
        self._done = done
        self._now = asyncio.get_running_loop().time
        self._sent = 0.0
        self._body = _Body()
        self._waiting = True  # for the first delta
        self._tail = b""  # of the last read, which may have split a delta

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail if an answer is incomplete."""
        if not self._done.done():
            self._done.set_exception(Lost(f"the connection broke in the middle of an answer: {error}"))

    def data_received(self, data: bytes) -> None:
        """Count the deltas."""
        try:
            text = self._body.feed(data)
        except Lost as error:
            if not self._done.done():
                self._done.set_exception(error)
            return
        if text:
            now = self._now()
            text = self._tail + text
            deltas = text.count(self._mark)
            if deltas and self._waiting:
                self._tally.ttfts.append(now - self._sent)
                self._waiting = False
            self._tally.deltas += deltas
            self._tally.lateness += [now - float(stamp) for stamp in self._stamp.findall(text)]
            self._tail = text[1 - len(self._mark) :]
        if self._body.ended:
            self._send()

    def _send(self) -> None:
        request = next(self._work, None)
        if request is None:
            self._done.set_result(None)
            return
        self._body = _Body()
        self._waiting = True
        self._tail = b""
        self._sent = self._now()
        self._transport.write(request)


class _Body:
    """Parses the body of one answer: chunked, or of known length."""

    def __init__(self) -> None:
        self._rest = b""
        self._in_body = False
        self._chunked = False
        self._left = 0  # unread bytes of the current chunk with its line end, or of the body
        self._last = False
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """Return the part of the body in one read. Raises Lost if the status is not 200."""
        data = self._rest + data
        self._rest = b""
        if not self._in_body:
            head, end, body = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = data
                return b""
            self._begin(head)
            data = body
        return self._take_chunks(data) if self._chunked else self._take_whole(data)

    def _begin(self, head: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Lost(f"the answer is not a 200: {head[:500]!r}")
        self._in_body = True
        length = _CONTENT_LENGTH.search(head)
        self._chunked = length is None
        self._left = int(length[1]) if length is not None else 0

    def _take_whole(self, data: bytes) -> bytes:
        self._left -= len(data)
        self.ended = self._left <= 0
        return data

    def _take_chunks(self, data: bytes) -> bytes:
        pieces, at = [], 0
        while at < len(data):
            if not self._left:
                end = data.find(b"\r\n", at)
                if end < 0:
                    self._rest = data[at:]
                    break
                size = int(data[at:end], 16)
                self._left, self._last, at = size + 2, size == 0, end + 2
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            pieces.append(piece[: len(piece) - max(0, 2 - self._left)])
        self.ended = self._last and not self._left
        return b"".join(pieces)
