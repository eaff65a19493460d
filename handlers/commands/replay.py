"""`replay`: play a recording in the embedded arena, and say whether it ends as it did."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import click

from bridge.recording.document import MAX_FILE_BYTES, NotARecording, Recording, decode
from bridge.recording.material import Outcome
from bridge.state.regular_file import NotReadable, read
from handlers.commands.output import json_option, print_json
from handlers.commands.replaying import Played, play

#: How many times the recorded time a replay may take, and how many seconds more.
_SHARE: Final = 2.0
_MORE_SECONDS: Final = 60.0


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--in-time", is_flag=True, help="With the recorded pauses; else all comes at once.")
@json_option
def replay(file: Path, in_time: bool, as_json: bool) -> None:
    """Play a recorded call again, without the site.

    The bridge of this version gets the recorded request, and from an embedded arena the recorded bytes. Exits 0 if the
    call ends as it did when it was recorded (status, error, finish reason, length of the text), 1 if it does not.
    Needs no account, no network, and no configuration.
    """
    try:
        recording = decode(read(file, MAX_FILE_BYTES)[0])
        played = asyncio.run(_played(recording, in_time=in_time))
    except NotARecording as error:
        raise click.ClickException(f"{file} is no recording that can be played: {error}") from error
    except (OSError, NotReadable) as error:
        raise click.ClickException(f"{file} cannot be read: {error}") from error
    differences = differences_of(recording, played)
    if as_json:
        print_json(
            {
                "same": not differences,
                "differences": differences,
                "recorded": None if recording.outcome is None else recording.outcome._asdict(),
                "replayed": played.outcome._asdict(),
                "drift": sorted(played.drift),
            }
        )
    else:
        click.echo(f"replayed  {_told(played.outcome)}")
        if recording.outcome is not None:
            click.echo(f"recorded  {_told(recording.outcome)}")
        for difference in differences:
            click.echo(f"differs   {difference}")
        if played.drift:
            click.echo(f"unknown   {', '.join(sorted(played.drift))}")
        for note in played.notes:
            click.echo(f"note      {note}")
    if differences:
        raise click.exceptions.Exit(1)


async def _played(recording: Recording, *, in_time: bool) -> Played:
    longest = max((call.end_at for call in recording.calls), default=0.0) if in_time else 0.0
    try:
        async with asyncio.timeout(_SHARE * longest + _MORE_SECONDS):
            return await play(recording, in_time=in_time)
    except TimeoutError as error:
        raise NotARecording("its call does not end") from error


def differences_of(recording: Recording, played: Played) -> list[str]:
    """The differences from the recording, one sentence each."""
    recorded, now = recording.outcome, played.outcome
    found: list[str] = []
    if recorded is not None:
        names = {"status": "the status", "reason": "the word for it", "code": "the error's code"}
        names |= {"finish": "the finish reason", "chars": "the length of the text", "calls": "the number of tool calls"}
        before, after = recorded._asdict(), now._asdict()
        found += [
            f"{what}: {_value(before[name])} then, {_value(after[name])} now"
            for name, what in names.items()
            if before[name] != after[name]
        ]
    missing = set(recording.drift) - played.drift
    found += [f"no longer unknown: {kind}" for kind in sorted(missing)]
    return found


def _told(outcome: Outcome) -> str:
    parts = [f"{outcome.status} {outcome.reason}"]
    if outcome.code:
        parts.append(outcome.code)
    if any(outcome.finish):
        parts.append(f"finish {_value(outcome.finish)}")
    parts.append(f"{outcome.chars} characters")
    if outcome.calls:
        parts.append(f"{outcome.calls} tool calls")
    return ", ".join(parts)


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_value, value)) or "none"
    return "none" if value is None else str(value)
