"""An open connection to Redis: commands go out in one write, and whoever sent them is called when the replies are here.

It is a protocol of the event loop, without tasks and streams, with the library's parser and writer in C: a round trip
costs a third of what it would with the library's own connection. `bridge.shared.connecting` opens it.

    begin(commands) ──▶ written ──▶ all replies are here ──▶ ended(replies)
                          │  │              └── a script is unknown: its call is written whole ──▶ ended(replies)
                          │  └── `timeout` is over, or the connection is lost ──▶ closed, ended(ConnectionFailed)
                          └── the server refuses to work for anyone ────────────▶ closed, ended(ConnectionFailed)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, cast

from hiredis import HiredisError, Reader, pack_command

from bridge.shared.errors import CommandRefused
from bridge.shared.script import ScriptCall, Word

Command: TypeAlias = tuple[Word, ...] | ScriptCall
#: What Redis answers: bytes, a number, nothing, a list of these, or that it refuses the command.
Reply: TypeAlias = Any

#: Refusals that are not the command's fault, by their first word: the server takes no writes, or nothing, from anyone.
_OF_ALL: Final = frozenset(
    (
        "ASK",
        "BUSY",
        "CLUSTERDOWN",
        "CROSSSLOT",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "MOVED",
        "NOAUTH",
        "NOPERM",
        "NOREPLICAS",
        "NOSCRIPT",  # of a call with its source
        "OOM",
        "READONLY",
        "TRYAGAIN",
        "WRONGPASS",
    )
)
_TOO_MANY_CLIENTS: Final = "ERR max number of clients reached"
#: So many messages that nobody has taken stop the reading.
_MAX_INBOX: Final = 100


class ConnectionFailed(Exception):
    """The connection cannot be made, or used any more; the text is a clause without a secret."""


#: Is called once: with all replies, a refusal as `CommandRefused`, or with why there are none.
Ended: TypeAlias = Callable[[list[Reply] | ConnectionFailed], None]


class _Refusal(Exception):
    """An error among the replies, as Redis words it."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]


class _Exchange:
    """Commands that were written together, and their replies so far."""

    __slots__ = ("commands", "deadline", "ended", "is_refused", "replies")

    def __init__(self, commands: Sequence[Command], deadline: float, ended: Ended) -> None:
        self.commands = commands
        self.deadline = deadline
        self.ended = ended
        self.replies: list[Reply] = []
        self.is_refused = False


class RedisConnection(asyncio.Protocol):
    """A connection, whose replies have `timeout` seconds; whoever has it closes it at its first failure.

    `run_id` names the run of the server, another one after each of its starts; it and `version` are there once the
    connection has been opened.
    """

    _transport: asyncio.Transport

    def __init__(self, timeout: float) -> None:
        self.run_id = ""
        self.version = ""
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(replyError=_Refusal)
        self._exchanges: deque[_Exchange] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._failure: ConnectionFailed | None = None
        self._inbox: deque[bytes] | None = None  # messages, once it listens
        self._arrived = asyncio.Event()

    # Commands

    def begin(self, commands: Sequence[Command], ended: Ended) -> None:
        """Send commands at once, and call `ended` when all are replied to, or none will be."""
        if self._failure is not None or not commands:
            ended(self._failure or [])
            return
        data = b"".join([_packed(each.known() if isinstance(each, ScriptCall) else each) for each in commands])
        exchange = _Exchange(commands, self._loop.time() + self._timeout, ended)
        self._exchanges.append(exchange)
        if self._timer is None:
            self._timer = self._loop.call_at(exchange.deadline, self._on_time)
        self._transport.write(data)

    async def run(self, commands: Sequence[Command]) -> list[Reply]:
        """The same for one that waits for the replies. Raises ConnectionFailed."""
        replies: asyncio.Future[list[Reply]] = self._loop.create_future()
        self.begin(commands, partial(_settle, replies))
        return await replies

    def _end(self, exchange: _Exchange) -> None:
        """All replies are here."""
        if not exchange.is_refused:
            exchange.ended(exchange.replies)
            return
        replies, commands = exchange.replies, exchange.commands
        unknown = [
            at
            for at, reply in enumerate(replies)
            if isinstance(reply, _Refusal) and reply.code == "NOSCRIPT" and isinstance(commands[at], ScriptCall)
        ]
        if unknown:
            whole = [command.whole() for at in unknown if isinstance(command := commands[at], ScriptCall)]
            self.begin(whole, partial(self._end_known, exchange, unknown))
        else:
            self._end_judged(exchange)

    def _end_known(self, exchange: _Exchange, places: Sequence[int], replies: list[Reply] | ConnectionFailed) -> None:
        """The scripts that were unknown have run."""
        if isinstance(replies, ConnectionFailed):
            exchange.ended(replies)
            return
        for at, reply in zip(places, replies, strict=True):
            exchange.replies[at] = reply
        self._end_judged(exchange)

    def _end_judged(self, exchange: _Exchange) -> None:
        for at, reply in enumerate(exchange.replies):
            if isinstance(reply, _Refusal):
                if reply.code in _OF_ALL or str(reply).startswith(_TOO_MANY_CLIENTS):
                    failure = ConnectionFailed(f"it refuses to work: {clause(reply)}")
                    self._fail(failure)
                    exchange.ended(failure)
                    return
                exchange.replies[at] = CommandRefused(f"Redis refuses a command: {clause(reply)}")
        exchange.ended(exchange.replies)

    def _on_time(self) -> None:
        """The oldest exchange has had its time, or another one is the oldest by now."""
        self._timer = None
        if not self._exchanges:
            return
        deadline = self._exchanges[0].deadline
        if self._loop.time() >= deadline:
            self._fail(ConnectionFailed(f"it has not answered within {self._timeout:g} s"))
        else:
            self._timer = self._loop.call_at(deadline, self._on_time)

    # Messages

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Listen to channels from now on; no command may follow. Raises ConnectionFailed."""
        await self.run([("SUBSCRIBE", channel) for channel in channels])
        self._inbox = deque()
        self.data_received(b"")  # what has come behind the replies

    async def message(self) -> bytes:
        """Wait for the next message. Raises ConnectionFailed."""
        inbox = cast("deque[bytes]", self._inbox)
        while not inbox:
            if self._failure is not None:
                raise self._failure
            self._transport.resume_reading()
            self._arrived.clear()
            await self._arrived.wait()
        return inbox.popleft()

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand out replies and messages."""
        try:
            self._reader.feed(data)
            while self._failure is None and (self._exchanges or self._inbox is not None):
                reply = self._reader.gets()
                if reply is False:
                    return
                self._take(reply)
        except HiredisError as error:
            self._fail(ConnectionFailed(f"what it answers is not Redis' protocol: {clause(error)}"))

    def _take(self, reply: Reply) -> None:
        if self._inbox is not None:
            match reply:
                case [b"message", _, bytes(text)]:
                    self._inbox.append(text)
                    self._arrived.set()
                    if len(self._inbox) >= _MAX_INBOX:
                        self._transport.pause_reading()
            return
        exchange = self._exchanges[0]
        exchange.replies.append(reply)
        exchange.is_refused |= isinstance(reply, _Refusal)
        if len(exchange.replies) == len(exchange.commands):
            self._exchanges.popleft()
            self._end(exchange)

    def connection_lost(self, error: Exception | None) -> None:
        """Let nobody wait for what will not come."""
        self._fail(ConnectionFailed(clause(error) if error is not None else "it has closed the connection"))

    def _fail(self, failure: ConnectionFailed) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()
        exchanges, self._exchanges = self._exchanges, deque()
        for exchange in exchanges:
            exchange.ended(failure)
        self._arrived.set()

    def close(self) -> None:
        """Close the connection, without waiting for the server."""
        self._fail(ConnectionFailed("it was closed"))


def clause(error: BaseException) -> str:
    """An error as a clause of reasonable length; the texts of these errors name hosts and paths, but no password."""
    text = " ".join(str(error).split()).removeprefix("ERR ")
    return text[:200].rstrip(".") or type(error).__name__


def _packed(words: tuple[Word, ...]) -> bytes:
    try:
        return cast("bytes", pack_command(words))  # type: ignore[arg-type]  # it takes any words
    except UnicodeEncodeError:  # half of a surrogate pair, as callers may send it
        encoded = [word.encode("utf-8", "surrogatepass") if isinstance(word, str) else word for word in words]
        return _packed(tuple(encoded))


def _settle(future: asyncio.Future[list[Reply]], replies: list[Reply] | ConnectionFailed) -> None:
    if future.done():  # whoever waited is gone
        return
    if isinstance(replies, ConnectionFailed):
        future.set_exception(replies)
    else:
        future.set_result(replies)
