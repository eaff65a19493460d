"""`keys`: make, list, change and revoke API keys, whether or not the daemon is running."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace as changed
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click

from bridge.access.expiry import FORMS, read_expiry
from bridge.access.keys import (
    MAX_BUDGET,
    MAX_CONCURRENCY,
    MAX_RPM,
    ApiKey,
    add,
    generate,
    get,
    remove,
    replace,
    rotated,
)
from bridge.config.schema import Config
from bridge.state.state import KEYS, MODELS
from handlers.commands.completion import complete_key
from handlers.commands.config_option import config_option, read_config
from handlers.commands.confirming import confirm, unknown, yes_option
from handlers.commands.output import json_option, print_json
from handlers.commands.stored import load, update
from handlers.commands.terminal import moment, print_table
from upstream.protocol.catalog import names_of


def _split(_: click.Context, __: click.Parameter, globs: str | None) -> tuple[str, ...] | None:
    return None if globs is None else tuple(filter(None, (glob.strip() for glob in globs.split(","))))


_models = click.option(
    "--models", metavar="GLOB,…", callback=_split, help="Allow only models whose names match one of these patterns."
)


def _expiry(_: click.Context, __: click.Parameter, written: str | None) -> float | None:
    """Read --expires. 0.0 stands for never, None for an option that was not given."""
    if written is None:
        return None
    try:
        return read_expiry(written, time.time()) or 0.0
    except ValueError as error:
        raise click.BadParameter(str(error).removeprefix("expires: ")) from error


_expires = click.option("--expires", metavar="WHEN", callback=_expiry, help=f"When the key expires: {FORMS}.")
_note = click.option("--note", help="A note for yourself, in one line.")


@click.group()
@config_option
def keys() -> None:
    """API keys, with which clients authenticate to the bridge.

    A running daemon notices a change within two seconds.
    """


@keys.command("add")
@config_option
@click.option("--name", required=True, help="The key's name: 1 to 64 letters, digits, spaces and . _ -")
@click.option("--rpm", type=click.IntRange(1, MAX_RPM), help="Requests per minute, instead of limits.rpm.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, MAX_CONCURRENCY),
    help="Concurrent requests, instead of limits.concurrency.",
)
@_models
@click.option("--stealth", is_flag=True, help="Also allow stealth models, if models.stealth is set.")
@click.option("--metrics", is_flag=True, help="Also allow /metrics.")
@_expires
@click.option("--day-requests", type=click.IntRange(1, MAX_BUDGET), help="Requests per day (UTC).")
@click.option("--day-tokens", type=click.IntRange(1, MAX_BUDGET), help="Tokens per day (UTC), prompts and answers.")
@_note
def add_key(
    name: str,
    rpm: int | None,
    concurrency: int | None,
    models: tuple[str, ...] | None,
    stealth: bool,
    metrics: bool,
    expires: float | None,
    day_requests: int | None,
    day_tokens: int | None,
    note: str | None,
) -> None:
    """Make a key and show it once.

    Only the key is printed on stdout, everything else on stderr.
    """
    config = read_config()
    try:
        secret, key = generate(
            name,
            now=time.time(),
            rpm=rpm,
            concurrency=concurrency,
            models=models or (),
            stealth=stealth,
            metrics=metrics,
            expires=expires or None,
            day_requests=day_requests,
            day_tokens=day_tokens,
            note=note or "",
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    _need_output()
    update(config, KEYS, partial(add, key=key))
    with _shown_or(lambda: update(config, KEYS, partial(remove, name_or_id=key.id)), "it was removed again"):
        with suppress(OSError):  # a script may have closed stderr
            _note_stealth(config, key)
            _note_unmatched(config, key)
            click.echo(
                f"This is the key {name!r}. Save it now: only its hash is stored, so it cannot be shown again.",
                err=True,
            )
        click.echo(secret)


def _need_output() -> None:
    if sys.stdout is None:  # the shell's >&-
        raise click.ClickException("standard output is closed, so the key could not be shown: nothing was changed")


@contextmanager
def _shown_or(undo: Callable[[], object], undone: str) -> Iterator[None]:
    """Undo a change if its secret cannot be shown, since it could never be shown later; `undone` says so."""
    try:
        yield
    except BaseException as error:  # reraised; Ctrl-C too must undo the change
        undo()
        if isinstance(error, OSError):
            raise click.ClickException(f"the key could not be shown ({error.strerror}), so {undone}") from error
        raise


@keys.command("list")
@config_option
@json_option
def list_keys(as_json: bool) -> None:
    """List all keys and their rights."""
    config = read_config()
    found = load(config, KEYS)
    if as_json:
        print_json([_row(key) for key in found])
        return
    if not found:
        click.echo("No key yet: lmarena-bridge keys add --name NAME", err=True)
        return
    print_table(
        ("name", "id", "key", "state", "rpm", "concurrency", "per day", "models", "stealth", "metrics", "made", "note"),
        (
            (
                key.name,
                key.id,
                f"sk-lmab-…{key.hint}",
                _state(key, time.time()),
                _limit(key.rpm, config.limits.rpm),
                _limit(key.concurrency, config.limits.concurrency),
                _budget(key),
                ", ".join(key.models) or "all",
                _yes(key.stealth),
                _yes(key.metrics),
                f"{datetime.fromtimestamp(key.created, UTC).astimezone():%Y-%m-%d}",
                key.note,
            )
            for key in found
        ),
    )


@keys.command("set")
@config_option
@click.argument("name", shell_complete=complete_key)
@click.option("--rpm", type=click.IntRange(0, MAX_RPM), help="Requests per minute; 0 restores limits.rpm.")
@click.option(
    "--concurrency",
    type=click.IntRange(0, MAX_CONCURRENCY),
    help="Concurrent requests; 0 restores limits.concurrency.",
)
@_models
@click.option("--stealth/--no-stealth", default=None, help="Whether stealth models are allowed.")
@click.option("--metrics/--no-metrics", default=None, help="Whether /metrics is allowed.")
@_expires
@click.option("--day-requests", type=click.IntRange(0, MAX_BUDGET), help="Requests per day (UTC); 0 for no limit.")
@click.option("--day-tokens", type=click.IntRange(0, MAX_BUDGET), help="Tokens per day (UTC); 0 for no limit.")
@click.option("--paused/--resumed", default=None, help="Whether the key is refused until it is resumed.")
@_note
def set_key(
    name: str,
    rpm: int | None,
    concurrency: int | None,
    models: tuple[str, ...] | None,
    stealth: bool | None,
    metrics: bool | None,
    expires: float | None,
    day_requests: int | None,
    day_tokens: int | None,
    paused: bool | None,
    note: str | None,
) -> None:
    """Change the rights of the key whose name or id is NAME.

    Rights without an option stay as they are; --models "" allows all models.
    """
    limits = {
        "rpm": rpm,
        "concurrency": concurrency,
        "expires": expires,
        "day_requests": day_requests,
        "day_tokens": day_tokens,
    }
    rights = {"models": models, "stealth": stealth, "metrics": metrics, "paused": paused, "note": note}
    changes: dict[str, Any] = {right: value or None for right, value in limits.items() if value is not None}
    changes |= {right: value for right, value in rights.items() if value is not None}
    if not changes:
        raise click.UsageError("there is nothing to change: see --help for the options")
    config = read_config()
    _find(config, name)
    kept = update(config, KEYS, lambda keys: replace(keys, changed(get(keys, name), **changes)))
    _note_stealth(config, get(kept, name))
    _note_unmatched(config, get(kept, name))
    click.echo(f"The key {name!r} was changed.")


@keys.command("rotate")
@config_option
@click.argument("name", shell_complete=complete_key)
def rotate_key(name: str) -> None:
    """Give the key whose name or id is NAME a new secret, and show it once. The former secret works for 24 more hours.

    Only the secret is printed on stdout, everything else on stderr.
    """
    config = read_config()
    before = _find(config, name)
    secret, key = rotated(before, time.time())
    _need_output()
    update(config, KEYS, partial(replace, key=key))
    with _shown_or(lambda: update(config, KEYS, partial(replace, key=before)), "it keeps its former secret"):
        with suppress(OSError):  # a script may have closed stderr
            click.echo(f"The key {name!r} has a new secret. The former one works for 24 more hours.", err=True)
        click.echo(secret)


@keys.command("revoke")
@config_option
@click.argument("name", shell_complete=complete_key)
@yes_option
def revoke_key(name: str, yes: bool) -> None:
    """Delete the key whose name or id is NAME for good."""
    config = read_config()
    _find(config, name)
    confirm(f"Revoke the key {name!r}? Programs that use it will be refused.", yes=yes)
    update(config, KEYS, partial(remove, name_or_id=name))
    click.echo(f"The key {name!r} was revoked.")


def _find(config: Config, name: str) -> ApiKey:
    """The key with this name or id. Raises ClickException, with similar names."""
    found = load(config, KEYS)
    try:
        return get(found, name)
    except ValueError as error:
        how_to_add = "lmarena-bridge keys add --name NAME"
        raise unknown(str(error), name, [key.name for key in found], how_to_add) from error


def _row(key: ApiKey) -> dict[str, object]:
    """A key for `--json`: without its hashes."""
    return {name: value for name, value in key.to_json().items() if name not in ("hash", "former_hash")}


def _state(key: ApiKey, now: float) -> str:
    if key.paused:
        return "paused"
    if key.has_expired(now):
        return "expired"
    return "good" if key.expires is None else f"ends {moment(key.expires, now)}"


def _budget(key: ApiKey) -> str:
    budgets = {"requests": key.day_requests, "tokens": key.day_tokens}
    return ", ".join(f"{most:,} {kind}" for kind, most in budgets.items() if most is not None) or "any"


def _limit(own: int | None, default: int) -> str:
    return f"{own:,}" if own is not None else f"{default:,} (default)"


def _yes(right: bool) -> str:
    return "yes" if right else "no"


def _note_stealth(config: Config, key: ApiKey) -> None:
    if key.stealth and not config.models.stealth:
        click.echo("Stealth models stay unavailable until bridge.toml has models.stealth = true.", err=True)


def _note_unmatched(config: Config, key: ApiKey) -> None:
    """Warn of patterns that match none of the models in the last list."""
    known = load(config, MODELS)
    for glob in key.models if known else ():
        if not any(changed(key, models=(glob,)).allows(names_of(model)) for model in known):
            click.echo(f"No model currently matches {glob!r}: lmarena-bridge models lists all models.", err=True)
