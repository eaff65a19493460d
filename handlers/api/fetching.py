"""Fetching the pictures that a request names by URL, before it is read (`images.fetch_urls`)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from bridge.config.schema import Config
from upstream.fetch import Fetcher, FetchRefused

#: How long one picture may take, redirects and body included, in seconds.
FETCH_SECONDS: Final = 10.0


async def fetch_pictures(fetcher: Fetcher, urls: Iterable[str], config: Config) -> dict[str, bytes | str]:
    """Fetch side by side; give for each URL the picture's bytes, or why it was refused."""

    async def fetch(url: str) -> tuple[str, bytes | str]:
        try:
            return url, await fetcher.fetch(url, limit_bytes=config.images.max_bytes, timeout=FETCH_SECONDS)
        except FetchRefused as error:
            return url, str(error)

    return dict(await asyncio.gather(*(fetch(url) for url in urls)))
