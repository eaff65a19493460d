"""`accounts`: add, list and remove LMArena accounts, offline, whether or not the daemon is running."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import termios
import time
from functools import partial
from typing import Final

import click

from bridge.accounts.enrolment import (
    HOW_TO_COPY,
    ONE_HOLDER,
    Accounts,
    by_user,
    check_label,
    enrolled,
    missing,
    owner_of,
    without,
)
from bridge.accounts.standing import Condition, holds, judge, login
from bridge.config.schema import Config
from bridge.state.documents import Document, StateFolder
from bridge.state.state import accounts_document
from handlers.commands.config_option import config_option, read_config
from handlers.commands.standard_input import is_terminal, read_all
from handlers.commands.stored import update
from handlers.commands.terminal import moment, print_table
from upstream.accounts import Account
from upstream.protocol.cookies import SESSION_COOKIE, CookieError
from upstream.protocol.pastes import Pasted, read_pasted
from upstream.protocol.printable import printable

_CTRL_D: Final = b"\x04"
#: Larger than any export of cookies, even a HAR file; a paste into the terminal is smaller.
_MAX_BYTES: Final = 32 * 1024 * 1024
_MAX_TYPED_BYTES: Final = 4 * 1024 * 1024


@click.group()
@config_option
def accounts() -> None:
    """LMArena accounts, with which the bridge logs in at the site.

    A running daemon notices a change within two seconds.
    """


@accounts.command("add")
@config_option
@click.option("--label", help="The account's name in the bridge; by default its e-mail address.")
def add_account(label: str | None) -> None:
    """Add an account, or renew the one of the same user, from a pasted cookie or request.

    Log in to the site (arena.ai, formerly lmarena.ai) in a private window and send one message there: only then is the
    cookie complete. Copy it, then close that window without logging out. Never use the same login in a browser and in
    the bridge at the same time: it renews itself with a refresh token, and one that is used twice ends the login.

    Standard input takes any form of copy: a request to arena.ai from the developer tools, "Copy as cURL" or "Copy
    as PowerShell" (which bring cf_clearance and the user agent along) or "Copy as Node.js fetch"; a Cookie header; rows
    of the cookie table; the cookie's value or its pieces; a JSON export or cookies.txt; the local storage's JSON.
    """
    try:
        if label is not None:
            check_label(label)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    config = read_config()
    try:
        pasted = read_pasted(_read_paste())
    except CookieError as error:
        raise click.ClickException(f"this cannot be used: {error}") from error
    _show_clearance(config, pasted)
    session = pasted.session
    if session is None:
        raise click.ClickException(f"no account was added: {SESSION_COOKIE} is missing")
    before = asyncio.run(_document(config).load())
    account = by_user(update(config, accounts_document, lambda found: enrolled(found, label, session)), session.user_id)
    now = time.time()
    verb = "Renewed" if any(each.user_id == session.user_id for each in before) else "Added"
    name = f"{account.label!r}: {printable(owner_of(account))}"
    click.echo(f"{verb} account {name}; {login(session, now, partial(moment, now=now))}.")
    for lack in missing(pasted, session, now, cleared=bool(config.upstream.cf_clearance.value)):
        click.echo(f"Missing: {lack}", err=True)


@accounts.command("list")
@config_option
def list_accounts() -> None:
    """List all accounts and their status."""
    found = asyncio.run(_document(read_config()).load())
    if not found:
        click.echo("No account yet: lmarena-bridge accounts add", err=True)
        return
    now = time.time()
    when = partial(moment, now=now)
    print_table(
        ("label", "user", "login", "state"),
        ((each.label, owner_of(each), holds(each.session, now, when), _state(each, now)) for each in found),
    )
    if not all(each.able for each in found):
        click.echo("lmarena-bridge check says what to do.", err=True)


@accounts.command("remove")
@config_option
@click.argument("label")
def remove_account(label: str) -> None:
    """Remove the account labelled LABEL, or with that user id."""

    update(read_config(), accounts_document, partial(without, label=label))
    click.echo(f"The account {label!r} was removed.")


def _document(config: Config) -> Document[Accounts]:
    return accounts_document(StateFolder(config.server.state_dir))


def _state(account: Account, now: float) -> str:
    standing = judge(account, now, now, when=partial(moment, now=now))
    shown = [
        finding.what for finding in standing.findings if finding.condition not in (Condition.ENDING, Condition.ENDED)
    ]
    return "; ".join(shown) or Condition.USABLE.value


def _show_clearance(config: Config, pasted: Pasted) -> None:
    """Print the lines for bridge.toml that it lacks; only on a terminal, since the clearance is a secret."""
    upstream = config.upstream
    configured = {"cf_clearance": upstream.cf_clearance.value, "user_agent": upstream.user_agent}
    found = {"cf_clearance": pasted.cf_clearance, "user_agent": pasted.user_agent}
    lines = [f"{key} = {json.dumps(value)}" for key, value in found.items() if value and value != configured[key]]
    if not lines or not pasted.cf_clearance:
        return
    if not sys.stdout.isatty():
        click.echo("The paste has cf_clearance: run this in a terminal to see the lines for bridge.toml.", err=True)
        return
    click.echo("For bridge.toml, under [upstream] (no file was changed):\n", err=True)
    click.echo("\n".join(lines) + "\n")


def _read_paste() -> str:
    if is_terminal():
        for number, step in enumerate(HOW_TO_COPY, 1):
            click.echo(f"{number}. {step}", err=True)
        click.echo(f"{ONE_HOLDER}\n\nPaste it here (it is not shown), then press Enter twice, or Ctrl-D.", err=True)
        data = read_terminal(sys.stdin.fileno())
    else:
        data = read_all(_MAX_BYTES)
    return data.decode(errors="replace")


def read_terminal(descriptor: int) -> bytes:
    """Read input without echo, up to an empty line or Ctrl-D.

    The terminal is not in line mode, which cuts each line at 4095 bytes: a cookie is longer.
    """
    before = termios.tcgetattr(descriptor)
    quiet = termios.tcgetattr(descriptor)
    quiet[3] &= ~(termios.ICANON | termios.ECHO)
    data = b""
    try:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, quiet)
        while _CTRL_D not in data and b"\n\n" not in data.lstrip() and len(data) <= _MAX_TYPED_BYTES:
            read = os.read(descriptor, 65536)
            if not read:
                break
            data += read
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)  # unread input must not reach the shell
    return data.partition(_CTRL_D)[0]
