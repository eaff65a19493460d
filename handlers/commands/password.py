"""`password`: set the dashboard's password, while the daemon runs or not. It is never an argument: `ps` shows those."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import click

from bridge.access.passwords import MAX_CHARS, MIN_CHARS, check, hash_password
from bridge.state.admin import admin_document
from handlers.commands.config_option import config_option, read_config
from handlers.commands.standard_input import is_terminal, read_line
from handlers.commands.stored import update

#: A password in UTF-8, and a line break; `check` refuses one that is only a little longer in its own words.
_MAX_LINE_BYTES: Final = 16 * MAX_CHARS


@click.command()
@config_option
def password() -> None:
    """Set the dashboard's password.

    It is asked for twice on a terminal; elsewhere it is the first line of standard input.
    """
    config = read_config()
    try:
        password_hash = hash_password(_ask() if is_terminal() else _read_line())
    except ValueError as error:
        raise click.ClickException(f"{error}. Nothing was changed.") from error
    update(config, admin_document, lambda admin: replace(admin, password_hash=password_hash))
    click.echo("The password is set: a running daemon notices within two seconds, and logins from before end.")


def _ask() -> str:
    """The password, typed twice, unseen. Raises ValueError where it is too weak, or not the same again."""
    typed: str = click.prompt(f"New password, at least {MIN_CHARS} characters", hide_input=True, err=True)
    check(typed)
    if click.prompt("The same again", hide_input=True, err=True) != typed:
        raise ValueError("the two are not the same")
    return typed


def _read_line() -> str:
    # Bytes that are no text become surrogates, which `check` refuses in its own words.
    return read_line(_MAX_LINE_BYTES).decode(errors="surrogateescape").rstrip("\r\n")
