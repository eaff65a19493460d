"""Uploads pictures and PDFs to LMArena's storage, and downloads generated pictures from it.

async with open_uploads(client, clock=client.clock) as uploads:
    attachments = await uploads.attach(files, account, credentials, timeout=60)

The protocol: docs/protocol.md, "Server actions and uploads".
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple, Protocol

from upstream.accounts import Account
from upstream.actions import GENERATE_UPLOAD_URL, GET_SIGNED_URL, ServerActions
from upstream.client import ArenaClient
from upstream.credentials import Credentials
from upstream.loop.parallel import map_concurrently
from upstream.protocol.errors import (
    DownloadFailed,
    NotFound,
    ProtocolViolated,
    ServerFailed,
    StaleAction,
    TimedOut,
    Unavailable,
    Unreachable,
    UploadFailed,
    UpstreamError,
)
from upstream.protocol.evaluations import Attachment
from upstream.protocol.files import File, signed_until, sniff
from upstream.retry import IdempotentRetries
from upstream.storage import Storage, open_storage

#: Concurrent file transfers of one request, and of the whole daemon.
MAX_PER_REQUEST: Final = 4
MAX_AT_ONCE: Final = 32
#: How many uploaded files are remembered; the least recently used is evicted first.
MAX_REMEMBERED: Final = 4096
#: A signed URL must remain valid for at least this long, in seconds, for the model to read the file.
MIN_VALIDITY_SECONDS: Final = 300.0


@asynccontextmanager
async def open_uploads(
    client: ArenaClient,
    *,
    clock: Callable[[], float],
    monotonic: Callable[[], float] | None = None,
    on_upload: Callable[[bool], None] = lambda _: None,
    known: KnownUploads | None = None,
) -> AsyncIterator[Uploads]:
    """Own the connections to the storage, closed on exit.

    `clock` gives unix time in seconds by the site's clock, `monotonic` is a monotonic clock; without it, `clock` must
    never be set. `on_upload` is called for each file with whether its upload succeeded. `known` has the uploads
    of other processes, too.
    """
    async with open_storage(client.settings, connections=MAX_AT_ONCE) as store:
        yield Uploads(client, store, clock, monotonic or clock, on_upload, known)


class KnownUpload(NamedTuple):
    """An uploaded file: its key in the storage, and a signed URL, valid until a unix time by the site's clock."""

    key: str
    url: str
    until: float


class KnownUploads(Protocol):
    """Uploads that several processes share."""

    async def find(self, user_id: str, digest: str) -> KnownUpload | None:
        """The upload of a file by an account; None if it is not known."""

    def keep(self, user_id: str, digest: str, upload: KnownUpload) -> None:
        """Share the upload of a file by an account, or the new URL of one."""


@dataclass(slots=True)
class _Upload:
    """One file uploaded by one account. `lock` must be held to change it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    key: str = ""
    url: str = field(default="", repr=False)
    until: float = -math.inf  # on the monotonic clock


class _Batch(NamedTuple):
    """What the files of one `attach` share: the account, and the timeout of each file in seconds."""

    user_id: str
    credentials: Credentials
    timeout: float


class Uploads:
    """Uploads each file once for an account, for as long as the storage keeps it."""

    def __init__(
        self,
        client: ArenaClient,
        store: Storage,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        on_upload: Callable[[bool], None],
        known: KnownUploads | None = None,
    ) -> None:
        self._retries = IdempotentRetries()
        self._actions = ServerActions(client, self._retries)
        self._storage = store
        self._clock = clock
        self._monotonic = monotonic
        self._on_upload = on_upload
        self._known = known
        self._uploads: OrderedDict[tuple[str, str], _Upload] = OrderedDict()
        self._at_once = asyncio.Semaphore(MAX_AT_ONCE)

    async def attach(
        self, files: Sequence[File], account: Account, credentials: Credentials, *, timeout: float
    ) -> list[Attachment]:
        """Upload the files for the account's next call; return their attachments in the same order.

        `timeout` is in seconds for each file, including the wait for others. The session cookie may be rotated
        meanwhile. Raises UploadFailed, and the errors that need another account or a human: SessionExpired,
        RateLimited, a wall. Other errors of the site have been retried here and become UploadFailed: they say nothing
        about its chats.
        """
        batch = _Batch(account.user_id, credentials, timeout)

        async def attach_one(file: File) -> Attachment:
            try:
                return await self._attach_one(file, batch)
            except UpstreamError:
                self._on_upload(False)
                raise

        try:
            return await map_concurrently(attach_one, files, MAX_PER_REQUEST)
        except (Unreachable, Unavailable, ServerFailed, TimedOut, StaleAction) as error:
            raise UploadFailed(f"A file could not be uploaded: {error.message}") from error

    async def download(self, url: str, *, limit_bytes: int, timeout: float) -> tuple[bytes, str]:
        """Download a generated picture; return it and its content type. Raises DownloadFailed."""
        with _failing_as(DownloadFailed, "The picture could not be downloaded"):
            try:
                async with asyncio.timeout(timeout), self._at_once:
                    data = await self._retries.run(partial(self._storage.get, url, limit_bytes))
            except TimeoutError as error:
                raise DownloadFailed(f"The picture was not downloaded within {timeout:g} s.") from error
            content_type = sniff(data)
            if content_type is None:
                raise ProtocolViolated("the content is not a picture.")
        return data, content_type

    async def _attach_one(self, file: File, batch: _Batch) -> Attachment:
        upload = self._remembered((batch.user_id, file.digest))
        try:
            # Two requests with the same file take turns: the second finds it uploaded. If the first fails or is
            # cancelled, the second uploads it.
            async with asyncio.timeout(batch.timeout), upload.lock:
                if self._known is not None and not upload.key:
                    await self._learn(self._known, upload, batch.user_id, file.digest)
                if upload.until <= self._monotonic() + MIN_VALIDITY_SECONDS:
                    async with self._at_once:
                        await self._renew(upload, file, batch)
                return Attachment(upload.key, file.content_type, upload.url)
        except TimeoutError as error:
            raise UploadFailed(f"The {file.kind} was not uploaded within {batch.timeout:g} s.") from error
        except NotFound as error:
            raise UploadFailed("LMArena has changed: its upload actions are missing (404).") from error

    async def _learn(self, known: KnownUploads, upload: _Upload, user_id: str, digest: str) -> None:
        """Take over what another process has uploaded."""
        if (found := await known.find(user_id, digest)) is not None:
            upload.key, upload.url = found.key, found.url
            upload.until = self._monotonic() + found.until - self._clock()

    def _remembered(self, key: tuple[str, str]) -> _Upload:
        upload = self._uploads.setdefault(key, _Upload())
        self._uploads.move_to_end(key)
        while len(self._uploads) > MAX_REMEMBERED:
            self._uploads.popitem(last=False)
        return upload

    # The three steps: get an upload URL, upload, sign a download URL

    async def _renew(self, upload: _Upload, file: File, batch: _Batch) -> None:
        """Sign a URL for the stored file again; upload the file if it is not stored (any more)."""
        url = await self._sign(upload.key, batch) if upload.key else None
        if url is None:
            upload.key = await self._upload(file, batch)
            self._on_upload(True)
            url = await self._sign(upload.key, batch)
        if url is None:
            raise UploadFailed(f"LMArena did not sign the uploaded {file.kind}.")
        until = signed_until(url) or 0.0
        upload.url, upload.until = url, self._monotonic() + until - self._clock()
        if self._known is not None:
            self._known.keep(batch.user_id, file.digest, KnownUpload(upload.key, url, until))

    async def _upload(self, file: File, batch: _Batch) -> str:
        """Upload a file; return its storage key. An upload URL that has expired is replaced once."""
        for _ in range(2):
            match await self._actions.call(
                GENERATE_UPLOAD_URL, [file.name, file.content_type], batch.credentials, timeout=batch.timeout
            ):
                case {"uploadUrl": str(url), "key": str(key)}:
                    if await self._put(url, file):
                        return key
                case _:
                    raise UploadFailed(f"LMArena returned no URL to upload the {file.kind} to.")
        raise UploadFailed(f"LMArena's storage refuses the {file.kind}, even at a fresh URL (403).")

    async def _put(self, url: str, file: File) -> bool:
        with _failing_as(UploadFailed, f"The {file.kind} could not be uploaded"):
            return await self._retries.run(partial(self._storage.put, url, file))

    async def _sign(self, key: str, batch: _Batch) -> str | None:
        signed = await self._actions.call(GET_SIGNED_URL, [key], batch.credentials, timeout=batch.timeout)
        match signed:
            case {"url": str(url)}:
                return url
        return None


@contextmanager
def _failing_as(failure: type[UpstreamError], what: str) -> Iterator[None]:
    """Turn every error of the storage into `failure`: its 429, for example, is not the account's rate limit."""
    try:
        yield
    except failure:
        raise
    except UpstreamError as error:
        raise failure(f"{what}: {error.message}") from error
