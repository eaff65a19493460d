"""LMArena's object storage: uploads to and downloads from the signed URLs that the site issues."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Final

from yarl import URL

from upstream.capture import CapturingExchanges
from upstream.client import ClientSettings
from upstream.http.addresses import is_public_host
from upstream.http.connector import Reach
from upstream.http.exchange import open_exchanges, split_url
from upstream.http.exchange_types import Exchanges, HttpError, Response
from upstream.loop.timers import Timers
from upstream.protocol.errors import ProtocolViolated, RateLimited, Rejected, ServerFailed
from upstream.protocol.files import File
from upstream.protocol.refusals import read_retry_after
from upstream.responses import read_whole, reading, to_upstream_error

_STORAGE: Final = "LMArena's storage"
_PRINTABLE = re.compile(r"[!-~]+")


@asynccontextmanager
async def open_storage(settings: ClientSettings, *, connections: int) -> AsyncIterator[Storage]:
    """Own the connections, closed on exit. If the site is on the public Internet, its storage must be too."""
    public = is_public_host(URL(settings.base_url).host or "")
    timers = Timers()
    try:
        async with open_exchanges(
            connections,
            settings.connect_timeout,
            timers,
            proxies=settings.proxies,
            reach=Reach.PUBLIC_HOSTS if public else Reach.CONFIGURED,
        ) as exchanges:
            yield Storage(CapturingExchanges(exchanges), settings)
    finally:
        timers.close()


class Storage:
    """LMArena's object storage. Requests carry neither cookies nor authorization, and redirects are not followed."""

    def __init__(self, exchanges: Exchanges, settings: ClientSettings) -> None:
        self._exchanges = exchanges
        self._schemes = ("https",) if URL(settings.base_url).scheme == "https" else ("https", "http")
        self._headers = {"User-Agent": settings.user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}

    async def put(self, url: str, file: File) -> bool:
        """Store a file; False if the URL is not valid or has expired. Raises UpstreamError."""
        headers = self._headers | {"Content-Type": file.content_type}
        response = await self._request("PUT", url, headers, file.data)
        with reading(response, _STORAGE):
            if response.status == HTTPStatus.FORBIDDEN:
                return False
            _check(response)
            return True

    async def get(self, url: str, limit_bytes: int) -> bytes:
        """Read a picture of at most `limit_bytes`. Raises UpstreamError."""
        response = await self._request("GET", url, self._headers)
        with reading(response, _STORAGE):
            _check(response)
            return await read_whole(response, limit_bytes)

    async def _request(self, method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> Response:
        origin, target = split_url(self._target(url))
        try:
            return await self._exchanges.request(method, origin, target, headers, body)
        except HttpError as error:
            raise to_upstream_error(error, _STORAGE) from None

    def _target(self, url: str) -> URL:
        """Check a URL that LMArena issued. It must stay as written, or its signature would not match."""
        with suppress(ValueError):  # not chained: its text quotes the URL
            target = URL(url, encoded=True)
            plain = _PRINTABLE.fullmatch(url) and "@" not in target.authority
            if plain and target.host and target.scheme in self._schemes:
                return target
        raise ProtocolViolated("LMArena issued an invalid URL of its storage.")


def _check(response: Response) -> None:
    """Raise the error for an unsuccessful response."""
    status = response.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise RateLimited(
            f"{_STORAGE} is too busy (429).", retry_after=read_retry_after(response.headers.get("retry-after"))
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ServerFailed(f"{_STORAGE} failed ({status}).")
    if status not in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT):
        raise Rejected(f"{_STORAGE} refused the request ({status}).")
