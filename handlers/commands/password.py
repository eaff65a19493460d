"""`password`: set the dashboard's password, whether or not the daemon runs. `ps` would show it as an argument."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import click

from bridge.access.passwords import MAX_CHARS, MIN_CHARS, check, hash_password
from bridge.state.admin import ADMIN
from handlers.commands.config_option import config_option, read_config
from handlers.commands.standard_input import is_terminal, read_line
from handlers.commands.stored import update

#: Enough for any valid password in UTF-8 and a line break; `check` refuses those that are slightly too long.
_MAX_LINE_BYTES: Final = 16 * MAX_CHARS


@click.command()
@config_option
def password() -> None:
    """Set the dashboard's password.

    On a terminal, you are asked for it twice; otherwise, it is read from the first line of standard input.
    """
    config = read_config()
    try:
        password_hash = hash_password(_ask() if is_terminal() else _read_line())
    except ValueError as error:
        raise click.ClickException(f"{error}. Nothing was changed.") from error
    update(config, ADMIN, lambda admin: replace(admin, password_hash=password_hash))
    click.echo("The password is set. A running daemon notices this within two seconds, and ends all existing logins.")


def _ask() -> str:
    """Read the password twice, without echo. Raises ValueError if it is too weak or the two differ."""
    typed: str = click.prompt(f"New password, at least {MIN_CHARS} characters", hide_input=True, err=True)
    check(typed)
    if click.prompt("Repeat the password", hide_input=True, err=True) != typed:
        raise ValueError("the two passwords differ")
    return typed


def _read_line() -> str:
    # Invalid UTF-8 becomes surrogates, which `check` refuses with a message.
    return read_line(_MAX_LINE_BYTES).decode(errors="surrogateescape").rstrip("\r\n")
