"""Fetches pictures that callers pass by URL, with limits and from public addresses only (`images.fetch_urls`).

async with open_fetcher(connect_timeout=10) as fetcher:
    data = await fetcher.fetch("https://example.org/cat.png", limit_bytes=10 * 1024 * 1024, timeout=10)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohappyeyeballs import SocketFactoryType
from yarl import URL

from upstream.http.connector import Reach
from upstream.http.exchange import open_exchanges, split_url
from upstream.http.exchange_types import Exchanges, HttpError
from upstream.http.proxies import DIRECT, Proxies
from upstream.http.resolver import NameResolver, Resolver
from upstream.loop.timers import Timers
from upstream.protocol.errors import UpstreamError
from upstream.protocol.files import sniff
from upstream.responses import read_whole, reading, to_upstream_error

#: How many redirects are followed, each checked like the URL itself.
MAX_REDIRECTS: Final = 3
#: Concurrent fetches for all callers.
MAX_AT_ONCE: Final = 32
#: Concurrent DNS lookups: more than fetches, since an abandoned lookup continues for a while.
LOOKUPS_AT_ONCE: Final = 64
#: The longest request line that common servers accept.
MAX_URL_CHARS: Final = 8000

_HEADERS: Final = {
    "User-Agent": "lmarena-bridge",
    "Accept": "image/*",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
_SERVER: Final = "The picture's server"


class FetchRefused(Exception):
    """A caller's URL is not fetched, or does not lead to a picture; the text says why. LMArena is not involved."""


@asynccontextmanager
async def open_fetcher(
    *,
    connect_timeout: float,
    proxies: Proxies = DIRECT,
    resolver: NameResolver | None = None,
    socket_factory: SocketFactoryType | None = None,
) -> AsyncIterator[Fetcher]:
    """Own the connections, closed on exit. A `socket_factory` must check addresses, as the default does."""
    system = Resolver(LOOKUPS_AT_ONCE)
    timers = Timers()
    try:
        async with open_exchanges(
            MAX_AT_ONCE,
            connect_timeout,
            timers,
            proxies=proxies,
            reach=Reach.PUBLIC_ADDRESSES,
            names=resolver or system,
            socket_factory=socket_factory,
            keep=False,  # each URL's name is resolved and checked again
        ) as exchanges:
            yield Fetcher(exchanges)
    finally:
        timers.close()
        await system.close()


class Fetcher:
    """Fetches pictures from the public Internet, revealing nothing about the bridge or the caller."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

    async def fetch(self, url: str, *, limit_bytes: int, timeout: float) -> bytes:
        """Return the picture at an http(s) URL; `timeout` in seconds covers everything. Raises FetchRefused."""
        try:
            async with asyncio.timeout(timeout):
                data = await self._follow(_checked(url), limit_bytes)
        except TimeoutError as error:
            raise FetchRefused(f"{_SERVER} took longer than {timeout:g} s.") from error
        except UpstreamError as error:
            raise FetchRefused(error.message) from error
        if sniff(data) is None:
            raise FetchRefused("The content is not a PNG, JPEG, GIF or WebP picture.")
        return data

    async def _follow(self, url: URL, limit_bytes: int) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            try:
                response = await self._exchanges.request("GET", *split_url(url), _HEADERS)
            except HttpError as error:
                raise to_upstream_error(error, _SERVER) from None
            with reading(response, _SERVER):
                if response.status == 200:
                    return await read_whole(response, limit_bytes)
                location = response.headers.get("Location")
                if location is None or not 300 <= response.status < 400:
                    raise FetchRefused(f"{_SERVER} answered with status {response.status}.")
            url = _checked(location, url)
        raise FetchRefused(f"{_SERVER} redirects more than {MAX_REDIRECTS} times.")


def _checked(text: str, base: URL | None = None) -> URL:
    """Parse a URL or a redirect's target. Its host's address is checked when the connection is made."""
    if len(text) > MAX_URL_CHARS:
        raise FetchRefused(f"The URL is longer than {MAX_URL_CHARS} characters.")
    try:
        url = URL(text) if base is None else base.join(URL(text))
    except ValueError as error:
        raise FetchRefused("This is not a valid URL.") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise FetchRefused("Only http:// and https:// URLs are fetched.")
    if "@" in url.authority:
        raise FetchRefused("A URL with a user name or password is not fetched.")
    return url
