"""The process's link to Redis: one connection for all commands, one for news, made again whenever they fail.

All commands of a turn of the event loop, of however many requests, travel in one flight, and those that come while it
is on its way in the next: the number of round trips does not grow with the number of requests. While Redis cannot be
used, a command is refused at once.

    link = Link(address, settings, time.monotonic)
    async with link.running():
        await link.started()
        reply = await link.call(("GET", link.key("doc", "keys")))
"""

from __future__ import annotations

import asyncio
import logging
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
from bridge.state.documents import StateError, StateUnavailable
from bridge.tasks import TaskOwner, set_within

#: How often this process says that it is alive, in seconds: also how soon an idle daemon notices that Redis is gone.
BEAT_SECONDS: Final = 1.0
#: A process that has been silent for so long counts as dead, in seconds: its leases are free.
DEAD_SECONDS: Final = 5.0
#: After so long a silent process is forgotten, in seconds.
FORGOTTEN_SECONDS: Final = 86_400.0
#: The pause between two attempts to connect, in seconds.
PAUSE_SECONDS: Final = 0.25
#: How often what expires in Redis is told again, in seconds.
REPEAT_SECONDS: Final = 20.0
#: The longest text that is read, in bytes: none of the bridge's own is as long, but for documents and responses.
MAX_TEXT: Final = 64 * 1024
#: The longest piece of news, in bytes: what one process tells another of its running requests.
MAX_NEWS: Final = 4 * 1024 * 1024
#: Commands in one flight at most: more would hold the event loop for long.
MAX_FLIGHT: Final = 500

T = TypeVar("T")

_BEAT: Final = Script("beat")

_logger = logging.getLogger(__name__)


class LinkSettings(NamedTuple):
    """How Redis is used: `instance` names this process among all; times are in seconds."""

    instance: str
    prefix: str = "lmab:"
    timeout: float = 1.0
    connect_timeout: float = 5.0


class _Flight(NamedTuple):
    """Commands that travel together, and who waits for their replies; None where nobody does."""

    commands: Sequence[Command]
    replies: asyncio.Future[list[Reply]] | None


class Link:
    """Sends commands, tells what others have changed, and knows whether Redis can be used.

    `clock` is monotonic, in seconds.
    """

    def __init__(self, address: RedisAddress, settings: LinkSettings, clock: Callable[[], float]) -> None:
        self.address = address
        self.settings = settings
        self.availability = Availability(since=clock())
        #: The names of all processes that share this state, as of the last answer.
        self.alive: frozenset[str] = frozenset()
        #: Names the run of the server that the last connection reached, and its version.
        self.run_id = ""
        self.version = ""
        self._clock = clock
        self._tasks = TaskOwner()
        self._waiting: list[_Flight] = []
        self._flying: Sequence[_Flight] = ()
        self._connection: RedisConnection | None = None  # one that takes flights
        self._wake = asyncio.Event()  # the connection has failed, or the link ends
        self._settled = asyncio.Event()  # the first connection has caught up, or was given up
        self._listeners: dict[str, Callable[[str], None]] = {}
        self._channels = [self.key("news")]
        self._catching_up: list[Callable[[], Awaitable[None]]] = []
        self._repeating: list[Callable[[], Awaitable[None]]] = []
        self._finishing = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the link while the context lasts. Whoever listens or catches up says so before, or misses the first."""
        async with self._tasks:
            keeping = self._tasks.spawn(self.keep(), name="redis")
            self._tasks.spawn(self.listen(), name="redis news")
            self._tasks.every(REPEAT_SECONDS, self._repeat, name="repeat to redis")
            try:
                yield
            finally:
                self._finishing = True
                self._wake.set()
                await asyncio.wait((keeping,), timeout=self.settings.timeout)
                # Not by `_set`, which would log it: a command that comes now would wait for ever.
                self.availability = self.availability.failed("the daemon stops", self._clock())
                self._fail("the daemon stops")

    def key(self, *parts: str) -> str:
        """The name of a key of ours."""
        return self.settings.prefix + ":".join(parts)

    @property
    def usable(self) -> bool:
        """Whether commands may be sent now."""
        return self.availability.usable

    @property
    def is_local(self) -> bool:
        """Whether all processes that were alive at the last answer are in this one's place (`instance_name`)."""
        place = place_of(self.settings.instance)
        return bool(self.alive) and all(place_of(name) == place for name in self.alive)

    async def started(self) -> None:
        """Wait for the first connection, at most `connect_timeout`; after that the daemon goes on alone."""
        if not await set_within(self._settled, self.settings.connect_timeout):
            self._set(self.availability.late(self._clock()))

    # Commands

    async def run(self, *commands: Command) -> list[Reply]:
        """Send commands in one round trip; a refused one's reply is its CommandRefused. Raises SharedStateDown."""
        return await self.send(*commands)

    def send(self, *commands: Command) -> asyncio.Future[list[Reply]]:
        """Send commands; what `run` returns or raises is the future's. It must be looked at."""
        replies: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        if self.availability.usable:
            self._add(_Flight(commands, replies))
        else:
            replies.set_exception(self._down())
        return replies

    async def call(self, command: Command) -> Reply:
        """Send one command. Raises SharedStateDown and CommandRefused."""
        (reply,) = await self.run(command)
        if isinstance(reply, CommandRefused):
            raise CommandRefused(*reply.args)  # not itself, which this frame holds: a reference cycle
        return reply

    async def text(self, key: str, *further: Command) -> bytes | None:
        """Read the text of a key, and send further commands with that; None where there is none.

        Whatever else writes there, no more than `MAX_TEXT` of it is read. Raises SharedStateDown and CommandRefused.
        """
        text, *_ = await self.run(("GETRANGE", key, 0, MAX_TEXT - 1), *further)
        if isinstance(text, CommandRefused):
            raise CommandRefused(*text.args)
        return text or None

    def post(self, *commands: Command) -> None:
        """Send commands without waiting; they are lost while Redis cannot be used."""
        if self.availability.usable:
            self._add(_Flight(commands, None))

    def _down(self) -> SharedStateDown:
        return SharedStateDown(f"Redis at {self.address} cannot be used: {self.availability.why}")

    # News

    def news(self, topic: str, text: str = "", *, channel: str = "news") -> tuple[Word, ...]:
        """The command that tells all processes that listen to a channel; its reply is how many those are.

        To "news" all listen, this one too.
        """
        return ("PUBLISH", self.key(channel), f"{topic} {text}")

    def hear(self, *channels: str) -> None:
        """Listen to further channels; to be called before the link runs."""
        self._channels += map(self.key, channels)

    def on_news(self, topic: str, told: Callable[[str], None]) -> None:
        """Call `told` with the text of each piece of news about a topic; '' where some may have been missed."""
        self._listeners[topic] = told

    def on_back(self, catch_up: Callable[[], Awaitable[None]]) -> None:
        """Await `catch_up` whenever Redis can be used again, in the order in which these were added.

        Where it raises StateError, that is logged, and the rest is caught up with.
        """
        self._catching_up.append(catch_up)

    def on_time(self, repeat: Callable[[], Awaitable[None]]) -> None:
        """Await `repeat` every `REPEAT_SECONDS`, and whenever Redis can be used again."""
        self._repeating.append(repeat)
        self.on_back(repeat)

    def spawn(self, coro: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run a task that ends with the link at the latest."""
        return self._tasks.spawn(coro, name=name)

    async def _repeat(self) -> None:
        for repeat in self._repeating:
            with suppress(StateUnavailable):
                await repeat()

    async def listen(self) -> None:
        """Hear what others tell, until cancelled."""
        while True:
            with suppress(ConnectionFailed):
                connection = await connect(self.address, self.settings.timeout)
                try:
                    await connection.subscribe(self._channels)
                    for told in self._listeners.values():
                        told("")
                    while True:
                        news = await connection.message()
                        if len(news) > MAX_NEWS:  # not the bridge's
                            continue
                        topic, _, text = news.decode("utf-8", "replace").partition(" ")
                        if (listener := self._listeners.get(topic)) is not None:
                            listener(text)
                finally:
                    connection.close()
            await asyncio.sleep(PAUSE_SECONDS)

    # The connection

    async def keep(self) -> None:
        """Connect, send what is to be sent, and connect again, until the link ends."""
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
                    await asyncio.sleep(PAUSE_SECONDS)

    async def _serve(self, connection: RedisConnection) -> None:
        """Let flights go, with a sign of life in between, until the link ends. Raises ConnectionFailed."""
        await self._beat(connection)  # a write: a server that refuses those is of no use
        self.run_id, self.version = connection.run_id, connection.version
        self._connection = connection
        self._wake.clear()
        self._set(self.availability.connected(self._clock()))
        catching_up = self._tasks.spawn(self._catch_up(), name="catch up with redis")
        try:
            while not self._finishing:
                if not await set_within(self._wake, BEAT_SECONDS):
                    await self._beat(connection)
                elif not self.availability.usable:
                    raise ConnectionFailed(self.availability.why)
            with suppress(SharedStateDown):  # behind all that waits
                await self.run(("HDEL", self.key("instances"), self.settings.instance))
        except asyncio.CancelledError:
            if self._flying or self._waiting:
                self._fail("the daemon stops")
            raise
        finally:
            self._connection = None
            catching_up.cancel()

    def _add(self, flight: _Flight) -> None:
        self._waiting.append(flight)
        if len(self._waiting) == 1 and not self._flying:
            asyncio.get_running_loop().call_soon(self._depart)

    def _depart(self) -> None:
        """Send what waits, unless something is on its way."""
        if self._connection is None or self._flying or not self._waiting:
            return
        self._flying = self._waiting[:MAX_FLIGHT]
        del self._waiting[:MAX_FLIGHT]
        # A cancelled caller's commands go out too: some of them give back what it had.
        self._connection.begin([command for flight in self._flying for command in flight.commands], self._arrived)

    def _arrived(self, replies: list[Reply] | ConnectionFailed) -> None:
        """Hand out the replies, and send what has come meanwhile."""
        if isinstance(replies, ConnectionFailed):
            self._fail(str(replies))
            return
        flights, self._flying = self._flying, ()
        at = 0
        for flight in flights:
            end = at + len(flight.commands)
            if flight.replies is None:
                for refused in filter(_is_refused, replies[at:end]):
                    _logger.warning("%s", refused)
            elif not flight.replies.done():
                flight.replies.set_result(replies[at:end])
            at = end
        self._depart()

    async def _beat(self, connection: RedisConnection) -> None:
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

    async def _catch_up(self) -> None:
        for catch_up in self._catching_up:
            try:
                await catch_up()
            except StateError as error:
                _logger.warning("Redis is back, but the state cannot be used yet: %s", error)
        self._set(self.availability.caught_up(self._clock()))

    def _fail(self, why: str) -> None:
        """Redis cannot be used: nobody waits for it any longer."""
        self._set(self.availability.failed(why, self._clock()))
        self._connection = None
        flights = (*self._flying, *self._waiting)
        self._flying, self._waiting = (), []
        self._wake.set()
        for flight in flights:
            if flight.replies is not None and not flight.replies.done():
                flight.replies.set_exception(self._down())

    def _set(self, availability: Availability) -> None:
        before, self.availability = self.availability, availability
        if availability.phase in (Phase.UP, Phase.DEGRADED):
            self._settled.set()
        if availability.phase is before.phase:
            return
        if availability.phase is Phase.DEGRADED:
            event(
                _logger, logging.WARNING, f"Redis at {self.address} cannot be used: {availability.why}; going on alone"
            )
        elif availability.phase is Phase.UP:
            event(_logger, logging.INFO, f"the state is shared through Redis {self.version} at {self.address}")


def instance_name(place: str) -> str:
    """A name for this process that no other has had. `place` is what it shares with others, its state folder."""
    host = socket.gethostname()
    digest = sha256(f"{host} {place}".encode()).hexdigest()[:8]
    return f"{host}:{os.getpid()}:{secrets.token_hex(4)}@{digest}"


def place_of(instance: str) -> str:
    """The digest of an instance's place."""
    return instance.rpartition("@")[2]


def _is_refused(reply: object) -> bool:
    return isinstance(reply, CommandRefused)
