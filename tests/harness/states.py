"""Accounts and states for tests, the contents of their files, and the daemon's tasks that watch and save them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bridge.state.documents import StateFolder
from bridge.state.state import State, accounts_document
from bridge.tasks import TaskOwner
from upstream.accounts import Account
from upstream.arena import Arena
from upstream.protocol import cookies

NOW = 1_000_000.0


def new_account(name: str = "ada") -> Account:
    """An account with a new cookie; the same name gives the same user."""
    return Account(name, cookies.decode(Arena().sign_in(f"{name}@example.org").cookie_value))


async def on_disk(folder: StateFolder) -> dict[str, Account]:
    return {account.label: account for account in await accounts_document(folder).load()}


def in_memory(state: State) -> dict[str, Account]:
    return {account.label: account for account in state.pool}


async def command(folder: StateFolder, change: Callable[[tuple[Account, ...]], tuple[Account, ...]]) -> None:
    """Change accounts on disk, like a command in another process."""
    await accounts_document(folder).update(change)


async def put(folder: StateFolder, *accounts: Account) -> None:
    """Add accounts, replacing those of the same users."""
    users = {account.user_id for account in accounts}
    await command(folder, lambda kept: (*(a for a in kept if a.user_id not in users), *accounts))


async def loaded(folder: StateFolder) -> State:
    state = State(folder, lambda: NOW)
    await state.load()
    return state


@asynccontextmanager
async def running(state: State) -> AsyncIterator[asyncio.Event]:
    """Run the state's tasks that watch and save, as the daemon does; the event is set after external changes."""
    told = asyncio.Event()
    async with TaskOwner() as tasks:
        tasks.spawn(state.save(), name="save")
        tasks.spawn(state.watch(told.set), name="watch")
        yield told


RENEWED = new_account()
