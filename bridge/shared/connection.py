"""An open connection to Redis: commands are sent in one write, and a callback receives their replies.

It is an `asyncio.Protocol` without tasks and streams, with the library's parser and writer in C: a round trip costs a
third of what it does with the library's own connection. `bridge.shared.connecting` opens it.

    send(commands) ──▶ written ──▶ all replies have come ──▶ on_end(replies)
                         │  │              └── a script is unknown: it is sent with its source ──▶ on_end(replies)
                         │  └── the timeout is over, or the connection is lost ──▶ closed, on_end(ConnectionFailed)
                         └── the server refuses all clients' commands ───────────▶ closed, on_end(ConnectionFailed)
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
#: A reply of Redis: bytes, a number, None, a list of these, or an error.
Reply: TypeAlias = Any

#: Error codes that are not the command's fault: the server accepts no writes, or nothing at all, from any client.
_SERVER_REFUSALS: Final = frozenset(
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
        "NOSCRIPT",  # although the source was sent
        "OOM",
        "READONLY",
        "TRYAGAIN",
        "WRONGPASS",
    )
)
_TOO_MANY_CLIENTS: Final = "ERR max number of clients reached"
#: Reading from the socket pauses while so many messages have not been consumed.
_MAX_INBOX: Final = 100


class ConnectionFailed(Exception):
    """The connection cannot be made, or cannot be used any more. The text is a clause without a secret."""


#: Called once: with all replies, in which a refusal is a `CommandRefused`, or with the reason why there are none.
OnEnd: TypeAlias = Callable[[list[Reply] | ConnectionFailed], None]


class _Refusal(Exception):
    """An error reply, as Redis words it."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]


class _Exchange:
    """Commands that were written together, and their replies so far."""

    __slots__ = ("commands", "deadline", "has_refusal", "on_end", "replies")

    def __init__(self, commands: Sequence[Command], deadline: float, on_end: OnEnd) -> None:
        self.commands = commands
        self.deadline = deadline
        self.on_end = on_end
        self.replies: list[Reply] = []
        self.has_refusal = False


class RedisConnection(asyncio.Protocol):
    """A connection. It fails for good if replies take longer than `timeout` seconds; its owner must close it then.

    `run_id` identifies the run of the server: it changes whenever the server starts. `connect` sets it, `version`, and
    `uptime`: how long the server had been running when it was asked, in seconds.
    """

    _transport: asyncio.Transport

    def __init__(self, timeout: float) -> None:
        self.run_id = ""
        self.version = ""
        self.uptime = 0.0
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(replyError=_Refusal)
        self._exchanges: deque[_Exchange] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._failure: ConnectionFailed | None = None
        self._inbox: deque[bytes] | None = None  # messages, once it has subscribed
        self._arrived = asyncio.Event()

    # Commands

    def send(self, commands: Sequence[Command], on_end: OnEnd) -> None:
        """Send commands at once, and call `on_end` when all replies have come, or none will."""
        if self._failure is not None or not commands:
            on_end(self._failure or [])
            return
        data = b"".join([_packed(each.evalsha() if isinstance(each, ScriptCall) else each) for each in commands])
        exchange = _Exchange(commands, self._loop.time() + self._timeout, on_end)
        self._exchanges.append(exchange)
        if self._timer is None:
            self._timer = self._loop.call_at(exchange.deadline, self._on_timer)
        self._transport.write(data)

    async def run(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands and wait for their replies. Raises ConnectionFailed."""
        replies: asyncio.Future[list[Reply]] = self._loop.create_future()
        self.send(commands, partial(_settle, replies))
        return await replies

    def _end(self, exchange: _Exchange) -> None:
        """All replies have come: send the scripts that the server does not know again, with their source."""
        if not exchange.has_refusal:
            exchange.on_end(exchange.replies)
            return
        unknown = {
            at: command.eval()
            for at, (command, reply) in enumerate(zip(exchange.commands, exchange.replies, strict=True))
            if isinstance(command, ScriptCall) and isinstance(reply, _Refusal) and reply.code == "NOSCRIPT"
        }
        if unknown:
            self.send(list(unknown.values()), partial(self._end_with_scripts, exchange, list(unknown)))
        else:
            self._end_with_refusals(exchange)

    def _end_with_scripts(
        self, exchange: _Exchange, places: Sequence[int], replies: list[Reply] | ConnectionFailed
    ) -> None:
        """The scripts at these places have been sent with their source, and these are their replies."""
        if isinstance(replies, ConnectionFailed):
            exchange.on_end(replies)
            return
        for at, reply in zip(places, replies, strict=True):
            exchange.replies[at] = reply
        self._end_with_refusals(exchange)

    def _end_with_refusals(self, exchange: _Exchange) -> None:
        for at, reply in enumerate(exchange.replies):
            if isinstance(reply, _Refusal):
                if reply.code in _SERVER_REFUSALS or str(reply).startswith(_TOO_MANY_CLIENTS):
                    failure = ConnectionFailed(f"it refuses to work: {clause(reply)}")
                    self._fail(failure)
                    exchange.on_end(failure)
                    return
                exchange.replies[at] = CommandRefused(f"Redis refuses a command: {clause(reply)}")
        exchange.on_end(exchange.replies)

    def _on_timer(self) -> None:
        """Fail if the oldest exchange has timed out, or wait until it does."""
        self._timer = None
        if not self._exchanges:
            return
        deadline = self._exchanges[0].deadline
        if self._loop.time() >= deadline:
            self._fail(ConnectionFailed(f"it has not answered within {self._timeout:g} s"))
        else:
            self._timer = self._loop.call_at(deadline, self._on_timer)

    # Messages

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Receive the messages on these channels; no command may be sent after this. Raises ConnectionFailed."""
        await self.run([("SUBSCRIBE", channel) for channel in channels])
        self._inbox = deque()
        self.data_received(b"")  # messages may have come together with the replies

    async def next_message(self) -> bytes:
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
        """Parse replies and messages."""
        try:
            self._reader.feed(data)
            while self._failure is None and (self._exchanges or self._inbox is not None):
                reply = self._reader.gets()
                if reply is False:
                    return
                self._on_reply(reply)
        except HiredisError as error:
            self._fail(ConnectionFailed(f"what it answers is not Redis' protocol: {clause(error)}"))

    def _on_reply(self, reply: Reply) -> None:
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
        exchange.has_refusal |= isinstance(reply, _Refusal)
        if len(exchange.replies) == len(exchange.commands):
            self._exchanges.popleft()
            self._end(exchange)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail all exchanges that have no replies yet."""
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
            exchange.on_end(failure)
        self._arrived.set()

    def close(self) -> None:
        """Close the connection, without waiting for the server."""
        self._fail(ConnectionFailed("it was closed"))


def clause(error: BaseException) -> str:
    """An error's text, shortened, as a clause. The library's errors name hosts and paths, but no password."""
    text = " ".join(str(error).split()).removeprefix("ERR ")
    return text[:200].rstrip(".") or type(error).__name__


def _packed(words: tuple[Word, ...]) -> bytes:
    try:
        return cast("bytes", pack_command(words))  # type: ignore[arg-type]  # its annotation is too narrow
    except UnicodeEncodeError:  # half of a surrogate pair, which callers may send
        encoded = [word.encode("utf-8", "surrogatepass") if isinstance(word, str) else word for word in words]
        return _packed(tuple(encoded))


def _settle(future: asyncio.Future[list[Reply]], replies: list[Reply] | ConnectionFailed) -> None:
    if future.done():  # its task was cancelled
        return
    if isinstance(replies, ConnectionFailed):
        future.set_exception(replies)
    else:
        future.set_result(replies)
