"""Which files were uploaded to LMArena's storage for which account, so that no process uploads them again."""

from __future__ import annotations

import math
import time

import orjson

from bridge.shared.link import Link
from bridge.state.errors import StateUnavailable
from upstream.uploads import KnownUpload


class RedisUploads:
    """Uploads by account and file, with the interface of `upstream.uploads.KnownUploads`. Each expires with its URL."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def find(self, user_id: str, digest: str) -> KnownUpload | None:
        """The upload of a file; None if there is none, or Redis cannot be used."""
        try:
            text = await self._link.text(self._key(user_id, digest))
            value = None if text is None else orjson.loads(text)
        except (StateUnavailable, orjson.JSONDecodeError):
            return None
        match value:
            case [str(key), str(url), int() | float() as until]:
                return KnownUpload(key, url, float(until))
        return None

    def keep(self, user_id: str, digest: str, upload: KnownUpload) -> None:
        """Remember an upload, or the new URL of one."""
        left = math.floor(upload.until - time.time())
        if left > 0:
            self._link.post(("SET", self._key(user_id, digest), orjson.dumps(list(upload)), "EX", left))

    def _key(self, user_id: str, digest: str) -> str:
        return self._link.key("upload", user_id, digest)
