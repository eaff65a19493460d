"""Decides which calls are recorded, keeps the last ones in memory if that is configured, and makes their files.

state of a job        event                                    next
--------------------  ---------------------------------------  ----------------------------------------------------
seen in the folder    it names a call that is kept here        its file is made and delivered
                      it names one that is not kept here       left to another process, until the command gives up
                      it asks for the next call                waiting
waiting               a call begins                            assigned to that call
                      the command has withdrawn it             forgotten
assigned              the call turns out to have no key        waiting again
                      the call ends                            its file is made, unless another process claimed the job
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from bridge.recording.document import encode
from bridge.recording.folder import MAX_DRIFT, RecordingFiles, RecordingJob
from bridge.recording.material import Material
from bridge.recording.redaction import known_secrets, redact
from bridge.state.documents import WATCH_SECONDS
from bridge.state.regular_file import NotReadable
from upstream.loop.threads import Threads

#: The most memory that one call's recording may take; what exceeds it is left out, and the recording is marked as cut.
#: A tenth of it is text where deltas are short.
MAX_CALL_BYTES: Final = 96 * 1024 * 1024
#: How many kinds of drift are recorded in one run of the daemon.
MAX_DRIFT_KINDS: Final = 100
#: Recordings that are made at the same time: each reads all bytes of a call.
_AT_ONCE: Final = 1
#: No secret of this length or more may occur in a file. Shorter ones may occur by chance.
_CHECKED_CHARS: Final = 12

_logger: Final = logging.getLogger(__name__)


class SecretLeft(Exception):
    """A file still held a secret and was not written: a bug in the redaction."""


def file_of(material: Material) -> bytes:
    """Make the file of a call's recording. Raises SecretLeft."""
    file = encode(redact(material, secrets.token_bytes(32)))
    text = file.decode()
    if any(secret in text for secret in known_secrets(material.secrets) if len(secret) >= _CHECKED_CHARS):
        raise SecretLeft("a secret was still in the recording, which was not written")
    return file


class Recorder:
    """Owned by the app, which runs `watch` as a task. `keep_bytes` returns how many bytes of ended calls are kept."""

    def __init__(self, files: RecordingFiles, keep_bytes: Callable[[], int]) -> None:
        self.files = files
        self._keep_bytes = keep_bytes
        self._threads = Threads("recordings", _AT_ONCE)
        self._waiting: deque[RecordingJob] = deque()
        self._assigned: set[str] = set()  # nonces
        self._kept: OrderedDict[str, tuple[Material, int]] = OrderedDict()  # with its size
        self._size = 0
        self._call_ended = asyncio.Event()
        self._drift: deque[Material] = deque(maxlen=MAX_DRIFT)
        self._drift_kinds: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether a call that begins now is recorded."""
        return bool(self._waiting) or self._keep_bytes() > 0

    def begin(self) -> RecordingJob | None:
        """Assign a job that waits for the next call to the call that begins now; None if there is no such job."""
        if not self._waiting:
            return None
        job = self._waiting.popleft()
        self._assigned.add(job.nonce)
        return job

    def put_back(self, job: RecordingJob) -> None:
        """Let a job wait for another call, since the one it was assigned to does not count."""
        self._assigned.discard(job.nonce)
        self._waiting.appendleft(job)

    def keep(self, material: Material) -> None:
        """Keep a call that has ended, and drop the oldest ones that exceed `keep_bytes`."""
        room, size = self._keep_bytes(), material.size
        if (former := self._kept.pop(material.request_id, None)) is not None:
            self._size -= former[1]
        self._kept[material.request_id] = material, size
        self._size += size
        while self._kept and self._size > room:
            self._size -= self._kept.popitem(last=False)[1][1]
        self._call_ended.set()

    async def ended(self, request_id: str) -> Material:
        """Wait until the call with this id has ended, and is kept."""
        while (material := self.kept(request_id)) is None:
            self._call_ended.clear()
            await self._call_ended.wait()
        return material

    def kept(self, request_id: str) -> Material | None:
        """The call with this id, or None if it is not kept."""
        found = self._kept.get(request_id)
        return None if found is None else found[0]

    @property
    def drift_kinds(self) -> frozenset[str]:
        """The kinds of drift that were recorded, or are about to be."""
        return frozenset(self._drift_kinds)

    def keep_drift(self, material: Material) -> None:
        """Keep a recording of what the site sends that this version does not know, once for each kind."""
        if self._drift_kinds.issuperset(material.drift) or len(self._drift_kinds) > MAX_DRIFT_KINDS:
            return
        self._drift_kinds.update(material.drift)
        self._drift.append(material)

    async def make(self, material: Material, *, texts: bool = False) -> bytes:
        """Make a call's file, in a thread. Raises SecretLeft."""
        return await self._threads.run(file_of, replace(material, texts=texts))

    async def deliver(self, job: RecordingJob, material: Material) -> None:
        """Complete a job with this call, unless another process has claimed it. Failures are logged."""
        try:
            if await self._threads.run(self.files.claim, job):
                file = await self.make(material, texts=job.texts)
                await self._threads.run(self.files.deliver, job, file)
        except (OSError, NotReadable, SecretLeft) as error:
            _logger.error("a recording could not be made: %s", error)

    async def watch(self) -> None:
        """Look for jobs, until cancelled."""
        await self._threads.run(self._remove_stale)
        while True:
            try:
                await self.look()
                await self.write_drift()
            except (OSError, NotReadable, SecretLeft) as error:
                _logger.error("the folder of recordings cannot be used: %s", error)
            await asyncio.sleep(WATCH_SECONDS)

    async def look(self) -> None:
        """Look for jobs once. Raises OSError and NotReadable."""
        jobs = await self._threads.run(self.files.jobs)
        for withdrawn in [job for job in self._waiting if job not in jobs]:
            self._waiting.remove(withdrawn)
        for job in jobs:
            if job in self._waiting or job.nonce in self._assigned:
                continue
            if job.request_id is None:
                self._waiting.append(job)
                await self._threads.run(self.files.accept, job)
            elif (material := self.kept(job.request_id)) is not None:
                self._assigned.add(job.nonce)
                await self._threads.run(self.files.accept, job)
                await self.deliver(job, material)

    async def write_drift(self) -> None:
        """Write the recordings of drift that are not in the folder yet. Raises OSError, NotReadable and SecretLeft."""
        while self._drift:
            await self._threads.run(self._write_drift, self._drift.popleft())

    def _write_drift(self, material: Material) -> None:
        path = self.files.keep_drift(file_of(material), time.time())
        if path is not None:
            _logger.warning("what LMArena sends that this version does not know is recorded, without texts: %s", path)

    def _remove_stale(self) -> None:
        try:
            self.files.remove_stale(time.time())
        except OSError as error:
            _logger.error("the folder of recordings cannot be used: %s", error)
