"""`replay`: replay a recording with the embedded arena, and compare the outcome."""

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

#: The timeout of a replay: this multiple of the recorded time, plus these seconds.
_SHARE: Final = 2.0
_MORE_SECONDS: Final = 60.0


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--in-time", is_flag=True, help="Keep the recorded pauses; by default, all data is sent at once.")
@json_option
def replay(file: Path, in_time: bool, as_json: bool) -> None:
    """Replay a recorded call, without the site.

    The bridge of this version receives the recorded request, and an embedded arena sends it the recorded bytes. The
    exit status is 0 if the call ends as it did in the recording (status, error, finish reason, length of the text), and
    1 if it does not. It needs no account, no network, and no configuration.
    """
    try:
        recording = decode(read(file, MAX_FILE_BYTES)[0])
        played = asyncio.run(_played(recording, in_time=in_time))
    except NotARecording as error:
        raise click.ClickException(f"{file} is not a recording that can be replayed: {error}") from error
    except NotReadable as error:
        raise click.ClickException(f"{file} {error}") from error
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror}") from error
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
        raise NotARecording("the call does not end") from error


def differences_of(recording: Recording, played: Played) -> list[str]:
    """The differences from the recording, one sentence each."""
    recorded, now = recording.outcome, played.outcome
    found: list[str] = []
    if recorded is not None:
        names = {"status": "the status", "reason": "the word of diagnosis", "code": "the error's code"}
        names |= {"finish": "the finish reason", "chars": "the length of the text", "calls": "the number of tool calls"}
        before, after = recorded._asdict(), now._asdict()
        found += [
            f"{what}: {_value(before[name])} in the recording, {_value(after[name])} now"
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
