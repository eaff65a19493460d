"""`record`: save both sides of one call of the running daemon in a file without secrets."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Final

import click

from bridge.recording.document import MAX_FILE_BYTES
from bridge.recording.folder import RecordingFiles, RecordingJob, save
from bridge.state.documents import StateFolder
from bridge.state.regular_file import NotReadable
from handlers.commands.config_option import config_option, read_config

#: How long a daemon may take to accept a job, and to write the file of a call that has ended, in seconds.
_ACCEPT_SECONDS: Final = 5.0
_DELIVER_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1


@click.command()
@config_option
@click.argument("request_id", metavar="[ID]", required=False)
@click.option(
    "--next", "next_call", is_flag=True, help="Record the next call that begins, instead of one that has ended."
)
@click.option("--with-texts", is_flag=True, help="Keep prompts and answers; secrets in them are still replaced.")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; by default recording-<time>.json in this folder. Existing files are not overwritten.",
)
def record(request_id: str | None, next_call: bool, with_texts: bool, output: Path | None) -> None:
    """Record one call with its bytes and times, without secrets.

    With an ID (x-request-id), it saves a call that has ended; the daemon keeps the last calls if recording.keep_mb is
    set. With --next, it saves the next call. Cookies, keys and e-mail addresses are replaced, and so are prompts and
    answers unless --with-texts is given. `lmarena-bridge replay FILE` replays the call.
    """
    if (request_id is None) == (not next_call):
        raise click.UsageError("Give the ID of a call, or --next.")
    config = read_config()
    if request_id is not None and not config.recording.keep_mb:
        raise click.ClickException(
            "No calls are kept, since recording.keep_mb is 0. Set it and reload, or use --next and make the call again."
        )
    folder = StateFolder(config.server.state_dir)
    if not folder.holder():
        raise click.ClickException(f"no daemon is running with the state folder {config.server.state_dir}")
    path = output or Path(f"recording-{time.strftime('%Y%m%d-%H%M%S')}.json")
    if path.exists():
        raise click.ClickException(f"{path} already exists and is not overwritten")
    if not path.parent.is_dir():  # now, rather than after the call has been made
        raise click.ClickException(f"{path.parent} is not a folder")
    files = RecordingFiles(folder)
    try:
        job = files.submit(request_id, texts=with_texts)
        try:
            file = _result(files, job)
        finally:
            files.withdraw(job)
        save(path, file)
    except (OSError, NotReadable) as error:
        raise click.ClickException(f"the recording cannot be saved: {error}") from error
    click.echo(f"Saved as {path}. Look through it before you pass it on; lmarena-bridge replay {path} replays it.")


def _result(files: RecordingFiles, job: RecordingJob) -> bytes:
    """Wait for the result of a job. Raises ClickException if it does not arrive in time."""
    is_next = job.request_id is None
    ends = time.monotonic() + _ACCEPT_SECONDS
    accepted = False
    while (file := files.take_result(job, MAX_FILE_BYTES)) is None:
        if not accepted and files.is_accepted(job):
            accepted, ends = True, math.inf if is_next else time.monotonic() + _DELIVER_SECONDS
            if is_next:
                click.echo("The daemon will record the next call: make it now, or cancel with Ctrl-C.", err=True)
        if time.monotonic() > ends:
            if is_next:
                raise click.ClickException("the daemon did not respond to the job: is it an older version?")
            raise click.ClickException(
                f"The daemon has not kept a call {job.request_id}: it is too old, or the id is wrong."
            )
        time.sleep(_POLL_SECONDS)  # the daemon answers with a file, and cannot notify another process
    return file
