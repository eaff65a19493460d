"""Decides which calls are recorded, keeps the last ones in memory if that is configured, and makes their files.

state of a wish       event                                    next
--------------------  ---------------------------------------  ----------------------------------------------------
seen in the folder    it names a call that is kept             its file is made and given
                      it names one that is not kept here       left for another process, until the command gives up
                      it wants the next call                   armed
armed                 a call begins                            taken by it
                      the command has withdrawn it             forgotten
taken                 the call turns out to have no key        armed again
                      the call ends                            its file is made, unless another process has one
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from bridge.recording.document import encode
from bridge.recording.folder import MAX_DRIFT, RecordingFiles, Wanted
from bridge.recording.material import Material
from bridge.recording.redaction import known_secrets, redact
from bridge.state.documents import WATCH_SECONDS
from bridge.state.regular_file import NotReadable
from upstream.loop.threads import Threads

#: The most memory that one call's recording takes; what is above is left out, and the recording says so. Of short
#: deltas, a tenth of it is text.
MAX_CALL_BYTES: Final = 96 * 1024 * 1024
#: Kinds of drift that are recorded in one run.
MAX_DRIFT_KINDS: Final = 100
#: Recordings that are made at the same time: each goes through all bytes of a call.
_AT_ONCE: Final = 1
#: Secrets from this length on must not be in a file, wherever they come from.
_CHECKED_CHARS: Final = 12

_logger: Final = logging.getLogger(__name__)


class SecretLeft(Exception):
    """A secret was still in a file, which was not written: a mistake of ours."""


def file_of(material: Material) -> bytes:
    """Make the file of a call's recording. Raises SecretLeft."""
    file = encode(redact(material, secrets.token_bytes(32)))
    text = file.decode()
    if any(secret in text for secret in known_secrets(material.secrets) if len(secret) >= _CHECKED_CHARS):
        raise SecretLeft("a secret was still in a recording, which was not written")
    return file


class Recorder:
    """Owned by the app: `watch` runs as a task. `keep_bytes` says how much of ended calls is kept, 0 for nothing."""

    def __init__(self, files: RecordingFiles, keep_bytes: Callable[[], int]) -> None:
        self.files = files
        self._keep_bytes = keep_bytes
        self._threads = Threads("recordings", _AT_ONCE)
        self._armed: deque[Wanted] = deque()
        self._taken: set[str] = set()
        self._kept: OrderedDict[str, tuple[Material, int]] = OrderedDict()  # with its size
        self._size = 0
        self._another = asyncio.Event()
        self._drift: deque[Material] = deque(maxlen=MAX_DRIFT)
        self._drift_kinds: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether a call that begins now is to be recorded."""
        return bool(self._armed) or self._keep_bytes() > 0

    def begin(self) -> Wanted | None:
        """A call begins: take the wish that it fulfils, if there is one."""
        if not self._armed:
            return None
        wanted = self._armed.popleft()
        self._taken.add(wanted.nonce)
        return wanted

    def put_back(self, wanted: Wanted) -> None:
        """The call that took a wish was none that counts."""
        self._taken.discard(wanted.nonce)
        self._armed.appendleft(wanted)

    def keep(self, material: Material) -> None:
        """Keep a call that has ended, and forget the oldest above what may be kept."""
        room, size = self._keep_bytes(), material.size
        if (former := self._kept.pop(material.request_id, None)) is not None:
            self._size -= former[1]
        self._kept[material.request_id] = material, size
        self._size += size
        while self._kept and self._size > room:
            self._size -= self._kept.popitem(last=False)[1][1]
        self._another.set()

    async def ended(self, request_id: str) -> Material:
        """Wait until the call with this id has ended, and is kept."""
        while (material := self.kept(request_id)) is None:
            self._another.clear()
            await self._another.wait()
        return material

    def kept(self, request_id: str) -> Material | None:
        """The call with this id, if it is kept."""
        found = self._kept.get(request_id)
        return None if found is None else found[0]

    @property
    def drift_kinds(self) -> frozenset[str]:
        """The kinds of drift that were to be recorded."""
        return frozenset(self._drift_kinds)

    def keep_drift(self, material: Material) -> None:
        """Keep a recording of what the site sends that this version does not know, once for each kind."""
        if self._drift_kinds.issuperset(material.drift) or len(self._drift_kinds) > MAX_DRIFT_KINDS:
            return
        self._drift_kinds.update(material.drift)
        self._drift.append(material)

    async def make(self, material: Material, *, texts: bool = False) -> bytes:
        """Make a call's file, in a thread. Raises SecretLeft."""
        material.texts = texts
        return await self._threads.run(file_of, material)

    async def give(self, wanted: Wanted, material: Material) -> None:
        """Give a command the call that it wants, unless another process has; what fails is logged."""
        try:
            if await self._threads.run(self.files.claim, wanted):
                file = await self.make(material, texts=wanted.texts)
                await self._threads.run(self.files.give, wanted, file)
        except (OSError, NotReadable, SecretLeft) as error:
            _logger.error("a recording could not be made: %s", error)

    async def watch(self) -> None:
        """Look for wishes, until cancelled."""
        await self._threads.run(self._tidy)
        while True:
            try:
                await self.look()
                await self.write_drift()
            except (OSError, NotReadable, SecretLeft) as error:
                _logger.error("the folder of recordings cannot be used: %s", error)
            await asyncio.sleep(WATCH_SECONDS)

    async def look(self) -> None:
        """Look for wishes once. Raises OSError and NotReadable."""
        wanted = await self._threads.run(self.files.wanted)
        there = {each.nonce for each in wanted}
        for gone in [each for each in self._armed if each.nonce not in there]:
            self._armed.remove(gone)
        for each in wanted:
            if each.request_id is not None:
                if (material := self.kept(each.request_id)) is not None and each.nonce not in self._taken:
                    self._taken.add(each.nonce)
                    await self._threads.run(self.files.arm, each)
                    await self.give(each, material)
            elif each not in self._armed and each.nonce not in self._taken:
                self._armed.append(each)
                await self._threads.run(self.files.arm, each)

    async def write_drift(self) -> None:
        """Write the recordings of drift that wait for it. Raises OSError and NotReadable."""
        while self._drift:
            await self._threads.run(self._write_drift, self._drift.popleft())

    def _write_drift(self, material: Material) -> None:
        path = self.files.keep_drift(file_of(material), time.time())
        if path is not None:
            _logger.warning("what LMArena sends that this version does not know is recorded, without texts: %s", path)

    def _tidy(self) -> None:
        try:
            self.files.tidy(time.time())
        except OSError as error:
            _logger.error("the folder of recordings cannot be used: %s", error)
