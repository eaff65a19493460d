"""The I/O shell: one pool of connections to LMArena. Library errors become `upstream.errors` here.

async with connect(settings) as client:
    answer = await client.open(call, credentials, first_byte_timeout=120)   # `upstream.answer` has the rest
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

from upstream import cookies
from upstream.addresses import AddressRefused
from upstream.answer import ArenaAnswer
from upstream.connection import Connection, close_all
from upstream.errors import (
    ProtocolViolated,
    Redirected,
    ServerFailed,
    SessionExpired,
    TimedOut,
    Unreachable,
)
from upstream.evaluations import CONTENT_TYPE, Call, referer
from upstream.exchange import MAX_HEADER_BYTES, READ_BYTES, Exchanges, Response
from upstream.refusals import is_stream, read_page, read_refusal

#: The page that holds the models and names the scripts; its server actions have the same address.
PAGE: Final = "/?mode=direct"
#: React's flight data, as a server action answers with it.
ACTION_TYPE: Final = "text/x-component"
#: A refusal's text is short; a page in its place is read no further than its title needs.
MAX_REFUSAL_BYTES: Final = 64 * 1024
#: The page holds some 300 KB of flight data; 320 models are 200 KB of it.
MAX_PAGE_BYTES: Final = 16 * 1024 * 1024
#: Redirects followed within the configured origins.
MAX_REDIRECTS: Final = 3
#: Below the site's own keep-alive, so that a call does not meet a dying connection, in seconds.
KEEPALIVE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Where and how to call. Timeouts in seconds; `connections` bounds the pool, streams included."""

    base_url: str
    origins: frozenset[str]
    user_agent: str
    cf_clearance: str = field(repr=False)
    connect_timeout: float
    idle_timeout: float
    connections: int


@dataclass(frozen=True, slots=True)
class Credentials:
    """The session cookie that a call shows, and who is told when upstream rotates it."""

    session: str = field(repr=False)
    on_rotated: Callable[[str], None] = field(repr=False)


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[ArenaClient]:
    """Own the connections: they are closed on the way out."""
    connector = aiohttp.TCPConnector(
        limit=settings.connections, keepalive_timeout=KEEPALIVE_SECONDS, ttl_dns_cache=300, use_dns_cache=True
    )
    connections: set[Connection] = set()
    make = partial(Connection, asyncio.get_running_loop(), connections)
    connector._factory = make  # type: ignore[assignment] # noqa: SLF001 — it has no public switch
    async with connector:
        try:
            yield ArenaClient(Exchanges(connector, settings.connect_timeout), settings)
        finally:
            await close_all(connections)


def plain_session(connector: aiohttp.BaseConnector, connect_timeout: float) -> aiohttp.ClientSession:
    """A session that does what it is told and no more: no cookies, proxies or repetition, no limit but connecting."""
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),  # one shared jar would mix accounts
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout, sock_connect=connect_timeout),
        read_bufsize=READ_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        trust_env=False,
    )
    # aiohttp would silently repeat a PUT or GET whose connection died; what is repeated is `upstream.retry`'s to say.
    session._retry_connection = False  # noqa: SLF001 — it has no public switch
    return session


class ArenaClient:
    """Speaks to one site, whose origin may move among the configured ones."""

    def __init__(self, exchanges: Exchanges, settings: Settings) -> None:
        self._exchanges = exchanges
        self.settings = settings
        #: Where the site is now: `base_url`'s origin until a permanent redirect names another allowed one.
        self.origin = str(URL(settings.base_url).origin())

    def reconfigure(self, settings: Settings) -> None:
        """Take over other settings for the next calls; another `base_url` is where the site is from now on."""
        if settings.base_url != self.settings.base_url or self.origin not in settings.origins:
            self.origin = str(URL(settings.base_url).origin())
        self.settings = settings

    async def open(self, call: Call, credentials: Credentials, *, first_byte_timeout: float) -> ArenaAnswer:
        """Make a streaming call; return its answer, whose lines are still to be read.

        Raises whatever `upstream.refusals` reads from an answer that is no stream, Unreachable, Redirected, TimedOut,
        or ServerFailed when the connection died after the call was sent.
        """
        deadline = asyncio.get_running_loop().time() + first_byte_timeout
        response = await self._request(
            call.method,
            call.path,
            credentials,
            deadline,
            body=call.body,
            headers={"Content-Type": CONTENT_TYPE, "Accept": "*/*"},
            evaluation_id=call.evaluation_id,
        )
        if not is_stream(response.headers.get("Content-Type", "")):
            with reading(response):
                async with asyncio.timeout_at(deadline):
                    raise read_page(response.content_type, await _read_bounded(response, MAX_REFUSAL_BYTES))
        return ArenaAnswer(response, deadline, self.settings.idle_timeout)

    async def page(self, path: str, credentials: Credentials | None, *, timeout: float) -> str:
        """Read a page or a script. Raises as `open` does."""
        deadline = asyncio.get_running_loop().time() + timeout
        response = await self._request("GET", path, credentials, deadline, headers={"Accept": "text/html,*/*"})
        with reading(response):
            async with asyncio.timeout_at(deadline):
                return (await _read_bounded(response, MAX_PAGE_BYTES)).decode("utf-8", "replace")

    async def action(self, action_id: str, body: bytes, credentials: Credentials, *, timeout: float) -> bytes:
        """Call one of the page's server actions (PROTOCOL, image upload); return its answer, rows of flight data.

        Raises as `open` does, and StaleAction where the site does not know the id (any more).
        """
        deadline = asyncio.get_running_loop().time() + timeout
        headers = {"Content-Type": CONTENT_TYPE, "Accept": ACTION_TYPE, "Next-Action": action_id}
        response = await self._request("POST", PAGE, credentials, deadline, body=body, headers=headers)
        with reading(response):
            async with asyncio.timeout_at(deadline):
                answer = await _read_bounded(response, MAX_PAGE_BYTES)
        if response.content_type != ACTION_TYPE:
            raise read_page(response.content_type, answer)
        return answer

    async def _request(
        self,
        method: str,
        path: str,
        credentials: Credentials | None,
        deadline: float,
        *,
        headers: dict[str, str],
        body: bytes | None = None,
        evaluation_id: str | None = None,
    ) -> Response:
        """Send, follow redirects within the origins, take over a rotated cookie, raise what is no success."""
        origin, target = self.origin, path
        for _ in range(MAX_REDIRECTS + 1):
            sent = {
                **headers,
                "User-Agent": self.settings.user_agent,
                "Accept-Encoding": "identity",  # a compressed stream would be delayed by its own blocks
                "Origin": origin,
            }
            if evaluation_id is not None:
                sent["Referer"] = referer(origin, evaluation_id)
            session = credentials.session if credentials is not None else ""
            if cookie := cookies.cookie_header(session, self.settings.cf_clearance):
                sent["Cookie"] = cookie
            with sending():
                async with asyncio.timeout_at(deadline):
                    response = await self._exchanges.request(method, origin, target, sent, body)
            if credentials is not None:
                _take_rotation(response.headers, credentials)
            if response.status == HTTPStatus.OK:
                return response
            if not 300 <= response.status < 400:
                with reading(response):
                    async with asyncio.timeout_at(deadline):
                        raise read_refusal(
                            response.status, response.headers, await _read_bounded(response, MAX_REFUSAL_BYTES)
                        )
            origin, target = self._follow(response, URL(origin + target, encoded=True), method)
        raise ProtocolViolated(f"LMArena redirects in a circle ({origin}).")

    def _follow(self, response: Response, url: URL, method: str) -> tuple[str, str]:
        """Say where a redirect leads: origin and target. Cookies go to no host outside the configured origins."""
        response.release()
        try:
            target = url.join(URL(response.headers.get("Location", "")))
            origin = str(target.origin())
        except ValueError as error:
            raise ProtocolViolated("LMArena sent a redirect that leads nowhere.", status=response.status) from error
        if origin not in self.settings.origins:
            raise Redirected(f"LMArena redirects to {origin}.", origin=origin, status=response.status)
        if method != "GET" and target.path != url.path:
            raise SessionExpired("LMArena redirects the call to another page, as it does without a login.")
        if response.status in (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.PERMANENT_REDIRECT):
            self.origin = origin
        return origin, target.raw_path_qs


@contextmanager
def sending(peer: str = "LMArena") -> Iterator[None]:
    """Translate what the library raises until the headers have come."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientProxyConnectionError) as error:
        if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, AddressRefused):
            raise ProtocolViolated(f"{peer} has no public address.") from error
        raise Unreachable(f"{peer} cannot be reached: {_cause(error)}.") from error
    except TimeoutError as error:
        raise TimedOut(f"{peer} has not begun to answer.") from error
    except (aiohttp.ClientResponseError, HttpProcessingError):  # an unreadable header: its text may quote a cookie
        raise ProtocolViolated(f"{peer}'s answer has a header that cannot be read.") from None
    except (aiohttp.ClientError, OSError) as error:
        raise ServerFailed(f"The connection to {peer} broke before its answer came.") from error


@contextmanager
def reading(response: Response | aiohttp.ClientResponse, peer: str = "LMArena") -> Iterator[None]:
    """Translate what the library raises while a whole body is read; the connection is let go on every way out."""
    try:
        yield
        response.release()
    except TimeoutError as error:
        raise TimedOut(f"{peer} did not finish its answer in time.") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ServerFailed(f"The connection to {peer} broke in the middle of its answer.") from error
    finally:
        response.close()


async def read_within(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read a body of at most `limit` bytes. Raises ProtocolViolated as soon as it is known to be larger."""
    if (response.content_length or 0) <= limit:
        body = await _read_bounded(response, limit + 1)
        if len(body) <= limit:
            return body
    raise ProtocolViolated(f"The answer is larger than {limit} bytes.")


async def _read_bounded(response: Response | aiohttp.ClientResponse, limit: int) -> bytes:
    """Read a body, or its first `limit` bytes."""
    body = bytearray()
    async for data in response.content.iter_any():
        body += data
        if len(body) >= limit:
            break
    del body[limit:]
    return bytes(body)


def _take_rotation(headers: CIMultiDictProxy[str], credentials: Credentials) -> None:
    rotated = cookies.rotated(headers.getall("Set-Cookie", ()), credentials.session)
    if rotated is not None:
        credentials.on_rotated(rotated)


def _cause(error: aiohttp.ClientError | TimeoutError) -> str:
    """Name what kept us from connecting, without the library's decoration."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its name cannot be resolved"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return "its TLS certificate or handshake is not valid"
        case aiohttp.ConnectionTimeoutError():
            return "connecting took too long"
        case aiohttp.ClientConnectorError():
            return os.strerror(error.os_error.errno or 0).lower()
        case _:
            return "the connection failed"
