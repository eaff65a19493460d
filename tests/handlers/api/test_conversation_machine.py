"""Whatever clients, accounts, faults and restarts do, a model sees all of the request's messages, once and in order.

The state machine runs a real daemon against the embedded arena, on its own event loop. `Witness` checks the invariant:
each call that the arena accepts is compared with the pending requests.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, TypeVar

from caller import calling
from eras import ERAS
from hypothesis import Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, multiple, rule
from running import RunningBridge, add_accounts, api_key, running_bridge
from witness import JsonMessage, Reply, Witness, ask

from bridge.state.documents import StateFolder
from bridge.state.state import keys_document
from handlers.request.appkeys import GATE
from upstream.arena import Arena, Session
from upstream.arena.traits import Era
from upstream.retry import RetryBudget

T = TypeVar("T")
History: TypeAlias = tuple[JsonMessage, ...]

ADDRESSES = ("ada@example.org", "bob@example.org")
FAULTS: dict[str, dict[str, Any]] = {
    "server_error": {},
    "model_failed_first": {},
    "empty_answer": {},
    "reset_before_headers": {},
    "reset_middle": {"after": 1},
    "eof_middle": {"after": 1},
    "wrong_account": {},
    "moderated": {},
    "rotate_cookie": {},
    "battle_turn": {"on": "follow-up"},
    "arena_error": {"after": 0},
    "expired": {},
}
#: The roles of the messages that a client may add to a history before it asks again.
TAILS = ("user", "user", "user", "user user", "system user", "user assistant", "tool")

addresses = st.sampled_from(ADDRESSES)
faults = st.sampled_from(sorted(FAULTS))
streamed = st.booleans()


class Conversing(RuleBasedStateMachine):
    """Clients that know nothing of evaluations, while the site, its accounts and the daemon change."""

    histories = Bundle("histories")  # of messages; each ends in an answer, or is empty

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.owned = AsyncExitStack()
        self.running = AsyncExitStack()
        self.folder = Path(self.owned.enter_context(TemporaryDirectory())) / "state"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(asyncio.wait_for(work, 20))

    def teardown(self) -> None:
        self.run(self.running.aclose())
        self.run(self.owned.aclose())
        self.loop.close()

    @initialize(target=histories, era=st.sampled_from(ERAS))
    def begin(self, era: Era) -> History:
        self.run(self.set_up(era))
        return ()

    async def set_up(self, era: Era) -> None:
        self.arena = await self.owned.enter_async_context(Arena(era=era))
        self.witness = Witness(self.arena)
        self.sessions = {address: self.arena.sign_in(address) for address in ADDRESSES}
        folder = StateFolder(self.folder)
        folder.prepare()
        made = [api_key(name=name) for name in ("one", "other")]
        self.keys = [secret for secret, _ in made]
        await keys_document(folder).update(lambda kept: (*kept, *(key for _, key in made)))
        await self.boot(*self.sessions.values())

    async def boot(self, *sessions: Session) -> None:
        self.running = AsyncExitStack()
        self.bridge: RunningBridge = await self.running.enter_async_context(
            running_bridge(self.arena, self.folder, {"limits": {"join_repeats": False}}, sessions=sessions)
        )
        self.models = [self.bridge.model(), self.bridge.model(thinking=True)]

    # Clients

    @rule(target=histories, history=histories, tail=st.sampled_from(TAILS), stream=streamed)
    def say(self, history: History, tail: str, stream: bool) -> History:
        return self.remember(self.extended(history, tail), stream)

    @rule(target=histories, history=histories, fault=st.none() | faults, stream=streamed)
    def talk(self, history: History, fault: str | None, stream: bool) -> History:
        """Take three turns; the fault, if any, is armed before the second."""
        for turn in range(3):
            if turn == 1 and fault:
                self.trouble(fault)
            history = self.remember(self.extended(history), stream)
        return history

    @rule(target=histories, history=histories, stream=streamed, key=st.integers(0, 1), model=st.integers(0, 1))
    def switch(self, history: History, stream: bool, key: int, model: int) -> History:
        return self.remember(self.extended(history), stream, key=self.keys[key], model=self.models[model])

    @rule(target=histories, history=histories, stream=streamed)
    def ask_again(self, history: History, stream: bool) -> History:
        asked = history[:-1]
        if not asked:
            asked = self.extended(())
            self.remember(asked, stream)
        return self.remember(asked, stream)

    @rule(target=histories, history=histories, at=st.integers(min_value=0), stream=streamed)
    def edit(self, history: History, at: int, stream: bool) -> History:
        messages = self.extended(history)
        at %= len(messages)
        edited = {**messages[at], "content": self.witness.text()}
        return self.remember((*messages[:at], edited, *messages[at + 1 :]), stream)

    @rule(target=histories, history=histories, at=st.integers(min_value=0), stream=streamed)
    def delete(self, history: History, at: int, stream: bool) -> History:
        at %= len(history) + 1
        return self.remember(self.extended((*history[:at], *history[at + 2 :])), stream)

    @rule(target=histories, history=histories, stream=streamed)
    def say_twice_at_once(self, history: History, stream: bool) -> MultipleResults[History]:
        messages = self.extended(history)

        async def both() -> tuple[Reply, Reply]:
            return await asyncio.gather(self.ask(messages, stream), self.ask(messages, not stream))

        return multiple(*(gone_on(messages, reply) for reply in self.run(both())))

    @rule(history=histories)
    def leave(self, history: History) -> None:
        """Disconnect once an answer has begun."""
        messages = self.extended(history)

        async def leave() -> None:
            self.witness.go_on = asyncio.Event()
            with self.witness.expecting(messages):
                async with calling(self.bridge.origin, self.keys[0]) as caller:
                    await caller.ask(self.bridge.chat(messages=messages, stream=True))
                    await caller.sees(b"\r\n\r\n")  # an answer has begun, a good one or an error
                if self.arena.chats:  # the bridge may have refused without asking the site
                    await self.arena.chats[-1].done.wait()
            self.witness.go_on = None

        self.run(leave())

    def extended(self, history: History, tail: str = "user") -> History:
        return (*history, *({"role": role, "content": self.witness.text(" ?")} for role in tail.split()))

    def remember(self, messages: History, stream: bool, **options: Any) -> History:
        return gone_on(messages, self.run(self.ask(messages, stream, **options)))

    async def ask(self, messages: History, stream: bool, **options: Any) -> Reply:
        """Ask; the answer must be complete unless a fault is armed or no account is usable."""
        self.bridge.app[GATE].reset()  # an open circuit would refuse all requests for seconds
        self.bridge.relay.retries.budget = RetryBudget()
        calm = not self.arena.faults.armed() and any(map(self.is_usable, ADDRESSES))
        reply = await ask(self.bridge, self.witness, messages, stream=stream, **{"key": self.keys[0], **options})
        assert complete(reply) or not calm
        event(f"{reply.kind or reply.code}; {reply.why}")
        return reply

    def is_usable(self, address: str) -> bool:
        """Whether the daemon may use this account, and the site would accept its cookie."""
        session = self.sessions[address]
        known = {account.session.value for account in self.bridge.state.pool.usable("chat")}
        return session.alive and session.cookie_value in known

    # The site and the daemon

    @rule(name=faults)
    def trouble(self, name: str) -> None:
        self.arena.faults.arm(name, **FAULTS[name])

    @rule(address=addresses)
    def rate_limit(self, address: str) -> None:
        self.arena.faults.arm("rate_limited", account=self.sessions[address].user_id, retry_after="60")

    @rule(every=st.integers(0, 3))
    def want_battles(self, every: int) -> None:
        self.arena.battle_every = every

    @rule(generating=st.booleans())
    def keep_generating(self, generating: bool) -> None:
        """Set whether the site completes an answer whose transport breaks."""
        self.arena.keeps_generating = generating

    @rule()
    def change_the_mode(self) -> None:
        self.arena.modes = frozenset({"direct", "direct-battle"}) - self.arena.modes

    @rule()
    def replace_model_ids(self) -> None:
        self.arena.replace_model_ids()

    @rule()
    def an_hour_later(self) -> None:
        self.arena.faults.clear()
        pool = self.bridge.state.pool
        pool.load([replace(account, cooldowns={}) for account in pool])

    @rule(address=addresses)
    def expire(self, address: str) -> None:
        self.arena.expire(self.sessions[address])

    @rule(address=addresses)
    def renew(self, address: str) -> None:
        """Add the account's new cookie, as the operator would."""
        self.sessions[address] = self.arena.sign_in(address)

        async def renew() -> None:
            await add_accounts(self.bridge.folder, self.sessions[address])
            await self.bridge.state._merge()  # as the file watch would, within two seconds

        self.run(renew())

    @rule(at=st.integers(min_value=0))
    def forget_an_evaluation(self, at: int) -> None:
        if known := [*self.arena.evaluations]:
            del self.arena.evaluations[known[at % len(known)]]

    @rule()
    def restart(self) -> None:
        async def restart() -> None:
            await self.running.aclose()
            await self.boot()

        self.run(restart())

    @rule()
    def crash(self) -> None:
        """Start the next daemon with a copy of the state folder that was taken while this one runs."""

        async def crash() -> None:
            before, self.folder = self.folder, self.folder.with_name(f"{self.folder.name}'")
            shutil.copytree(before, self.folder, ignore=shutil.ignore_patterns("*.tmp"))
            await self.running.aclose()
            await self.boot()

        self.run(crash())


def gone_on(messages: History, reply: Reply) -> History:
    """The history that a client continues: none if it got no complete answer."""
    return (*messages, reply.message) if complete(reply) else ()


def complete(reply: Reply) -> bool:
    """Whether the answer is complete and without an error."""
    return reply.status == 200 and reply.code is None


TestConversing = Conversing.TestCase
TestConversing.settings = settings(
    max_examples=max(15, settings().max_examples // 160),  # each example starts a daemon
    stateful_step_count=25,
    phases=(Phase.reuse, Phase.generate),  # 25 steps are readable as they are; shrinking takes minutes
)
