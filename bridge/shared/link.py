"""The process's link to Redis: one connection for commands and one for news, each opened again whenever it fails.

Commands are pipelined: one is sent at once, and those that follow before its reply has come form the next batch,
whatever requests they belong to. So the number of round trips does not grow with the number of requests. While Redis
cannot be used, commands fail at once.

    link = Link(address, settings, time.monotonic)
    async with link.running():
        await link.started()
        reply = await link.call(("GET", link.key("doc", "keys")))
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeVar

from bridge.log import event
from bridge.shared.address import RedisAddress
from bridge.shared.availability import Availability, Phase
from bridge.shared.connecting import connect
from bridge.shared.connection import Command, ConnectionFailed, RedisConnection, Reply
from bridge.shared.errors import CommandRefused, SharedStateDown
from bridge.shared.script import Script, Word
from bridge.state.errors import StateError, StateUnavailable
from bridge.tasks import TaskOwner, set_within

#: How often this process reports that it is alive, in seconds: also how soon an idle daemon notices that Redis is gone.
BEAT_SECONDS: Final = 1.0
#: A process that has not reported for so many seconds counts as dead: its slots are free.
DEAD_SECONDS: Final = 5.0
#: A process that has not reported for so many seconds is forgotten.
FORGOTTEN_SECONDS: Final = 86_400.0
#: The pause between two attempts to connect, in seconds.
RECONNECT_SECONDS: Final = 0.25
#: How often entries that expire in Redis are refreshed, in seconds.
REFRESH_SECONDS: Final = 20.0
#: How much of a string is read by `Link.text`. All that the bridge stores are shorter, except documents and responses.
MAX_TEXT_BYTES: Final = 64 * 1024
#: The longest news: what a process tells another one about its running requests.
MAX_NEWS_BYTES: Final = 4 * 1024 * 1024
#: The most groups of commands in one batch: more would block the event loop for long.
MAX_GROUPS: Final = 500

T = TypeVar("T")

_BEAT: Final = Script("beat")

_logger = logging.getLogger(__name__)


class LinkSettings(NamedTuple):
    """How Redis is used. `instance` is the name of this process (`instance_name`); times are in seconds."""

    instance: str
    prefix: str = "lmab:"
    timeout: float = 1.0
    connect_timeout: float = 5.0
    #: For how long a server that has just started may lack what others are about to write to it again.
    settle_seconds: float = 5.0


class _Group(NamedTuple):
    """Commands that were sent together, and the future for their replies; None if nobody waits for them."""

    commands: Sequence[Command]
    replies: asyncio.Future[list[Reply]] | None


class Link:
    """Sends commands, receives news from other processes, and knows whether Redis can be used.

    `clock` is monotonic, in seconds.
    """

    def __init__(self, address: RedisAddress, settings: LinkSettings, clock: Callable[[], float]) -> None:
        self.address = address
        self.settings = settings
        self.availability = Availability(since=clock())
        #: The names of all processes that share this state and were alive when Redis answered last.
        self.alive: frozenset[str] = frozenset()
        #: The run ID and the version of the server that was reached last.
        self.run_id = ""
        self.version = ""
        self._settled_at = math.inf  # when that server has everything that others know
        self._folders: dict[str, float] = {}  # when a process of each was last known to be alive
        self._others_reported = False  # whether others have had time to report since the last connection was made
        self._clock = clock
        self._tasks = TaskOwner()
        self._queued: list[_Group] = []
        self._in_flight: Sequence[_Group] = ()
        self._connection: RedisConnection | None = None  # the one for commands, while it works
        self._wake = asyncio.Event()  # the connection has failed, or the link ends
        self._has_started = asyncio.Event()  # the first connection has caught up, or has timed out
        self._listeners: dict[str, Callable[[str], None]] = {}
        self._channels = [self.key("news")]
        self._reconnect_callbacks: list[Callable[[], Awaitable[None]]] = []
        self._refresh_callbacks: list[Callable[[], Awaitable[None]]] = []
        self._finishing = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Stay connected while the context lasts. Callbacks should be added before, so that they miss nothing."""
        async with self._tasks:
            connecting = self._tasks.spawn(self._keep_connected(), name="redis")
            self._tasks.spawn(self._keep_listening(), name="redis news")
            self._tasks.every(REFRESH_SECONDS, self._refresh, name="refresh redis")
            try:
                yield
            finally:
                self._finishing = True
                self._wake.set()
                await asyncio.wait((connecting,), timeout=self.settings.timeout)
                # Commands from now on must fail, or they would wait forever. Not by `_set`, which would log an outage.
                self.availability = self.availability.failed("the daemon stops", self._clock())
                self._fail("the daemon stops")

    def key(self, *parts: str) -> str:
        """The name of one of the bridge's keys."""
        return self.settings.prefix + ":".join(parts)

    @property
    def usable(self) -> bool:
        """Whether commands may be sent now."""
        return self.availability.usable

    @property
    def all_use_one_folder(self) -> bool:
        """Whether no process with another state folder than this one's has been alive in the last day.

        False until this process has been connected for `settle_seconds`: the others may not have reported before.
        """
        own, since = folder_of(self.settings.instance), self._clock() - FORGOTTEN_SECONDS
        return self._others_reported and all(name == own or seen < since for name, seen in self._folders.items())

    @property
    def seconds_until_settled(self) -> float:
        """For how many seconds the server may still lack what others wrote to it before it started."""
        return max(0.0, self._settled_at - self._clock())

    async def started(self) -> None:
        """Wait for the first connection, for at most `connect_timeout`; after that the daemon serves alone."""
        if not await set_within(self._has_started, self.settings.connect_timeout):
            self._set(self.availability.timed_out(self._clock()))

    # Commands

    async def run(self, *commands: Command) -> list[Reply]:
        """Send commands in one round trip. The reply to a refused one is a CommandRefused. Raises SharedStateDown."""
        return await self.send(*commands)

    def send(self, *commands: Command) -> asyncio.Future[list[Reply]]:
        """As `run`, but return a future, whose exception must be retrieved."""
        replies: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        if self.usable:
            self._add(_Group(commands, replies))
        else:
            replies.set_exception(self._down())
        return replies

    async def call(self, command: Command) -> Reply:
        """Send one command. Raises SharedStateDown and CommandRefused."""
        (reply,) = await self.run(command)
        if isinstance(reply, CommandRefused):
            raise CommandRefused(*reply.args)  # a new one: its traceback would refer to this frame, which holds `reply`
        return reply

    async def text(self, key: str, *further: Command) -> bytes | None:
        """Read the string at a key, and send further commands in the same round trip; None if there is no string.

        Whatever else writes there, no more than `MAX_TEXT_BYTES` are read. Raises SharedStateDown and CommandRefused.
        """
        text, *_ = await self.run(("GETRANGE", key, 0, MAX_TEXT_BYTES - 1), *further)
        if isinstance(text, CommandRefused):
            raise CommandRefused(*text.args)
        return text or None

    def post(self, *commands: Command) -> None:
        """Send commands without waiting. While Redis cannot be used, they are dropped."""
        if self.usable:
            self._add(_Group(commands, None))

    def _down(self) -> SharedStateDown:
        return SharedStateDown(f"Redis at {self.address} cannot be used: {self.availability.why}")

    # News

    def publish_command(self, topic: str, text: str = "", *, channel: str = "news") -> tuple[Word, ...]:
        """The command that publishes news; its reply is the number of processes that receive them.

        All processes subscribe to the channel "news", including this one.
        """
        return ("PUBLISH", self.key(channel), f"{topic} {text}")

    def subscribe(self, *channels: str) -> None:
        """Receive the news on further channels. Must be called before the link runs."""
        self._channels += map(self.key, channels)

    def on_news(self, topic: str, listener: Callable[[str], None]) -> None:
        """Call `listener` with the text of all news about a topic, and with '' when some may have been missed."""
        self._listeners[topic] = listener

    def on_reconnect(self, catch_up: Callable[[], Awaitable[None]]) -> None:
        """Await `catch_up` whenever Redis can be used again. All such callbacks run in the order of their registration.

        If one raises StateError, that is logged, and the next one runs.
        """
        self._reconnect_callbacks.append(catch_up)

    def on_refresh(self, refresh: Callable[[], Awaitable[None]]) -> None:
        """Await `refresh` every `REFRESH_SECONDS`, and whenever Redis can be used again."""
        self._refresh_callbacks.append(refresh)
        self.on_reconnect(refresh)

    def spawn(self, coro: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run a task that is cancelled when the link ends."""
        return self._tasks.spawn(coro, name=name)

    async def _refresh(self) -> None:
        for refresh in self._refresh_callbacks:
            with suppress(StateUnavailable):
                await refresh()

    async def _keep_listening(self) -> None:
        """Receive news, until cancelled."""
        while True:
            with suppress(ConnectionFailed):
                connection = await connect(self.address, self.settings.timeout)
                try:
                    await connection.subscribe(self._channels)
                    for listener in self._listeners.values():
                        listener("")
                    while True:
                        news = await connection.next_message()
                        if len(news) > MAX_NEWS_BYTES:  # not the bridge's
                            continue
                        topic, _, text = news.decode("utf-8", "replace").partition(" ")
                        if topic in self._listeners:
                            self._listeners[topic](text)
                finally:
                    connection.close()
            await asyncio.sleep(RECONNECT_SECONDS)

    # The connection

    async def _keep_connected(self) -> None:
        """Connect and serve commands, again and again, until the link ends."""
        while not self._finishing:
            try:
                connection = await connect(self.address, self.settings.timeout)
                try:
                    await self._serve(connection)
                finally:
                    connection.close()
            except ConnectionFailed as error:
                self._fail(str(error))
                if not self._finishing:
                    await asyncio.sleep(RECONNECT_SECONDS)

    async def _serve(self, connection: RedisConnection) -> None:
        """Let commands use this connection, and report that this process is alive. Raises ConnectionFailed."""
        self._others_reported, reported_at = False, self._clock() + self.settings.settle_seconds
        await self._report_alive(connection)  # this writes: a server that refuses writes cannot be used
        if connection.run_id != self.run_id:
            uptime = 0.0 if self.run_id else connection.uptime  # after a failover, others have just moved too
            self._settled_at = self._clock() - uptime + self.settings.settle_seconds
        self.run_id, self.version = connection.run_id, connection.version
        self._connection = connection
        self._wake.clear()
        self._set(self.availability.connected(self._clock()))
        catching_up = self._tasks.spawn(self._catch_up(), name="catch up with redis")
        try:
            while not self._finishing:
                if not await set_within(self._wake, BEAT_SECONDS):
                    await self._report_alive(connection)
                    self._others_reported = self._clock() >= reported_at
                elif not self.availability.usable:
                    raise ConnectionFailed(self.availability.why)
            with suppress(SharedStateDown):  # after all queued commands
                await self.run(("HDEL", self.key("instances"), self.settings.instance))
        except asyncio.CancelledError:
            if self._in_flight or self._queued:
                self._fail("the daemon stops")
            raise
        finally:
            self._connection = None
            catching_up.cancel()

    def _add(self, group: _Group) -> None:
        self._queued.append(group)
        self._send_batch()

    def _send_batch(self) -> None:
        """Send the queued commands, unless a batch is in flight."""
        if self._connection is None or self._in_flight or not self._queued:
            return
        self._in_flight = self._queued[:MAX_GROUPS]
        del self._queued[:MAX_GROUPS]
        # Commands of cancelled tasks are sent too: some of them release what the task had claimed.
        self._connection.send([command for group in self._in_flight for command in group.commands], self._on_replies)

    def _on_replies(self, replies: list[Reply] | ConnectionFailed) -> None:
        """Distribute the replies, and send the next batch."""
        if isinstance(replies, ConnectionFailed):
            self._fail(str(replies))
            return
        groups, self._in_flight = self._in_flight, ()
        start = 0
        for group in groups:
            end = start + len(group.commands)
            if group.replies is None:
                for reply in replies[start:end]:
                    if isinstance(reply, CommandRefused):
                        _logger.warning("%s", reply)
            elif not group.replies.done():
                group.replies.set_result(replies[start:end])
            start = end
        self._send_batch()

    async def _report_alive(self, connection: RedisConnection) -> None:
        beat = _BEAT.call(
            (self.key("instances"),),
            self.settings.instance,
            round(DEAD_SECONDS * 1000),
            round(FORGOTTEN_SECONDS * 1000),
        )
        (alive,) = await connection.run([beat])
        if isinstance(alive, CommandRefused):
            raise ConnectionFailed(f"{alive}")
        self.alive = frozenset(name.decode("utf-8", "replace") for name in alive)
        self._folders.update(dict.fromkeys(map(folder_of, self.alive), self._clock()))

    async def _catch_up(self) -> None:
        for catch_up in self._reconnect_callbacks:
            try:
                await catch_up()
            except StateError as error:
                _logger.warning("Redis is back, but the state cannot be used yet: %s", error)
        self._set(self.availability.caught_up(self._clock()))

    def _fail(self, why: str) -> None:
        """Redis cannot be used: fail all commands that have no replies yet."""
        self._set(self.availability.failed(why, self._clock()))
        self._connection = None
        groups = (*self._in_flight, *self._queued)
        self._in_flight, self._queued = (), []
        self._wake.set()
        for group in groups:
            if group.replies is not None and not group.replies.done():
                group.replies.set_exception(self._down())

    def _set(self, availability: Availability) -> None:
        before, self.availability = self.availability, availability
        if availability.phase in (Phase.UP, Phase.DEGRADED):
            self._has_started.set()
        if availability.phase is before.phase:
            return
        if availability.phase is Phase.DEGRADED:
            event(
                _logger,
                logging.WARNING,
                f"Redis at {self.address} cannot be used: {availability.why}; continuing alone",
            )
        elif availability.phase is Phase.UP:
            event(_logger, logging.INFO, f"the state is shared through Redis {self.version} at {self.address}")


def instance_name(folder: str) -> str:
    """A unique name for this process, with a digest of its machine and of its state folder, an absolute path."""
    host = socket.gethostname()
    digest = sha256(f"{host} {folder}".encode()).hexdigest()[:8]
    return f"{host}:{os.getpid()}:{secrets.token_hex(4)}@{digest}"


def folder_of(instance: str) -> str:
    """The digest of an instance's machine and state folder."""
    return instance.rpartition("@")[2]
