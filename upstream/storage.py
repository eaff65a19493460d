"""LMArena's object storage: bytes to and from the signed URLs that the site hands out. I/O, as `client` is."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from io import BytesIO
from typing import Final

import aiohttp
from yarl import URL

from upstream.client import ClientSettings
from upstream.http.addresses import guarded_socket_factory, is_public_host
from upstream.http.exchange import LOOKUPS_AT_ONCE
from upstream.http.pool import KEEPALIVE_SECONDS
from upstream.http.resolver import Resolver
from upstream.http.transfer import SENDING_ERRORS, plain_session, read_within, reading, unanswered
from upstream.http.trust import trust
from upstream.protocol.errors import ProtocolViolated, RateLimited, Rejected, ServerFailed
from upstream.protocol.files import File
from upstream.protocol.refusals import read_retry_after

_STORAGE: Final = "LMArena's storage"
_PRINTABLE = re.compile(r"[!-~]+")


@asynccontextmanager
async def storage(settings: ClientSettings, *, connections: int) -> AsyncIterator[Storage]:
    """Own the connections. Where the site is on the public Internet, its storage must be there too."""
    public = is_public_host(URL(settings.base_url).host or "")
    resolver = Resolver(LOOKUPS_AT_ONCE)
    connector = aiohttp.TCPConnector(
        limit=connections,
        resolver=resolver,
        keepalive_timeout=KEEPALIVE_SECONDS,
        socket_factory=guarded_socket_factory() if public else None,
    )
    try:
        async with plain_session(connector, settings.connect_timeout) as session:
            yield Storage(session, settings)
    finally:
        await resolver.close()


class Storage:
    """LMArena's object storage: it is shown neither cookies nor authorization, and redirects nowhere."""

    def __init__(self, session: aiohttp.ClientSession, settings: ClientSettings) -> None:
        self._session = session
        self._schemes = ("https",) if URL(settings.base_url).scheme == "https" else ("https", "http")
        self._headers = {"User-Agent": settings.user_agent, "Accept-Encoding": "identity"}

    async def put(self, url: str, file: File) -> bool:
        """Store a file; False means that the URL is not good (any more). Raises errors that `Steps` knows."""
        headers = self._headers | {"Content-Type": file.content_type}
        body = BytesIO(file.data)  # the library warns of bytes above 1 MiB, since they go out in one write
        response = await self._request("PUT", url, headers, body)
        with reading(response, _STORAGE):
            if response.status == HTTPStatus.FORBIDDEN:
                return False
            _check(response)
            return True

    async def get(self, url: str, limit_bytes: int) -> bytes:
        """Read a picture of at most `limit_bytes`. Raises errors that `Steps` knows."""
        response = await self._request("GET", url, self._headers)
        with reading(response, _STORAGE):
            _check(response)
            return await read_within(response, limit_bytes)

    async def _request(
        self, method: str, url: str, headers: dict[str, str], body: BytesIO | None = None
    ) -> aiohttp.ClientResponse:
        target = self._target(url)
        try:
            return await self._session.request(
                method,
                target,
                data=body,
                headers=headers,
                allow_redirects=False,
                auto_decompress=False,
                ssl=await trust(target),
            )
        except SENDING_ERRORS as error:
            raise unanswered(error, _STORAGE) from None

    def _target(self, url: str) -> URL:
        """Check a URL that LMArena has handed out. It stays as it was written, or its signature would not fit."""
        with suppress(ValueError):  # its text quotes the URL
            target = URL(url, encoded=True)
            plain = _PRINTABLE.fullmatch(url) and "@" not in target.authority
            if plain and target.host and target.scheme in self._schemes:
                return target
        raise ProtocolViolated(f"{_STORAGE} has a URL that must not be called.")


def _check(response: aiohttp.ClientResponse) -> None:
    """Raise what an answer of the storage means that is no success."""
    status = response.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise RateLimited(
            f"{_STORAGE} is too busy (429).", retry_after=read_retry_after(response.headers.get("retry-after"))
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ServerFailed(f"{_STORAGE} failed ({status}).")
    if status not in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT):
        raise Rejected(f"{_STORAGE} refused ({status}).")
