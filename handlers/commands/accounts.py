"""`accounts`: add, list and remove LMArena accounts, offline, whether or not the daemon is running."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
from dataclasses import replace
from functools import partial
from typing import Final

import click

from bridge.accounts.enrolment import (
    HOW_TO_COPY,
    ONE_HOLDER,
    check_label,
    enrolled,
    find_account,
    owner_of,
    renamed,
    set_paused,
    shortcomings,
    without,
)
from bridge.accounts.status import Condition, judge, login_validity, validity
from bridge.config.schema import Config
from bridge.diagnosis import ADD_ACCOUNT
from bridge.state.admin import ADMIN, Admin, Clearance
from bridge.state.state import ACCOUNTS
from handlers.commands.account_test import test_account
from handlers.commands.completion import complete_account
from handlers.commands.config_option import config_option, read_config
from handlers.commands.confirming import confirm, unknown, yes_option
from handlers.commands.output import json_option, print_json
from handlers.commands.standard_input import is_terminal, read_all
from handlers.commands.stored import load, update
from handlers.commands.terminal import moment, print_table
from upstream.accounts import Account
from upstream.protocol.cookies import CookieError, Session
from upstream.protocol.pastes import Pasted, read_pasted
from upstream.protocol.printable import printable

_CTRL_D: Final = b"\x04"
#: Larger than any export of cookies, even a HAR file. A paste into a terminal is smaller.
_MAX_BYTES: Final = 32 * 1024 * 1024
_MAX_TYPED_BYTES: Final = 4 * 1024 * 1024
#: The longest pause in seconds between two parts of one paste.
_PAUSE_IN_PASTE: Final = 0.2


@click.group()
@config_option
def accounts() -> None:
    """LMArena accounts, with which the bridge logs in to the site.

    A running daemon notices a change within two seconds.
    """


@accounts.command("add")
@config_option
@click.option("--label", help="The account's name in the bridge; by default its e-mail address.")
def add_account(label: str | None) -> None:
    """Add an account from a pasted cookie or request, or renew the account of the same user.

    Log in to the site (arena.ai, formerly lmarena.ai) in a private window and send one message there: only then is the
    cookie complete. Copy it, then close that window without logging out. Never use the same login in a browser and in
    the bridge at the same time: it renews itself with a refresh token, and using one twice ends the login.

    Standard input accepts any kind of copy: a request to arena.ai from the developer tools, by "Copy as cURL" or "Copy
    as PowerShell" (which include cf_clearance and the user agent) or "Copy as Node.js fetch"; a Cookie header; rows
    of the cookie table; the cookie's value or its pieces; a JSON export or cookies.txt; the JSON of the local storage.
    """
    try:
        if label is not None:
            check_label(label)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    config = read_config()
    text = _read_paste()
    try:
        pasted = read_pasted(text)
    except CookieError as error:
        raise click.ClickException(f"this paste cannot be used: {error}") from error
    _show_received(text, pasted)
    if (session := pasted.session) is not None:  # first, since nothing may be saved if it is refused
        _enrol(config, label, session)
    admin = _store_clearance(config, pasted)
    if session is not None:
        cleared = bool(config.upstream.cf_clearance.value or admin.clearance)
        for each in shortcomings(pasted, session, time.time(), cleared=cleared):
            click.echo(each, err=True)


def _show_received(text: str, pasted: Pasted) -> None:
    """Confirm that the paste, which was not shown, has arrived, and list what was found in it."""
    found = {"session": pasted.session, "cf_clearance": pasted.cf_clearance, "user agent": pasted.user_agent}
    marks = ", ".join(f"{name} ✓" for name, value in found.items() if value)
    click.echo(f"Received {len(text):,} characters: {marks}.", err=True)


def _enrol(config: Config, label: str | None, session: Session) -> None:
    before = load(config, ACCOUNTS)
    account = find_account(update(config, ACCOUNTS, lambda found: enrolled(found, label, session)), session.user_id)
    now = time.time()
    verb = "Renewed" if any(each.user_id == session.user_id for each in before) else "Added"
    name = f"{account.label!r}: {printable(owner_of(account))}"
    click.echo(f"{verb} account {name}; {login_validity(session, now, partial(moment, now=now))}.")


def _store_clearance(config: Config, pasted: Pasted) -> Admin:
    """Store the paste's cf_clearance and user agent, if it has any, as the dashboard's Accounts page does."""
    if not pasted.cf_clearance:
        return load(config, ADMIN)
    configured, agent = config.upstream.cf_clearance.value, pasted.user_agent or ""
    clearance = Clearance.replacing(configured, pasted.cf_clearance, agent)
    admin = update(config, ADMIN, lambda admin: replace(admin, clearance=clearance))
    click.echo("The browser's cf_clearance and user agent are used from now on.")
    return admin


@accounts.command("list")
@config_option
@json_option
def list_accounts(as_json: bool) -> None:
    """List all accounts and their status."""
    found = load(read_config(), ACCOUNTS)
    if as_json:
        print_json([_row(each, time.time()) for each in found])
        return
    if not found:
        click.echo("No account yet: lmarena-bridge accounts add", err=True)
        return
    now = time.time()
    when = partial(moment, now=now)
    print_table(
        ("label", "user", "login", "state"),
        ((each.label, owner_of(each), validity(each.session, now, when), _state(each, now)) for each in found),
    )
    if not all(replace(each, paused=False).can_chat for each in found):
        click.echo("Run lmarena-bridge check to see what to do.", err=True)


accounts.add_command(test_account)


@accounts.command("remove")
@config_option
@click.argument("label", shell_complete=complete_account)
@yes_option
def remove_account(label: str, yes: bool) -> None:
    """Remove the account whose label or user id is LABEL."""
    config = read_config()
    found = load(config, ACCOUNTS)
    try:
        without(found, label)
    except ValueError as error:
        raise unknown(str(error), label, [each.label for each in found], "lmarena-bridge accounts add") from error
    confirm(f"Remove the account {label!r}? The bridge will forget its login.", yes=yes)
    update(config, ACCOUNTS, partial(without, name=label))
    click.echo(f"The account {label!r} was removed.")


@accounts.command("rename")
@config_option
@click.argument("label", shell_complete=complete_account)
@click.argument("new_label")
def rename_account(label: str, new_label: str) -> None:
    """Give the account whose label or user id is LABEL the label NEW_LABEL.

    Answers that were counted earlier stay under the former label.
    """
    config = read_config()
    _known(config, label)
    update(config, ACCOUNTS, partial(renamed, name=label, label=new_label))
    click.echo(f"The account {label!r} is now labelled {new_label!r}.")


@accounts.command("pause")
@config_option
@click.argument("label", shell_complete=complete_account)
def pause_account(label: str) -> None:
    """Stop using the account labelled LABEL for new requests; its login is still renewed."""
    _pause(label, wanted=True)


@accounts.command("resume")
@config_option
@click.argument("label", shell_complete=complete_account)
def resume_account(label: str) -> None:
    """Use the paused account labelled LABEL for requests again."""
    _pause(label, wanted=False)


def _pause(label: str, *, wanted: bool) -> None:
    config = read_config()
    _known(config, label)
    update(config, ACCOUNTS, partial(set_paused, name=label, paused=wanted))
    click.echo(f"The account {label!r} {'is paused' if wanted else 'is used again'}.")


def _known(config: Config, label: str) -> Account:
    """The account with this label or user id. Raises ClickException, with similar labels."""
    found = load(config, ACCOUNTS)
    try:
        return find_account(found, label)
    except ValueError as error:
        raise unknown(str(error), label, [each.label for each in found], ADD_ACCOUNT) from error


def _state(account: Account, now: float) -> str:
    status = judge(account, now, now, when=partial(moment, now=now))
    shown = [
        finding.what for finding in status.findings if finding.condition not in (Condition.ENDING, Condition.ENDED)
    ]
    return "; ".join(shown) or Condition.USABLE.value


def _row(account: Account, now: float) -> dict[str, object]:
    """An account for `--json`, without secrets. Times are unix times."""
    status = judge(account, now, now, when=partial(moment, now=now))
    return {
        "label": account.label,
        "user": account.user_id,
        "email": account.session.email,
        "state": (status.findings[0].condition if status.findings else Condition.USABLE).value,
        "token_expires_at": account.session.expires_at,
        "renewable": account.session.renewable,
        "resting_until": dict(account.cooldowns),
        "paused": account.paused,
        "last_rest": None if account.last_cooldown is None else account.last_cooldown._asdict(),
    }


def _read_paste() -> str:
    if is_terminal():
        for number, step in enumerate(HOW_TO_COPY, 1):
            click.echo(f"{number}. {step}", err=True)
        what = "Paste the request or the cookie here (it is not shown), then press Enter twice, or Ctrl-D."
        click.echo(f"{ONE_HOLDER}\n\n{what}", err=True)
        data = read_terminal(sys.stdin.fileno())
    else:
        data = read_all(_MAX_BYTES)
    return data.decode(errors="replace")


def read_terminal(descriptor: int) -> bytes:
    """Read input without echo, up to Ctrl-D or an empty line; a paste may itself have empty lines.

    The terminal is not in line mode, which cuts each line at 4095 bytes, since a cookie is longer.
    """
    before = termios.tcgetattr(descriptor)
    quiet = termios.tcgetattr(descriptor)
    quiet[3] &= ~(termios.ICANON | termios.ECHO)
    data = b""
    try:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, quiet)
        while _CTRL_D not in data and len(data) <= _MAX_TYPED_BYTES:
            if data.strip() and data.endswith(b"\n\n") and not select.select([descriptor], [], [], _PAUSE_IN_PASTE)[0]:
                break
            read = os.read(descriptor, 65536)
            if not read:
                break
            data += read
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)  # unread input must not reach the shell
    return data.partition(_CTRL_D)[0]
