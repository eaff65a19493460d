"""`password`: set the dashboard's password, while the daemon runs or not. It is never an argument: `ps` shows those."""

from __future__ import annotations

import sys
from dataclasses import replace

import click

from bridge.admin import admin_document
from bridge.passwords import MIN_CHARS, check, hash_password
from handlers.config_option import config_option, read_config
from handlers.stored import update


@click.command()
@config_option
def password() -> None:
    """Set the dashboard's password.

    It is asked for twice on a terminal; elsewhere it is the first line of standard input.
    """
    config = read_config()
    try:
        password_hash = hash_password(_ask() if sys.stdin.isatty() else _read_line())
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
    return sys.stdin.buffer.readline().decode(errors="surrogateescape").rstrip("\r\n")
