"""Fetching the pictures that a request names by URL (`images.fetch_urls`), once the rest of it has been judged.

The request is read twice: first with something in the place of those pictures, so that whatever else is wrong with it
is said before anybody else's server is asked; then with what was fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from bridge.config.schema import Config
from bridge.dialects.data_urls import Extracted
from bridge.dialects.files import Fetched, FileReader, FileRules
from handlers.request.budget import Hold
from handlers.request.heavy import HeavyWork
from upstream.fetch import Fetcher, FetchRefused

#: How long one picture may take, redirects and body included, in seconds.
FETCH_SECONDS: Final = 10.0

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Linked(Generic[Read]):
    """A request whose files are read by `read`, and the links of the files to be fetched (mostly none)."""

    read: Callable[[FileReader], Read]
    links: Sequence[str]
    extracted: Extracted
    config: Config

    def judged(self) -> Read:
        """Read it with placeholders for what is to be fetched. Raises ApiError (400)."""
        return self.read(self._reader(dict.fromkeys(self.links)))

    async def fetched(self, fetcher: Fetcher, heavy: HeavyWork, owner: str, hold: Hold) -> Read:
        """Fetch, in room that `hold` makes, and read it whole. Raises ApiError: 400, or 503 where there is no room."""
        await hold.extend(len(self.links) * self.config.images.max_bytes)
        pictures = await fetch_pictures(fetcher, self.links, self.config)
        return await heavy.run(owner, self.read, self._reader(pictures))

    def _reader(self, pictures: Fetched) -> FileReader:
        images = self.config.images
        return FileReader(FileRules(images.max_bytes, images.max_per_request), pictures, self.extracted)


async def fetch_pictures(fetcher: Fetcher, urls: Iterable[str], config: Config) -> dict[str, bytes | str]:
    """Fetch side by side; give for each URL the picture's bytes, or why it was refused."""

    async def fetch(url: str) -> tuple[str, bytes | str]:
        try:
            return url, await fetcher.fetch(url, limit_bytes=config.images.max_bytes, timeout=FETCH_SECONDS)
        except FetchRefused as error:
            return url, str(error)

    return dict(await asyncio.gather(*(fetch(url) for url in urls)))
