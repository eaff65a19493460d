"""The I/O shell: calls to LMArena, and what their answers mean before a stream begins.

async with connect(settings, timers) as client:
    answer = await client.open(call, credentials, first_byte_timeout=120)   # `upstream.answer` has the rest
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from time import monotonic  # the loop's own clock
from typing import Final

import orjson
from multidict import CIMultiDict
from yarl import URL

from upstream.answer import ArenaAnswer
from upstream.credentials import Credentials
from upstream.http.connection import MAX_HEAD_BYTES
from upstream.http.exchange import exchanging
from upstream.http.exchange_types import Exchanges, HttpError, Response
from upstream.http.proxies import DIRECT, Proxies
from upstream.loop.timers import Timers
from upstream.protocol import cookies
from upstream.protocol.errors import (
    NotThere,
    ProtocolViolated,
    Redirected,
    ServerFailed,
    SessionExpired,
    SiteChanged,
    StaleAction,
    TimedOut,
    Unavailable,
    Unreachable,
    UpstreamError,
)
from upstream.protocol.evaluations import CONTENT_TYPE, Call, history_path, referer
from upstream.protocol.held import Held
from upstream.protocol.refusals import is_stream, quotable, read_page, read_refusal
from upstream.protocol.secrets import Secrets
from upstream.responses import read_bounded, reading, unanswered
from upstream.site_clock import SiteClock

#: Where the page has been that holds the models, names the scripts and takes its server actions; the likeliest first.
PAGE_PATHS: Final = ("/text/direct", "/?mode=direct")
#: The list of models by itself, for visitors too.
CATALOG_PATH: Final = "/nextjs-api/model-catalog"
#: Who is logged in; also the cheap call that renews a session near its end.
ME_PATH: Final = "/api/me"
#: Where the site sends who has to log in.
_LOGIN_PATH: Final = re.compile(r"/(?:log-?in|sign-?in|auth)(?:/|$)", re.IGNORECASE)
#: React's flight data, as a server action answers with it.
ACTION_TYPE: Final = "text/x-component"
#: A refusal's text is short; a page in its place is read no further than its title needs.
MAX_REFUSAL_BYTES: Final = 64 * 1024
#: A page or a script. The page holds some 300 KB of flight data; 320 models are 200 KB of it.
MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
#: The catalog has some 460 entries, 300 KB in all.
MAX_CATALOG_BYTES: Final = 2 * 1024 * 1024
#: What the site says of a user.
MAX_ME_BYTES: Final = 256 * 1024
#: An evaluation that is read back: the site refuses prompts above 113,000 characters.
MAX_HISTORY_BYTES: Final = 4 * 1024 * 1024
#: A server action answers with some 120 KB, of which one row matters.
MAX_ACTION_BYTES: Final = 1024 * 1024
#: A session cookie that rotates, its pieces together.
MAX_SESSION_CHARS: Final = MAX_HEAD_BYTES
#: An origin that a redirect names: DNS allows a host of 253.
_MAX_ORIGIN_CHARS: Final = 300
#: Redirects followed within the configured origins.
MAX_REDIRECTS: Final = 3
#: Statuses of redirects that are followed.
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: Failures by which a place to which the site has moved is doubted: nobody is there, or nothing works there.
_FAILED: Final = Unreachable | TimedOut | ServerFailed | Unavailable | Redirected
#: What a chat meets where another site, or none, stands in the place of the one that is sought.
_STRANGE: Final = NotThere | SiteChanged | ProtocolViolated


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Where and how to call. Timeouts in seconds; `connections` bounds the pool, streams included.

    `connections`, `connect_timeout` and `proxies` hold for the client's whole life.
    """

    base_url: str
    origins: frozenset[str]
    user_agent: str
    cf_clearance: str = field(repr=False)
    connect_timeout: float
    idle_timeout: float
    connections: int
    proxies: Proxies = DIRECT


@dataclass(frozen=True, slots=True)
class Me:
    """What the site says of an account: `email` is '' for a guest; `consented` is whether its terms were accepted."""

    email: str = field(repr=False)
    consented: bool


@asynccontextmanager
async def connect(settings: ClientSettings, timers: Timers) -> AsyncIterator[ArenaClient]:
    """Own the connections: they are closed on the way out."""
    async with exchanging(
        settings.connections, settings.connect_timeout, timers, proxies=settings.proxies
    ) as exchanges:
        yield ArenaClient(exchanges, settings)


class ArenaClient:
    """Speaks to one site, whose origin may move among the configured ones."""

    def __init__(self, exchanges: Exchanges, settings: ClientSettings) -> None:
        self._exchanges = exchanges
        self.settings = settings
        self.clock = SiteClock()
        #: Where the site is now: `base_url`'s origin until a permanent redirect names another allowed one.
        self.origin = self._home
        #: Where it was last beside `base_url`'s origin; '' where it never was.
        self._moved_to = ""
        #: Where the page is now, as redirects or its absence elsewhere have shown.
        self.page_path = PAGE_PATHS[0]
        self._held = Held()

    @property
    def _home(self) -> str:
        return str(URL(self.settings.base_url).origin())

    def reconfigure(self, settings: ClientSettings) -> None:
        """Use other settings for the next calls; where the site is, and its page, is learned again."""
        self.settings = replace(settings, proxies=self.settings.proxies)
        self.origin, self._moved_to, self.page_path = self._home, "", PAGE_PATHS[0]

    @property
    def way(self) -> str:
        """How calls go to where the site is now: `through the SOCKS5 proxy at …`; '' directly, as plain http does."""
        url = URL(self.origin)
        if url.scheme == "http":
            return ""
        return self.settings.proxies.describe(url.scheme, url.raw_host or "", url.port or 0)

    async def open(self, call: Call, credentials: Credentials, *, first_byte_timeout: float) -> ArenaAnswer:
        """Make a streaming call; return its answer, whose lines are still to be read.

        Raises what `upstream.protocol.refusals` reads from an answer that is no stream, Unreachable, Redirected,
        TimedOut, or ServerFailed when the connection died after the call was sent.
        """
        deadline = monotonic() + first_byte_timeout
        before = credentials.session
        response = await self._request(
            call.method,
            call.path,
            credentials,
            deadline,
            body=call.body,
            headers={"Content-Type": CONTENT_TYPE, "Accept": "*/*"},
            evaluation_id=call.evaluation_id,
            patience=self.settings.idle_timeout,
        )
        if not is_stream(response.headers.get("Content-Type", "")):
            with reading(response):
                page = await read_bounded(response, MAX_REFUSAL_BYTES)
            raise self._judged(read_page(response.content_type, page), response.origin, credentials)
        return ArenaAnswer(
            response,
            deadline,
            self.settings.idle_timeout,
            first_byte_timeout,
            held=self._held,
            secrets=self._shown(credentials, before),
        )

    async def page(self, credentials: Credentials | None = None, *, timeout: float) -> str:
        """Read the page, wherever it is. Raises as `open` does."""
        first = self.page_path
        missing: NotThere | None = None
        for path in dict.fromkeys((first, *PAGE_PATHS)):
            try:
                page = await self._page_at(path, credentials, timeout)
            except NotThere as error:
                missing = error
                continue
            if path != first and self.page_path == first:  # no redirect has named a better one
                self.page_path = path
            return page
        raise missing or NotThere("LMArena has its page nowhere.")

    async def _page_at(self, path: str, credentials: Credentials | None, timeout: float) -> str:
        response, body = await self._get(path, credentials, timeout, "text/html,*/*", MAX_PAGE_BYTES, is_page=True)
        found = read_page(response.content_type, body)
        if isinstance(found, NotThere):
            raise found
        return body.decode("utf-8", "replace")

    async def read(self, path: str, credentials: Credentials | None = None, *, timeout: float) -> str:
        """Read a script, say. Raises as `open` does."""
        _, body = await self._get(path, credentials, timeout, "text/html,*/*", MAX_PAGE_BYTES)
        return body.decode("utf-8", "replace")

    async def catalog(self, *, timeout: float) -> bytes | None:
        """Read the list of models as JSON; None where the site has no such list. Raises as `open` does."""
        return await self._document(CATALOG_PATH, None, timeout, MAX_CATALOG_BYTES)

    async def me(self, credentials: Credentials, *, timeout: float) -> Me | None:
        """Ask who is logged in, which also renews a session near its end; None where the site has no such call.

        Raises as `open` does: SessionExpired where nobody is.
        """
        body = await self._document(ME_PATH, credentials, timeout, MAX_ME_BYTES)
        try:
            found = None if body is None else orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(found, dict) or "email" not in found:
            return None
        email = found["email"]
        return Me(email if isinstance(email, str) else "", consented=bool(found.get("touConsentTimestamp")))

    async def history(self, evaluation_id: str, credentials: Credentials, *, timeout: float) -> bytes | None:
        """Read an evaluation back (`evaluations.read_back`); None where the site has no such call or evaluation."""
        path = history_path(evaluation_id)
        return await self._document(path, credentials, timeout, MAX_HISTORY_BYTES, evaluation_id)

    async def _document(
        self,
        path: str,
        credentials: Credentials | None,
        timeout: float,
        limit: int,
        evaluation_id: str | None = None,
    ) -> bytes | None:
        """Read a JSON document; None where there is none: 404, or the page that says not found with 200."""
        try:
            response, body = await self._get(path, credentials, timeout, "application/json", limit, evaluation_id)
        except (NotThere, SiteChanged):
            return None
        if response.content_type == "application/json":
            return body
        wall = read_page(response.content_type, body)
        if isinstance(wall, ProtocolViolated | NotThere):
            return None
        raise self._judged(wall, response.origin, credentials)

    async def _get(
        self,
        path: str,
        credentials: Credentials | None,
        timeout: float,
        accept: str,
        limit: int,
        evaluation_id: str | None = None,
        *,
        is_page: bool = False,
    ) -> tuple[Response, bytes]:
        deadline = monotonic() + timeout
        headers = {"Accept": accept}
        response = await self._request(
            "GET", path, credentials, deadline, headers=headers, evaluation_id=evaluation_id, is_page=is_page
        )
        with reading(response):
            return response, await read_bounded(response, limit)

    async def action(self, action_id: str, body: bytes, credentials: Credentials, *, timeout: float) -> bytes:
        """Call one of the page's server actions (docs/protocol.md, "Server actions and uploads"); return its answer,
        rows of flight data.

        Raises as `open` does, and StaleAction where the site does not know the id (any more), or has moved the page:
        the ids are to be read again from where the page is now.
        """
        deadline = monotonic() + timeout
        headers = {"Content-Type": CONTENT_TYPE, "Accept": ACTION_TYPE, "Next-Action": action_id}
        try:
            response = await self._request(
                "POST", self.page_path, credentials, deadline, body=body, headers=headers, is_page=True
            )
            with reading(response):
                answer = await read_bounded(response, MAX_ACTION_BYTES)
            if response.content_type != ACTION_TYPE:
                raise self._judged(read_page(response.content_type, answer), response.origin, credentials)
        except NotThere as error:
            raise StaleAction("LMArena no longer has its page where it was.", status=error.status) from error
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
        patience: float = math.inf,
        is_page: bool = False,
    ) -> Response:
        """Send, follow redirects within the origins, take over a rotated cookie, raise what is no success.

        `is_page` says that the page is asked for, or one of its actions: redirects show where it is.
        """
        origin, target = self.origin, path
        before = credentials.session if credentials is not None else ""
        on_head = None if credentials is None else partial(_take_rotation, credentials)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                sent = {**headers, **self._introduction(origin, credentials, evaluation_id)}
                try:
                    response = await self._exchanges.request(
                        method, origin, target, sent, body, deadline, patience, on_head
                    )
                except HttpError as error:
                    raise unanswered(error) from None
                self.clock.learn(response.headers, now=response.status == HTTPStatus.BAD_REQUEST)
                if response.status == HTTPStatus.OK:
                    return _plain(response)
                if response.status not in _REDIRECTS:
                    raise await _refusal(response, self.clock())
                origin, target = self._follow(response, URL(origin + target, encoded=True), method, is_page=is_page)
        except UpstreamError as error:
            self._judged(error, origin, credentials, before, asks=method == "GET")
            raise
        raise self._judged(ProtocolViolated(f"LMArena redirects in a circle ({origin})."), origin, credentials, before)

    def _introduction(self, origin: str, credentials: Credentials | None, evaluation_id: str | None) -> dict[str, str]:
        """The headers by which a call is known as the browser's."""
        sent = {
            "User-Agent": self.settings.user_agent,
            "Accept-Encoding": "identity",  # a compressed stream would be delayed by its own blocks
            "Origin": origin,
        }
        if evaluation_id is not None:
            sent["Referer"] = referer(origin, evaluation_id)
        session = credentials.session if credentials is not None else ""
        if cookie := cookies.cookie_header(session, self.settings.cf_clearance):
            sent["Cookie"] = cookie
        return sent

    def _shown(self, credentials: Credentials | None, before: str = "") -> Secrets:
        """What no error may quote; `before` is the cookie that was shown first."""
        now = credentials.session if credentials is not None else ""
        return Secrets(before, now, clearance=self.settings.cf_clearance)

    def _judged(
        self,
        error: UpstreamError,
        origin: str,
        credentials: Credentials | None,
        before: str = "",
        *,
        asks: bool = False,
    ) -> UpstreamError:
        """The error of a call, without secrets; a place that does not answer as the site does is left for another.

        `before` is the cookie that was shown first. `asks`: the call was a GET, and what is not there may be the page
        or the document alone. The next call asks where `base_url` leads now, or, where nobody answers there, the place
        to which it led before.
        """
        self._shown(credentials, before).redact(error)
        if origin == self.origin:
            if origin != self._home:
                if isinstance(error, _FAILED if asks else _FAILED | _STRANGE):
                    self._moved_to, self.origin, self.page_path = origin, self._home, PAGE_PATHS[0]
            elif self._moved_to and isinstance(error, _FAILED) and error.status is None:
                self.origin = self._moved_to
        return error

    def _follow(self, response: Response, url: URL, method: str, *, is_page: bool) -> tuple[str, str]:
        """Say where a redirect leads: origin and target. Cookies go to no host outside the configured origins."""
        response.release()
        location = response.headers.get("Location") or "about:blank"  # joined, '' would be this call once more
        try:
            target = url.join(URL(location))
            origin = str(target.origin())
        except ValueError as error:
            raise ProtocolViolated("LMArena sent a redirect that leads nowhere.", status=response.status) from error
        if len(origin) > _MAX_ORIGIN_CHARS:
            raise ProtocolViolated("LMArena sent a redirect that leads nowhere.", status=response.status)
        if origin not in self.settings.origins:
            raise Redirected(f"LMArena redirects to {origin}.", origin=origin, status=response.status)
        if _LOGIN_PATH.search(target.path):
            raise SessionExpired("LMArena redirects the call to its login page.", status=response.status)
        permanent = response.status in (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.PERMANENT_REDIRECT)
        if permanent:
            self.origin = origin
        if is_page and target.raw_path_qs != url.raw_path_qs:
            if permanent:
                self.page_path = target.raw_path_qs
            if method != "GET" and response.status != HTTPStatus.TEMPORARY_REDIRECT:
                raise StaleAction("LMArena has moved its page.", status=response.status)
        elif method != "GET" and target.path != url.path:
            raise SiteChanged("LMArena redirects the call to another page.", status=response.status)
        return origin, target.raw_path_qs


def _plain(response: Response) -> Response:
    """A success, unless it is encoded, which it was not asked to be."""
    coding = response.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        response.close()
        raise ProtocolViolated(f"LMArena encoded its answer ({quotable(coding[:20])}), which it was not asked to.")
    return response


async def _refusal(response: Response, now: float) -> UpstreamError:
    """Read what is neither a success nor a redirect. `now` is unix time."""
    if response.status < HTTPStatus.OK:  # another protocol begins: what follows is no body
        response.close()
        return read_refusal(response.status, response.headers, b"", now)
    with reading(response):
        refusal = await read_bounded(response, MAX_REFUSAL_BYTES)
    return read_refusal(response.status, response.headers, refusal, now)


def _take_rotation(credentials: Credentials, headers: CIMultiDict[str]) -> None:
    """Take over the cookie that an answer brings, in the moment it comes: the one before is dead from then on."""
    rotated = cookies.rotated(headers.getall("Set-Cookie", ()), credentials.session)
    if rotated is not None and len(rotated) <= MAX_SESSION_CHARS:
        credentials.rotate(rotated)
