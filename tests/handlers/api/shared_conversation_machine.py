"""The conversation state machine, run against two processes that share a Redis and answer requests in turn.

The state moves between the processes at every step. Instead of a crash of the daemon, Redis is lost and starts again
empty. Before each request both processes have received all earlier news: otherwise one could refuse a request because
of something that the other has just learned, which is correct but cannot be predicted here. Run it by hand
(`pytest tests/handlers/api/shared_conversation_machine.py`).
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from itertools import cycle
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from places import linked
from polling import until
from redis_server import redis_server
from running import RunningBridge, api_key, bridge_for, config_for
from witness import Reply, Witness

from bridge.config.schema import RedisSection
from bridge.config.values import Secret
from bridge.shared.availability import Phase as Availability
from bridge.shared.documents import SharedDocuments
from bridge.shared.link import Link, LinkSettings
from bridge.state.documents import StateFolder
from bridge.state.state import ACCOUNTS, KEYS
from handlers.request.appkeys import GATE, SHARING
from upstream.accounts import Account
from upstream.arena import Arena, Session
from upstream.arena.traits import Era
from upstream.protocol import cookies
from upstream.retry import RetryBudget

_SPEC = spec_from_file_location("conversation_machine", Path(__file__).with_name("test_conversation_machine.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
machine = module_from_spec(_SPEC)
sys.modules[_SPEC.name] = machine
_SPEC.loader.exec_module(machine)

#: `redis.timeout`, long enough not to expire on a busy machine.
TIMEOUT = 10.0
PATIENCE = 30.0


class ConversingWithTwo(machine.Conversing):  # type: ignore[misc, name-defined]  # mypy cannot see what is loaded by its path
    """The same clients and rules, with two processes and a Redis."""

    bridges: list[RunningBridge]

    async def set_up(self, era: Era) -> None:
        self.arena = await self.owned.enter_async_context(Arena(era=era))
        self.witness = Witness(self.arena)
        self.sessions = {address: self.arena.sign_in(address) for address in machine.ADDRESSES}
        self.redis = await self.owned.enter_async_context(redis_server())
        made = [api_key(name=name) for name in ("one", "other")]
        self.keys = [secret for secret, _ in made]
        self.link = await self.owned.enter_async_context(
            linked(self.redis.address, LinkSettings("operator", "lmab:", TIMEOUT, PATIENCE))
        )
        await self.link.started()
        folder = StateFolder(self.folder.with_name("operator"))
        folder.prepare()
        self.documents = SharedDocuments(self.link, folder)
        await self.documents.open(KEYS).save(tuple(key for _, key in made))
        await self.documents.open(ACCOUNTS).save(tuple(map(account_of, self.sessions.values())))
        self.stacks = [AsyncExitStack(), AsyncExitStack()]
        for stack in self.stacks:
            self.running.push_async_callback(stack.aclose)
        self.bridges = [await self.begin_one(number) for number in (0, 1)]
        self.turns = cycle((0, 1))
        self.hearing = asyncio.Lock()
        self.bridge = self.bridges[0]
        self.models = [self.bridge.model(), self.bridge.model(thinking=True)]

    async def settled(self) -> None:
        """Wait until each process knows what the other has learned."""
        for each in self.bridges:
            await each.state.flush()
            await link_of(each).call(("PING",))  # everything that was posted has reached Redis
        async with self.hearing:
            heard = [asyncio.Event() for _ in self.bridges]
            for each, event in zip(self.bridges, heard, strict=True):
                link_of(each).on_news("settled", partial(hear, event))
            while not all(event.is_set() for event in heard):  # a process that is still connecting misses it
                await self.link.call(self.link.publish_command("settled", "now"))  # published after all other news
                await asyncio.sleep(0.01)
        await until(lambda: known_to(self.bridges[0]) == known_to(self.bridges[1]), within=PATIENCE)

    async def begin_one(self, number: int) -> RunningBridge:
        folder = StateFolder(self.folder.with_name(f"process-{number}"))
        folder.prepare()
        section = RedisSection(url=Secret(self.redis.url), timeout=TIMEOUT, connect_timeout=PATIENCE)
        config = replace(config_for(self.arena, folder.path), redis=section)
        return await self.stacks[number].enter_async_context(bridge_for(self.arena, config, folder, self.keys[0]))

    async def ask(self, messages: machine.History, stream: bool, **options: object) -> Reply:  # type: ignore[name-defined]  # likewise
        await self.settled()
        for each in self.bridges:
            each.app[GATE].reset()
            each.relay.retries.budget = RetryBudget()
        self.bridge = self.bridges[next(self.turns)]
        reply: Reply = await super().ask(messages, stream, **options)
        return reply

    @rule()
    def an_hour_later(self) -> None:
        self.arena.faults.clear()
        for each in self.bridges:
            each.state.pool.load([replace(account, cooldowns={}) for account in each.state.pool])

    @rule(address=machine.addresses)
    def renew(self, address: str) -> None:
        """Add the account's new cookie, as the operator would, and wait until both processes know it."""
        session = self.sessions[address] = self.arena.sign_in(address)
        added = account_of(session)

        async def renew() -> None:
            await self.documents.open(ACCOUNTS).update(
                lambda kept: (*(account for account in kept if account.user_id != added.user_id), added)
            )
            await until(lambda: all(knows(each, session) for each in self.bridges), within=PATIENCE)

        self.run(renew())

    @rule(number=st.integers(0, 1))
    def restart(self, number: int) -> None:
        async def restart() -> None:
            await self.stacks[number].aclose()
            self.bridges[number] = await self.begin_one(number)
            self.bridge = self.bridges[number]

        self.run(restart())

    @rule()
    def crash(self) -> None:
        """Kill Redis and start it again empty."""

        async def crash() -> None:
            links = [*map(link_of, self.bridges), self.link]
            lost = self.link.run_id
            await self.redis.kill()
            await self.redis.start()
            # An idle link does not notice that its connection was lost before its next heartbeat.
            await until(lambda: all(is_up(link) and link.run_id != lost for link in links), within=PATIENCE)

        self.run(crash())


def account_of(session: Session) -> Account:
    return Account(session.email, cookies.decode(session.cookie_value))


def hear(event: asyncio.Event, text: str) -> None:
    """Set the event when a published text arrives."""
    if text:
        event.set()


def known_to(bridge: RunningBridge) -> dict[str, tuple[object, ...]]:
    """What a process knows of each account."""
    return {
        account.user_id: (account.session.value, account.expired, dict(account.cooldowns), account.bar)
        for account in bridge.state.pool
    }


def knows(bridge: RunningBridge, session: Session) -> bool:
    return any(account.session.value == session.cookie_value for account in bridge.state.pool)


def link_of(bridge: RunningBridge) -> Link:
    sharing = bridge.app[SHARING]
    assert sharing is not None
    return sharing.link


def is_up(link: Link) -> bool:
    return link.availability.phase is Availability.UP


TestConversingWithTwo = ConversingWithTwo.TestCase
TestConversingWithTwo.settings = settings(
    max_examples=max(3, settings().max_examples // 400),  # each example starts a Redis and two daemons
    stateful_step_count=20,
    phases=(Phase.reuse, Phase.generate),
)
