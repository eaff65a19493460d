"""Several processes with the same accounts: none uses a refresh token twice, whichever calls, stops or loses Redis."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from asking import connected
from manual_clock import Clock
from places import Redis, SharedProcess, shared_redis
from polling import until
from running import config_for

from bridge.accounts.renewals import Renewals
from bridge.shared import renewal_turns
from bridge.shared.renewal_turns import BEGIN_SECONDS, RETRY_SECONDS, RedisTurns
from bridge.shared.waiting_cookies import WaitingCookies
from bridge.state.errors import StateError
from bridge.state.state import State
from bridge.tasks import TaskOwner
from upstream.accounts import Account
from upstream.arena import Arena, Session
from upstream.protocol import cookies
from upstream.site_clock import SiteClock

HOUR = 3600.0


@dataclass
class Keeper:
    """A process that keeps the accounts' logins alive; `turns_clock` is the monotonic clock of its turns."""

    process: SharedProcess
    state: State
    renewals: Renewals
    tasks: TaskOwner
    turns_clock: Clock

    def cookie(self, session: Session) -> str:
        account = self.state.pool.get(session.user_id)
        assert account is not None
        return account.session.value

    async def settled(self) -> None:
        while running := tuple(self.tasks):
            await asyncio.wait(running)
        await self.state.flush()

    async def look(self) -> None:
        """Make the calls that are due, and those that become due by them."""
        for _ in range(2):
            self.renewals.start_due()
            await self.settled()


class Keepers:
    """Starts processes that use the arena's sessions."""

    def __init__(self, arena: Arena, redis: Redis, clock: Clock, stack: AsyncExitStack) -> None:
        self.arena = arena
        self.redis = redis
        self.clock = clock
        self._stack = stack

    async def start(self, beside: Keeper | None = None) -> Keeper:
        """Start a process; with `beside`, it has the same state folder as that one."""
        process = await self.redis.process(copies=None if beside is None else beside.process.copies.path)
        state = State(process.documents, self.clock, unsaved_cookies=WaitingCookies(process.copies), shared=True)
        await state.load()
        process.link.on_reconnect(state.flush)
        config = config_for(self.arena, process.copies.path, {"upstream": {"connect_timeout": 5.0}})
        client = await self._stack.enter_async_context(connected(self.arena.origin))
        client.clock = SiteClock(self.clock, self.clock)
        tasks = await self._stack.enter_async_context(TaskOwner())
        owner = await self._stack.enter_async_context(TaskOwner())
        owner.spawn(state.watch(lambda: None), name="watch")
        owner.spawn(state.save(), name="save")
        turns_clock = Clock()
        turns = RedisTurns(process.link, state, process.copies, turns_clock)
        renewals = Renewals(client, state.pool, lambda: config, state.flush, tasks, turns)
        self._stack.push_async_callback(renewals.finish)
        return Keeper(process, state, renewals, tasks, turns_clock)

    @property
    def asked(self) -> int:
        """The number of times the site was asked who is logged in."""
        return sum(call.kind == "me" for call in self.arena.calls)


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    async with shared_redis(tmp_path) as redis:
        yield redis


@pytest.fixture
async def keepers(arena: Arena, redis: Redis) -> AsyncIterator[Keepers]:
    clock = arena.clock = Clock()
    clock.now = 1_800_000_000.0
    async with AsyncExitStack() as stack:
        yield Keepers(arena, redis, clock, stack)


async def sign_in(keepers: Keepers, expires_in: float = HOUR, beside: Keeper | None = None) -> Session:
    """Sign in, and let another process write the account to Redis; with `beside`, one of the same state folder."""
    session = keepers.arena.sign_in(expires_in=expires_in)
    process = await keepers.redis.process(copies=None if beside is None else beside.process.copies.path)
    state = State(process.documents, keepers.clock, shared=True)
    await state.load()
    await state.update_accounts(lambda _: (Account("ada", cookies.decode(session.cookie_value)),))
    return session


def kept(session: Session) -> bool:
    return session.alive and not session.revoked and session.spent_twice == 0


async def all_know(session: Session, *keepers: Keeper) -> None:
    await until(lambda: {keeper.cookie(session) for keeper in keepers} == {session.cookie_value}, within=10)


async def test_only_one_of_several_processes_renews_a_due_login(keepers: Keepers) -> None:
    session = await sign_in(keepers, expires_in=-10.0)
    several = [await keepers.start() for _ in range(3)]
    for keeper in several:
        keeper.renewals.start_due()
    await asyncio.gather(*[keeper.settled() for keeper in several])
    assert session.refreshes == 1
    await all_know(session, *several)
    await asyncio.gather(*[keeper.look() for keeper in several])  # a new cookie is checked once
    assert keepers.asked <= 2
    assert kept(session)


async def test_two_processes_keep_a_login_fresh_for_six_hours_with_few_renewals(keepers: Keepers) -> None:
    session = await sign_in(keepers)
    one, two = await keepers.start(), await keepers.start()
    ended = 0
    for _ in range(6 * 6):
        keepers.clock.now += 600.0
        await asyncio.gather(one.look(), two.look())
        ended += session.expires_at <= keepers.clock.now
    assert kept(session)
    assert 5 <= session.refreshes <= 9
    await all_know(session, one, two)
    assert keepers.asked <= 6 * 6 + 6  # the processes share the outcome of each call


async def test_an_account_is_alive_if_another_process_replaced_its_refused_cookie(keepers: Keepers) -> None:
    session = await sign_in(keepers)
    one, two = await keepers.start(), await keepers.start()
    await one.look()
    stale = next(iter(two.state.pool))
    keepers.clock.now += HOUR
    await one.look()
    assert await two.renewals.is_alive(stale)
    assert two.cookie(session) == session.cookie_value
    assert kept(session)


async def test_a_refused_cookie_is_not_sent_again_while_another_process_saves_the_new_one(
    keepers: Keepers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the site would take the cookie for a stolen one, and the account would count as expired."""
    monkeypatch.setattr(renewal_turns, "SAVING_SECONDS", 3.0)
    session = await sign_in(keepers)
    one, two = await keepers.start(), await keepers.start()
    await asyncio.gather(one.look(), two.look())
    asked, stale = keepers.asked, next(iter(two.state.pool))
    fresh = cookies.decode(keepers.arena.sign_in(expires_in=2 * HOUR).cookie_value)
    read, was_read = two.state.refresh_accounts, asyncio.Event()

    async def noted() -> None:
        await read()
        was_read.set()

    two.state.refresh_accounts = noted  # type: ignore[method-assign]  # reports when it has read
    async with TaskOwner() as tasks:
        asking = tasks.spawn(two.renewals.is_alive(stale), name="ask")
        await was_read.wait()
        one.state.pool.credentials(stale).rotate(fresh.value)
        assert await asking
    assert two.state.pool.get(session.user_id) == replace(stale, session=fresh)
    assert keepers.asked == asked


async def test_requests_of_all_processes_wait_for_one_shared_renewal(keepers: Keepers) -> None:
    session = await sign_in(keepers, expires_in=-10.0)
    several = [await keepers.start() for _ in range(3)]
    accounts = await asyncio.gather(
        *[keeper.renewals.fresh(next(iter(keeper.state.pool))) for keeper in several for _ in range(3)]
    )
    assert {account.session.value for account in accounts} == {session.cookie_value}
    assert session.refreshes == 1
    assert kept(session)


async def test_a_renewal_lock_of_a_dead_process_expires(keepers: Keepers) -> None:
    session = await sign_in(keepers, expires_in=-10.0)
    one = await keepers.start()
    await keepers.redis.server.call("SET", f"test:renewal:{session.user_id}", "another's", "PX", 300)
    await one.look()
    assert session.refreshes == 1


async def test_a_renewal_lock_lost_by_redis_is_taken_again_by_its_holder(keepers: Keepers) -> None:
    """Otherwise another process would use the refresh token again, and the site would end the login."""
    session = await sign_in(keepers, expires_in=-10.0)
    one, two = await keepers.start(), await keepers.start()
    release = asyncio.Event()
    keepers.arena.faults.arm("no_headers", on="me", release=release)
    one.renewals.start_due()
    await until(lambda: keepers.asked == 1)
    await keepers.redis.lose(one.process, two.process)
    async with TaskOwner() as tasks:
        looking = tasks.spawn(two.look(), name="look")
        lock = f"test:renewal:{session.user_id}"
        async with asyncio.timeout(10):
            while not await keepers.redis.server.call("EXISTS", lock):
                pass
        assert keepers.asked == 1
        release.set()
        await asyncio.wait((looking,))
    await one.settled()
    await all_know(session, one, two)
    assert kept(session)


async def test_no_login_is_renewed_until_a_restarted_redis_has_settled(keepers: Keepers) -> None:
    session = await sign_in(keepers, expires_in=-10.0)
    one = await keepers.start()
    await keepers.redis.lose(one.process)
    two = await keepers.start()
    async with TaskOwner() as tasks:
        looking = tasks.spawn(two.look(), name="look")
        while two.process.link.seconds_until_settled:
            assert keepers.asked == 0
            await asyncio.sleep(0)
        await asyncio.wait((looking,))
    assert session.refreshes == 1


@pytest.mark.parametrize("at", ["waiting", "reading", "refused"])
async def test_an_abandoned_renewal_releases_its_lock(at: str, keepers: Keepers) -> None:
    """Otherwise the requests of all processes would wait for a renewal until the lock expires, for minutes."""
    session = await sign_in(keepers, expires_in=-10.0)
    one = await keepers.start()
    lock = f"test:renewal:{session.user_id}"
    account, reading = next(iter(one.state.pool)), asyncio.Event()

    async def read() -> None:
        reading.set()
        if at == "refused":
            raise StateError("no document of the bridge")
        await asyncio.Event().wait()

    one.state.refresh_accounts = read  # type: ignore[method-assign]
    turns = RedisTurns(one.process.link, one.state, one.process.copies, one.turns_clock)

    async def take() -> None:
        async with turns.turn(account, "", doubted=False, urgent=True) as turn:
            assert not turn.may_call

    async with TaskOwner() as tasks:
        taking = tasks.spawn(take(), name="take a turn")
        await asyncio.sleep(0)  # the task requests the lock
        if at != "waiting":
            await reading.wait()
        if at != "refused":
            taking.cancel()
        await asyncio.wait((taking,))
    await one.process.link.call(("PING",))
    assert await keepers.redis.server.call("EXISTS", lock) == 0


async def test_a_process_suspended_while_holding_the_lock_does_not_renew(keepers: Keepers) -> None:
    session = await sign_in(keepers, expires_in=-10.0)
    one = await keepers.start()
    read = one.state.refresh_accounts

    async def stopped() -> None:
        await read()
        one.turns_clock.now += BEGIN_SECONDS + 1

    one.state.refresh_accounts = stopped  # type: ignore[method-assign]
    await one.look()
    assert keepers.asked == 0
    one.state.refresh_accounts = read  # type: ignore[method-assign]
    keepers.clock.now += HOUR
    await one.look()
    assert session.refreshes >= 1
    assert kept(session)


@asynccontextmanager
async def outage(keepers: Keepers, *those: Keeper) -> AsyncIterator[None]:
    """Freeze Redis during the block, then wait until these processes have reconnected and saved."""
    await until(lambda: all(len(keeper.process.link.alive) > len(those) for keeper in those))
    keepers.redis.server.freeze()
    await until(lambda: not any(keeper.process.link.usable for keeper in those))
    yield
    keepers.redis.server.thaw()
    await until(lambda: all(keeper.process.link.usable for keeper in those))
    await asyncio.gather(*[keeper.state.flush() for keeper in those])


async def pair(keepers: Keepers) -> tuple[Keeper, Keeper, Session]:
    """Start two processes of one folder that know of no other, and return a session whose token has expired."""
    one = await keepers.start()
    two = await keepers.start(beside=one)
    session = await sign_in(keepers, beside=one)
    await until(lambda: all(len(keeper.state.pool) == 1 for keeper in (one, two)))
    await asyncio.gather(one.look(), two.look())
    await until(lambda: all(keeper.process.link.all_use_one_folder for keeper in (one, two)))
    keepers.clock.now += HOUR + 10.0
    return one, two, session


async def test_during_an_outage_processes_sharing_a_folder_renew_under_its_lock(keepers: Keepers) -> None:
    one, two, session = await pair(keepers)
    async with outage(keepers, one, two):
        for renewals in (1, 2):
            accounts = await asyncio.gather(
                *[keeper.renewals.fresh(next(iter(keeper.state.pool))) for keeper in (one, two, one, two)]
            )
            assert {account.session.value for account in accounts} == {session.cookie_value}
            assert session.refreshes == renewals
            keepers.clock.now += HOUR + 10.0
    await all_know(session, one, two, await keepers.start())
    assert kept(session)


async def begin(keepers: Keepers, keeper: Keeper) -> asyncio.Event:
    """Let this process call the site, which answers once the returned event is set."""
    asked, release = keepers.asked, asyncio.Event()
    keepers.arena.faults.arm("no_headers", on="me", release=release)
    keeper.renewals.start_due()
    await until(lambda: keepers.asked == asked + 1)
    return release


async def release_after_no_call(keepers: Keepers, release: asyncio.Event, asked: int, *those: Keeper) -> None:
    """Check that the site gets no call beyond `asked` while one is held; then let that one end."""
    await asyncio.sleep(5 * RETRY_SECONDS)  # time enough for a call
    assert keepers.asked == asked
    release.set()
    await asyncio.gather(*[each.settled() for each in those])


async def test_no_second_process_of_a_folder_renews_if_an_outage_begins_during_a_renewal(keepers: Keepers) -> None:
    """The other process was waiting for the lock in Redis, which no longer protects the call."""
    one, two, session = await pair(keepers)
    release = await begin(keepers, one)
    asked = keepers.asked
    two.renewals.start_due()
    async with outage(keepers, one, two):
        await release_after_no_call(keepers, release, asked, one, two)
    await all_know(session, one, two)
    assert session.refreshes == 1
    assert kept(session)


async def test_no_second_process_renews_after_an_outage_while_an_earlier_renewal_runs(keepers: Keepers) -> None:
    one, two, session = await pair(keepers)
    async with outage(keepers, one, two):
        release = await begin(keepers, one)
    asked = keepers.asked
    two.renewals.start_due()
    await release_after_no_call(keepers, release, asked, one, two)
    await all_know(session, one, two)
    assert session.refreshes == 1
    assert kept(session)


async def test_a_folder_lock_taken_after_a_cancellation_is_released(
    keepers: Keepers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise no other process of the folder could renew the login until this one ends."""
    session = await sign_in(keepers, expires_in=-10.0)
    one = await keepers.start()
    folder, begun, go_on = one.process.copies, threading.Event(), threading.Event()
    try_lock = folder.try_lock

    def slow(name: str) -> int | None:
        begun.set()
        go_on.wait()
        return try_lock(name)

    with monkeypatch.context() as patched:
        patched.setattr(folder, "try_lock", slow)
        one.renewals.start_due()
        await until(begun.is_set)
        for task in one.tasks:
            task.cancel()
        await one.settled()
        go_on.set()
    async with asyncio.timeout(20):
        await (await keepers.start(beside=one)).look()
    assert session.refreshes == 1


async def test_during_an_outage_no_login_is_renewed_that_another_machine_may_renew(keepers: Keepers) -> None:
    session = await sign_in(keepers)
    one, two = await keepers.start(), await keepers.start()
    await asyncio.gather(one.look(), two.look())
    asked = keepers.asked
    async with outage(keepers, one, two):
        keepers.clock.now += HOUR + 10.0
        await asyncio.gather(one.look(), two.look())
        assert keepers.asked == asked
    keepers.clock.now += 60.0
    await asyncio.gather(one.look(), two.look())
    assert session.refreshes == 1
    await all_know(session, one, two)
    assert kept(session)
