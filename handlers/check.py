"""`check`: say line by line what works, and what to do about what does not."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

import click

from bridge.config import Config
from bridge.config_file import ConfigError
from bridge.errors import from_upstream
from bridge.state import State, models_document
from bridge.store import StateError, StateFolder
from handlers.config_option import config_option, read_config
from handlers.printable import printable
from handlers.site import client_settings
from handlers.terminal import moment
from upstream import client, flight
from upstream.accounts import EXPIRY_WARNING_SECONDS, Account, AccountPool
from upstream.alarms import Alarms
from upstream.client import PAGE, ArenaClient, Credentials
from upstream.errors import RateLimited, SessionExpired, TimedOut, Unreachable, UpstreamError

#: The server actions that the upload of a picture needs (PROTOCOL, image upload).
UPLOAD_ACTIONS: Final = frozenset({"generateUploadUrl", "getSignedUrl"})


class Verdict(Enum):
    """How a part is; BAD means that no chat could be served. The value is the mark and its colour."""

    GOOD = ("✓", "green")
    WORTH_A_LOOK = ("!", "yellow")
    BAD = ("✗", "red")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: which part, how it is, and what to do if it is not well."""

    verdict: Verdict
    part: str
    text: str


@click.command()
@config_option
@click.pass_context
def check(context: click.Context) -> None:
    """Say line by line what works.

    ✓ is well, ! is worth a look, ✗ keeps the bridge from serving a chat. Exits 1 if there is any ✗.
    """
    try:
        config = read_config()
    except ConfigError as error:
        found = [Finding(Verdict.BAD, "configuration", str(problem)) for problem in error.problems]
        for finding in found:
            _show(finding)
    else:
        found = asyncio.run(_show_all(config))
    serving = all(finding.verdict is not Verdict.BAD for finding in found)
    click.echo("The bridge can serve chats." if serving else "The bridge could not serve a chat.")
    context.exit(0 if serving else 1)


async def _show_all(config: Config) -> list[Finding]:
    found: list[Finding] = []
    async for finding in examine(config):
        _show(finding)
        found.append(finding)
    return found


def _show(finding: Finding) -> None:
    mark, colour = finding.verdict.value
    click.echo(f"{click.style(mark, fg=colour)} {printable(f'{finding.part}: {finding.text}')}")


async def examine(config: Config) -> AsyncIterator[Finding]:
    """Look at every part as the daemon would. What the site says of an account is kept, as the daemon keeps it."""
    yield _configuration(config)
    if config.upstream.cf_clearance.value and not config.upstream.user_agent:
        advice = "set upstream.user_agent to the User-Agent of the browser that cf_clearance is from"
        yield Finding(Verdict.WORTH_A_LOOK, "configuration", f"cf_clearance holds for its own browser only: {advice}")
    folder = StateFolder(config.server.state_dir)
    yield _state_folder(folder.path)
    state = State(folder, time.time)
    try:
        await state.load()
    except StateError as error:
        yield Finding(Verdict.BAD, "state folder", str(error))
        return
    yield _keys(len(state.keys))
    async with client.connect(client_settings(config, state.admin.clearance), Alarms()) as arena:
        visit = await _visit(arena, state.pool, config)
        await state.flush()
        yield _site(visit, arena, config)
        for finding in _accounts(state.pool, visit, time.time()):
            yield finding
        yield await _models(visit, folder)
        if visit.page is not None:
            yield await _uploads(visit.page, arena, config)


def _configuration(config: Config) -> Finding:
    where = str(config.source) if config.source else "no bridge.toml, so the defaults hold"
    return Finding(Verdict.GOOD, "configuration", where)


def _state_folder(path: Path) -> Finding:
    if not path.exists():
        return Finding(Verdict.GOOD, "state folder", f"{path}, which is made at the first start")
    if not path.is_dir():
        return Finding(Verdict.BAD, "state folder", f"{path} is no folder: set another server.state_dir")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return Finding(Verdict.BAD, "state folder", f"{path} is not this user's to read and write")
    return Finding(Verdict.GOOD, "state folder", str(path))


def _keys(count: int) -> Finding:
    if not count:
        return Finding(
            Verdict.WORTH_A_LOOK, "API keys", "none, so nobody may call: lmarena-bridge keys add --name NAME"
        )
    return Finding(Verdict.GOOD, "API keys", str(count))


@dataclass(slots=True)
class _Visit:
    """What came of reading the page: the page or the site's failure, and whom it refused (by user id)."""

    page: str | None = None
    failure: UpstreamError | None = None
    accepted: set[str] = field(default_factory=set)
    refused: dict[str, UpstreamError] = field(default_factory=dict)


async def _visit(arena: ArenaClient, pool: AccountPool, config: Config) -> _Visit:
    """Read the page with each account, or as a visitor; what is wrong with the site itself ends it at once."""
    visit = _Visit()
    timeout = config.upstream.connect_timeout
    try:
        for account in pool:
            try:
                page = await arena.page(PAGE, _shown(account, pool), timeout=timeout)
            except SessionExpired as error:
                pool.expire(account)
                visit.refused[account.user_id] = error
            except RateLimited as error:
                visit.refused[account.user_id] = error
            else:
                pool.revive(account)
                visit.accepted.add(account.user_id)
                visit.page = page
        if visit.page is None:
            visit.page = await arena.page(PAGE, None, timeout=timeout)
    except UpstreamError as error:
        visit.failure = error
    return visit


def _shown(account: Account, pool: AccountPool) -> Credentials:
    return Credentials(account.session.value, pool.rotation(account))


def _site(visit: _Visit, arena: ArenaClient, config: Config) -> Finding:
    if visit.failure is not None:
        return Finding(Verdict.BAD, "LMArena", f"{arena.origin}: {_advice(visit.failure)}")
    moved = f"; {config.upstream.base_url} leads there" if arena.origin != config.upstream.base_url else ""
    return Finding(Verdict.GOOD, "LMArena", f"{arena.origin} answers{moved}")


def _advice(failure: UpstreamError) -> str:
    """What went wrong, and what the operator does now."""
    if isinstance(failure, Unreachable | TimedOut):
        return f"{failure.message} Check the network, and upstream.base_url."
    return from_upstream(failure).message


def _accounts(pool: AccountPool, visit: _Visit, now: float) -> Iterator[Finding]:
    if not len(pool):
        yield Finding(Verdict.BAD, "accounts", "none: lmarena-bridge accounts add")
    # One account that is out of service is no trouble while another serves.
    unusable = Verdict.WORTH_A_LOOK if pool.usable("chat") else Verdict.BAD
    for account in pool:
        verdict, text = _account(account, visit, now)
        if verdict is Verdict.BAD:
            verdict = unusable
        whose = f"{account.session.email}, " if account.session.email not in (None, account.label) else ""
        yield Finding(verdict, f"account {account.label}", whose + text)


def _account(account: Account, visit: _Visit, now: float) -> tuple[Verdict, str]:
    left = account.session.expires_at - now
    cookie = f"its cookie {'expires' if left > 0 else 'expired'} {moment(account.session.expires_at, now)}"
    renew = f"renew it: lmarena-bridge accounts add --label {shlex.quote(account.label)}"
    refused = visit.refused.get(account.user_id)
    if account.expired:
        return Verdict.BAD, f"{cookie}; LMArena does not accept it: {renew}"
    if rest := account.rests("chat", now):
        return Verdict.BAD, f"{cookie}; it rests for {rest:.0f} s after a 429"
    if refused is not None:
        return Verdict.WORTH_A_LOOK, f"{cookie}; {from_upstream(refused).message}"
    if left <= 0 and account.user_id in visit.accepted:
        return Verdict.WORTH_A_LOOK, f"{cookie}, though LMArena still takes it: {renew}"
    if left < EXPIRY_WARNING_SECONDS:
        return Verdict.WORTH_A_LOOK, f"{cookie}: {renew}"
    return Verdict.GOOD, cookie


async def _models(visit: _Visit, folder: StateFolder) -> Finding:
    why = "the page could not be read"
    if visit.page is not None:
        try:
            found = flight.read_models(visit.page)
        except UpstreamError as error:
            why = error.message
        else:
            why = "the page holds no list of models"
            if found is not None:
                stealth = sum(model.stealth for model in found.models)
                skipped = f", {found.skipped} more cannot be read" if found.skipped else ""
                if found.models:
                    return Finding(Verdict.GOOD, "models", f"{len(found.models)}, {stealth} of them stealth{skipped}")
                why = f"the page lists none{skipped}"
    stored = await models_document(folder).load()
    if stored:
        return Finding(Verdict.WORTH_A_LOOK, "models", f"{why}; {len(stored)} are known from before")
    return Finding(Verdict.BAD, "models", f"{why}, and none are known from before")


async def _uploads(page: str, arena: ArenaClient, config: Config) -> Finding:
    paths = flight.script_paths(page)
    missing = set(UPLOAD_ACTIONS)
    for path in paths:
        if not missing:
            break
        try:
            script = await arena.page(path, None, timeout=config.upstream.connect_timeout)
        except Unreachable:
            break
        except UpstreamError:
            continue
        missing -= flight.action_ids(script).keys()
    if missing:
        text = f"{', '.join(sorted(missing))} not found in {len(paths)} scripts: chats work, pictures cannot be sent"
        return Finding(Verdict.WORTH_A_LOOK, "upload action ids", text)
    return Finding(Verdict.GOOD, "upload action ids", "found")
