"""Fetching the pictures that a request links to (`images.fetch_urls`), once the rest of it is known to be valid.

The request is read twice: first with placeholders for those pictures, so that any other error is reported before a
foreign server is contacted; then with the pictures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from bridge.config.schema import Config
from bridge.dialects.data_urls import Extracted
from bridge.dialects.files import Fetched, FileReader, FileRules
from handlers.request.budget import Hold
from handlers.request.heavy import HeavyWork
from upstream.fetch import Fetcher, FetchRefused

#: How long one picture may take, redirects and body included, in seconds.
FETCH_SECONDS: Final = 10.0

Parsed = TypeVar("Parsed")


class LinkedRequest(NamedTuple, Generic[Parsed]):
    """A request that `read` reads, and the URLs of the pictures to be fetched for it (mostly none)."""

    read: Callable[[FileReader], Parsed]
    urls: Sequence[str]
    extracted: Extracted
    config: Config

    def read_unfetched(self) -> Parsed:
        """Read the request with placeholders for the pictures to be fetched. Raises ApiError (400)."""
        return self.read(self._reader(dict.fromkeys(self.urls)))

    async def fetch(self, fetcher: Fetcher, heavy: HeavyWork, owner: str, hold: Hold) -> Parsed:
        """Extend `hold` for the pictures, fetch them, and read the request with them.

        Raises ApiError: 400, or 503 if there is no memory for them.
        """
        await hold.extend(len(self.urls) * self.config.images.max_bytes)
        pictures = await fetch_pictures(fetcher, self.urls, self.config)
        return await heavy.run(owner, self.read, self._reader(pictures))

    def _reader(self, pictures: Fetched) -> FileReader:
        images = self.config.images
        return FileReader(FileRules(images.max_bytes, images.max_per_request), pictures, self.extracted)


async def fetch_pictures(fetcher: Fetcher, urls: Iterable[str], config: Config) -> dict[str, bytes | str]:
    """Fetch pictures concurrently; return for each URL the picture's bytes, or why it was refused."""

    async def fetch(url: str) -> tuple[str, bytes | str]:
        try:
            return url, await fetcher.fetch(url, limit_bytes=config.images.max_bytes, timeout=FETCH_SECONDS)
        except FetchRefused as error:
            return url, str(error)

    return dict(await asyncio.gather(*(fetch(url) for url in urls)))
