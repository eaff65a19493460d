"""`accounts test`: ask the site about one account now."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import NamedTuple

import click

from bridge.accounts.enrolment import find_account
from bridge.accounts.renewals import CALL_SECONDS, check_login
from bridge.accounts.status import Condition, judge
from bridge.config.schema import Config
from bridge.diagnosis import ADD_ACCOUNT, explain
from bridge.state.documents import StateFolder
from bridge.state.state import State
from handlers.commands.completion import complete_account
from handlers.commands.config_option import config_option, read_config
from handlers.commands.confirming import unknown
from handlers.commands.output import json_option, print_json
from handlers.commands.stored import source_of
from handlers.commands.terminal import moment
from handlers.request.clearance import client_settings
from upstream import client
from upstream.accounts import Account, AccountPool
from upstream.loop.timers import Timers
from upstream.protocol.errors import UpstreamError
from upstream.protocol.renewal import may_renew


class _Tested(NamedTuple):
    account: Account
    seconds: float
    error: UpstreamError | None


@click.command("test")
@config_option
@click.argument("label", shell_complete=complete_account)
@json_option
def test_account(label: str, as_json: bool) -> None:
    """Ask the site whether it accepts the login of the account whose label or user id is LABEL."""
    tested = asyncio.run(_test(read_config(), label))
    account, now = tested.account, time.time()
    status = judge(account, now, now, when=partial(moment, now=now))
    milliseconds = round(tested.seconds * 1000)
    if as_json:
        print_json(
            {
                "label": account.label,
                "ok": tested.error is None and not status.findings,
                "state": status.condition.value,
                "milliseconds": milliseconds,
                "error": None if tested.error is None else tested.error.message,
            }
        )
    elif tested.error is None:
        what = "; ".join(finding.clause for finding in status.findings) or "the site accepts its login"
        click.echo(f"{account.label!r}, after {milliseconds} ms: {what}.")
    if tested.error is not None:
        raise click.ClickException(f"{account.label!r}, after {milliseconds} ms: {explain(tested.error)}")
    if status.condition not in (Condition.USABLE, Condition.PAUSED, Condition.ENDING):
        raise click.exceptions.Exit(1)


async def _test(config: Config, label: str) -> _Tested:
    """Ask the site, and save the account's new status and any new tokens. Raises ClickException."""
    async with source_of(config) as source:
        folder = source if isinstance(source, StateFolder) else None
        state = State(source, time.time)
        await state.load()
        account = _named(state.pool, label)
        async with client.connect(client_settings(config, state.admin.clearance), Timers()) as arena:
            renews = may_renew(account.session, arena.clock())
            daemon_may_run = folder is None or folder.is_held()
            if renews and daemon_may_run:  # a refresh token that is used twice ends the login
                raise click.ClickException(
                    "this would renew the login, which only the running daemon may do: use its Test now on Accounts"
                )
            began, error = time.monotonic(), None
            try:
                timeout = CALL_SECONDS if renews else config.upstream.connect_timeout
                await check_login(arena, state.pool, account, timeout=timeout)
            except UpstreamError as failure:
                error = failure
            finally:
                await state.flush()
            return _Tested(state.pool.get(account.user_id) or account, time.monotonic() - began, error)


def _named(pool: AccountPool, label: str) -> Account:
    try:
        return find_account(tuple(pool), label)
    except ValueError as error:
        raise unknown(str(error), label, [each.label for each in pool], ADD_ACCOUNT) from error
