"""`activity`: the requests that have ended, as on the dashboard's Activity page, whether or not the daemon runs."""

from __future__ import annotations

import time
from datetime import datetime

import click
import orjson

from bridge.activity.entry import Entry
from bridge.activity.explanations import advice_for, conversation_of
from bridge.activity.moments import read_moment
from bridge.activity.search import ERRORS, Query, Searches, words_of
from bridge.diagnosis import sentence
from bridge.state.documents import StateFolder
from handlers.commands.completion import complete_key, complete_model
from handlers.commands.config_option import config_option, read_config
from handlers.commands.output import json_option, print_json
from handlers.commands.terminal import print_table
from upstream.protocol.printable import printable, readable


def _since(_: click.Context, __: click.Parameter, written: str | None) -> float | None:
    if written is None:
        return None
    try:
        return read_moment(written, time.time())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@config_option
@click.argument("request_id", metavar="[ID]", required=False)
@click.option("--errors", is_flag=True, help="Only requests that ended in an error.")
@click.option(
    "--since", metavar="WHEN", callback=_since, help="Only requests since then: 15m, 2h or 7d ago, or a date and time."
)
@click.option("--key", default="", help="Only requests of the key with this name.", shell_complete=complete_key)
@click.option("--model", default="", help="Only requests for this model.", shell_complete=complete_model)
@click.option("--search", metavar="WORDS", default="", help="Only requests that match all words, as on the page.")
@click.option(
    "--number",
    "-n",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="Show at most this many requests.",
)
@json_option
def activity(
    request_id: str | None,
    errors: bool,
    since: float | None,
    key: str,
    model: str,
    search: str,
    number: int,
    as_json: bool,
) -> None:
    """Show the requests that have ended.

    The newest come first. With an ID, only that request is shown, with its attempts. A running daemon saves ended
    requests every two seconds; the dashboard also shows running ones.
    """
    searches = Searches(StateFolder(read_config().server.state_dir))
    try:
        if request_id is not None:
            _show_one(searches, request_id, as_json=as_json)
            return
        outcome = ERRORS if errors else ""
        query = Query(words_of(search), outcome=outcome, key=key, model=model, since=since)
        found = searches.find(query, size=number)
    except OSError as error:
        raise click.ClickException(f"The stored requests cannot be read: {error.strerror}") from error
    if as_json:
        print_json([orjson.loads(entry.to_line()) for entry in found.entries])
        return
    columns = ("time", "model", "key", "outcome", "first token", "took", "tokens", "account", "request id")
    print_table(columns, [_row(entry) for entry in found.entries])
    if found.total > len(found.entries):
        click.echo(f"{len(found.entries)} of {found.total} requests; use --number to show more.", err=True)


def _show_one(searches: Searches, request_id: str, *, as_json: bool) -> None:
    entry = searches.get(request_id)
    if entry is None:
        raise click.ClickException(f"There is no stored request {request_id}: it is too old, or the id is wrong.")
    if as_json:
        print_json(orjson.loads(entry.to_line()))
        return
    kind, why = conversation_of(entry)
    facts = {
        "time": _time(entry.at, "%a %d %b %Y, %H:%M:%S %Z"),
        "request id": entry.id,
        "outcome": _outcome(entry),
        "model": entry.asked + (f", answered by {entry.model}" if entry.model not in ("", entry.asked) else ""),
        "api": entry.api,
        "key": entry.key,
        "client": entry.client,
        "account": entry.account,
        "conversation": f"{kind}: {why}" if kind else "",
        "evaluation": entry.evaluation,
        "no effect": entry.ignored,
        "first token": "" if entry.first is None else _seconds(entry.first),
        "took": _seconds(entry.seconds),
        "tokens": f"{entry.read} read, {entry.written} written" if entry.read or entry.written else "",
        "message": entry.message,
    }
    for name, value in facts.items():
        if value:
            click.echo(f"{name:<13} {printable(value)}")
    if entry.word not in ("ok", "client_gone"):
        advice = advice_for(entry)
        click.echo(f"{'why':<13} {sentence(advice.why)}\n{'now':<13} {sentence(advice.now)}")
    if entry.attempts:
        click.echo()
        rows = [
            [each.account, _seconds(each.began), _seconds(each.seconds), str(each.status or "none"), each.word]
            for each in entry.attempts
        ]
        print_table(("attempt with", "began after", "took", "site's status", "word"), rows)
    if entry.prompt:
        click.echo(f"\n{readable(entry.prompt)}")


def _row(entry: Entry) -> list[str]:
    return [
        _time(entry.at, "%Y-%m-%d %H:%M:%S"),
        entry.asked or "-",
        entry.key or "-",
        _outcome(entry),
        "" if entry.first is None else _seconds(entry.first),
        _seconds(entry.seconds),
        str(entry.written or ""),
        entry.account,
        entry.id,
    ]


def _outcome(entry: Entry) -> str:
    here = ", here" if entry.refused else ""
    tried = f", {len(entry.attempts)} attempts" if len(entry.attempts) > 1 else ""
    broke = ", then broke off" if entry.broke else ""
    return f"{entry.word} {entry.status}{broke}{here}{tried}"


def _time(at: float, form: str) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():{form}}"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
