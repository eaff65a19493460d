"""The files of recordings in the state folder: the jobs that commands submit to a running daemon, and their results.

    recordings/job-<nonce>.json      a job: record the next call, or save one that has ended
    recordings/accepted-<nonce>      a process has accepted the job: it records the next call, or has the one asked for
    recordings/.<nonce>.part         the recording while it is being written
    recordings/result-<nonce>.json   the recording, until the command has read it
    drift/<time>-<nonce>.json        the last 20 recordings of what the site sent that this version does not know

No part of a name comes from a caller or from the site: a nonce is random.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from bridge.state.documents import StateFolder
from bridge.state.folder import FOLDER_MODE
from bridge.state.regular_file import NotReadable, open_own, read

RECORDINGS: Final = "recordings"
DRIFT: Final = "drift"
#: How many recordings of drift are kept, and how large one may be.
MAX_DRIFT: Final = 20
MAX_DRIFT_BYTES: Final = 512 * 1024
#: Files of a job that are older were left by a command or a daemon that was killed, and may be removed.
STALE_SECONDS: Final = 3600.0
_MAX_JOB_BYTES: Final = 4096
_MAX_JOBS: Final = 100

_JOB_NAME: Final = re.compile(r"job-([0-9a-f]{16})\.json")
_FILE_NAME: Final = re.compile(r"(?:job|result)-[0-9a-f]{16}\.json|accepted-[0-9a-f]{16}|\.[0-9a-f]{16}\.part")
_DRIFT_NAME: Final = re.compile(r"\d{13}-[0-9a-f]{8}\.json")


class RecordingJob(NamedTuple):
    """A recording that a command asks for: of the call with this id, or of the next one if it is None.

    `texts` keeps prompts and answers.
    """

    nonce: str
    request_id: str | None
    texts: bool


class RecordingFiles:
    """The files. All methods block, and raise OSError and NotReadable."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self.path = folder.path / RECORDINGS
        self._drift = folder.path / DRIFT

    # For commands

    def submit(self, request_id: str | None, *, texts: bool) -> RecordingJob:
        """Ask the running daemon for a recording."""
        job = RecordingJob(secrets.token_hex(8), request_id, texts)
        self._create_folder(self.path)
        self._write(self._job(job), orjson.dumps(job._asdict()))
        return job

    def is_accepted(self, job: RecordingJob) -> bool:
        """Whether a process has accepted the job."""
        return self._accepted(job).exists()

    def take_result(self, job: RecordingJob, limit: int) -> bytes | None:
        """Read the recording, of at most `limit` bytes, and remove its file; None while there is none."""
        path = self._result(job)
        try:
            data, _ = read(path, limit)
        except FileNotFoundError:
            return None
        path.unlink(missing_ok=True)
        return data

    def withdraw(self, job: RecordingJob) -> None:
        """Remove all files of a job."""
        for path in (self._job(job), self._result(job), self._accepted(job)):
            path.unlink(missing_ok=True)

    # For the daemon

    def jobs(self) -> list[RecordingJob]:
        """All open jobs, sorted by nonce; files that cannot be read are skipped."""
        jobs: list[RecordingJob] = []
        nonces = sorted(match[1] for name in _names(self.path) if (match := _JOB_NAME.fullmatch(name)) is not None)
        for nonce in nonces[:_MAX_JOBS]:
            with suppress(OSError, NotReadable, ValueError, KeyError, TypeError):
                document = orjson.loads(read(self.path / f"job-{nonce}.json", _MAX_JOB_BYTES)[0])
                request_id = document["request_id"]
                request_id = None if request_id is None else str(request_id)
                jobs.append(RecordingJob(nonce, request_id, bool(document["texts"])))
        return jobs

    def accept(self, job: RecordingJob) -> None:
        """Tell the command that its job is under way."""
        self._write(self._accepted(job), b"")

    def claim(self, job: RecordingJob) -> bool:
        """Claim a job for this process; False if another one has claimed it, or the command has withdrawn it."""
        try:
            self._job(job).unlink()
        except FileNotFoundError:
            return False
        return True

    def deliver(self, job: RecordingJob, file: bytes) -> None:
        """Write the result of a job, which appears complete or not at all."""
        part = self.path / f".{job.nonce}.part"
        self._write(part, file)
        part.replace(self._result(job))

    def remove_stale(self, now: float) -> None:
        """Remove the files that killed commands and daemons have left; `now` is in unix seconds."""
        for name in _names(self.path):
            path = self.path / name
            if _FILE_NAME.fullmatch(name):
                with suppress(OSError):
                    if path.lstat().st_mtime < now - STALE_SECONDS:
                        path.unlink()

    def keep_drift(self, file: bytes, now: float) -> Path | None:
        """Keep a recording of drift, and remove the oldest beyond MAX_DRIFT; None if it is too large to be kept."""
        if len(file) > MAX_DRIFT_BYTES:
            return None
        self._create_folder(self._drift)
        path = self._drift / f"{int(now * 1000):013d}-{secrets.token_hex(4)}.json"
        self._write(path, file)
        for old in self.drift()[MAX_DRIFT:]:
            old.unlink(missing_ok=True)
        return path

    def drift(self) -> list[Path]:
        """The recordings of drift that are kept, the newest first."""
        return [self._drift / name for name in sorted(_names(self._drift), reverse=True) if _DRIFT_NAME.fullmatch(name)]

    def _job(self, job: RecordingJob) -> Path:
        return self.path / f"job-{job.nonce}.json"

    def _accepted(self, job: RecordingJob) -> Path:
        return self.path / f"accepted-{job.nonce}"

    def _result(self, job: RecordingJob) -> Path:
        return self.path / f"result-{job.nonce}.json"

    def _create_folder(self, path: Path) -> None:
        path.mkdir(FOLDER_MODE, exist_ok=True)
        if os.geteuid() == 0:  # a command run by root: the daemon's user must be able to use it
            owner = self._folder.path.stat()
            os.chown(path, owner.st_uid, owner.st_gid)

    def _write(self, path: Path, data: bytes) -> None:
        descriptor = self._folder.create(path, os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)


def save(path: Path, data: bytes) -> None:
    """Write a new private file. Raises FileExistsError, other OSErrors and NotReadable."""
    with os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(data)


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
