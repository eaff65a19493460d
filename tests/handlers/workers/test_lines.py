"""Messages between parent and worker: everything sent arrives, however the bytes are split, and nothing else does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from handlers.workers.lines import Lines

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=10,
)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Lines, socket.socket, list[tuple[str, Any]], asyncio.Event]]:
    """One end of a link, the raw socket at the other, the messages received, and an event that the link has ended."""
    here, there = socket.socketpair()
    heard: list[tuple[str, Any]] = []
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    _, lines = await loop.create_connection(lambda: Lines(lambda *message: heard.append(message), ended.set), sock=here)
    with there:
        there.setblocking(False)
        yield lines, there, heard, ended
    await asyncio.wait_for(ended.wait(), 5)


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data


@a_share(of=20)
@given(st.lists(st.tuples(st.text(max_size=10), JSON), max_size=5), st.data())
def test_messages_arrive_complete_however_the_bytes_are_split(
    messages: list[tuple[str, Any]], data: st.DataObject
) -> None:
    wire = Wire()
    heard: list[tuple[str, Any]] = []
    sender = Lines(lambda *_: None, lambda: None)
    receiver = Lines(lambda *message: heard.append(message), lambda: None)
    sender.connection_made(wire)
    receiver.connection_made(wire)
    for message in messages:
        sender.send(*message)
    sent = wire.written
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        receiver.data_received(sent[:size])
        sent = sent[size:]
    assert heard == messages


async def test_invalid_messages_are_skipped() -> None:
    async with connected() as (_, wire, heard, ended):
        wire.send(b'{"an": "object"}\n["too", "many", "values"]\n[1, 2]\n["right", null]\n["cut off')
        wire.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(ended.wait(), 5)
        assert heard == [("right", None)]


async def test_sending_to_a_closed_end_raises_no_error() -> None:
    async with connected() as (lines, wire, _, ended):
        wire.close()
        await asyncio.wait_for(ended.wait(), 5)
        lines.send("into the void")


async def test_closing_does_not_wait_for_an_end_that_does_not_read() -> None:
    async with connected() as (lines, _, _, _):
        lines.send("much", "x" * 4_000_000)
        await asyncio.wait_for(lines.aclose(), 5)
