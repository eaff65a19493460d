"""The I/O shell: calls to LMArena, and what their answers mean before a stream begins.

async with connect(settings, alarms) as client:
    answer = await client.open(call, credentials, first_byte_timeout=120)   # `upstream.answer` has the rest
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from time import monotonic  # the loop's own clock, in a third of the time
from typing import Final

import orjson
from multidict import CIMultiDict
from yarl import URL

from upstream import cookies
from upstream.alarms import Alarms
from upstream.answer import ArenaAnswer
from upstream.errors import (
    NotThere,
    ProtocolViolated,
    Redirected,
    SessionExpired,
    SiteChanged,
    StaleAction,
    Unreachable,
    UpstreamError,
)
from upstream.evaluations import CONTENT_TYPE, Call, history_path, referer
from upstream.exchange import Exchanges, Response, exchanging
from upstream.refusals import is_stream, read_page, read_refusal
from upstream.site_clock import SiteClock
from upstream.transfer import SENDING_ERRORS, read_bounded, reading, unanswered

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
#: The page holds some 300 KB of flight data; 320 models are 200 KB of it.
MAX_PAGE_BYTES: Final = 16 * 1024 * 1024
#: Redirects followed within the configured origins.
MAX_REDIRECTS: Final = 3


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


@dataclass(slots=True, eq=False)
class Credentials:
    """The session cookie that the next call shows, and who is told when upstream rotates it.

    A call may be several requests, after a redirect for one: each shows what the one before has brought.
    """

    session: str = field(repr=False)
    on_rotated: Callable[[str], None] = field(repr=False)

    def rotate(self, session: str) -> None:
        """Take over the cookie that the site has put in this one's place."""
        self.session = session
        self.on_rotated(session)


@dataclass(frozen=True, slots=True)
class Me:
    """What the site says of an account: `email` is '' for a guest; `consented` is whether its terms were accepted."""

    email: str = field(repr=False)
    consented: bool


@asynccontextmanager
async def connect(settings: Settings, alarms: Alarms) -> AsyncIterator[ArenaClient]:
    """Own the connections: they are closed on the way out."""
    async with exchanging(settings.connections, settings.connect_timeout, alarms) as exchanges:
        yield ArenaClient(exchanges, settings)


class ArenaClient:
    """Speaks to one site, whose origin may move among the configured ones."""

    def __init__(self, exchanges: Exchanges, settings: Settings) -> None:
        self._exchanges = exchanges
        self.settings = settings
        self.clock = SiteClock()
        #: Where the site is now: `base_url`'s origin until a permanent redirect names another allowed one.
        self.origin = self._home
        #: Where the page is now, as redirects or its absence elsewhere have shown.
        self.page_path = PAGE_PATHS[0]

    @property
    def _home(self) -> str:
        return str(URL(self.settings.base_url).origin())

    def reconfigure(self, settings: Settings) -> None:
        """Use other settings for the next calls; another `base_url` is where the site is from now on."""
        moved = settings.base_url != self.settings.base_url or self.origin not in settings.origins
        self.settings = settings
        if moved:
            self.origin = self._home

    async def open(self, call: Call, credentials: Credentials, *, first_byte_timeout: float) -> ArenaAnswer:
        """Make a streaming call; return its answer, whose lines are still to be read.

        Raises whatever `upstream.refusals` reads from an answer that is no stream, Unreachable, Redirected, TimedOut,
        or ServerFailed when the connection died after the call was sent.
        """
        deadline = monotonic() + first_byte_timeout
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
                page = await read_bounded(response.connection.read, MAX_REFUSAL_BYTES)
            raise read_page(response.content_type, page)
        return ArenaAnswer(response, deadline, self.settings.idle_timeout, first_byte_timeout)

    async def page(self, credentials: Credentials | None = None, *, timeout: float) -> str:
        """Read the page, wherever it is. Raises as `open` does."""
        first = self.page_path
        try:
            return await self.read(first, credentials, timeout=timeout)
        except NotThere:
            for path in PAGE_PATHS:
                if path != first:
                    page = await self.read(path, credentials, timeout=timeout)
                    if self.page_path == first:  # no redirect has named a better one
                        self.page_path = path
                    return page
            raise

    async def read(self, path: str, credentials: Credentials | None = None, *, timeout: float) -> str:
        """Read a page or a script. Raises as `open` does."""
        return (await self._get(path, credentials, timeout, "text/html,*/*"))[1].decode("utf-8", "replace")

    async def catalog(self, *, timeout: float) -> bytes | None:
        """Read the list of models as JSON; None where the site has no such list. Raises as `open` does."""
        return await self._document(CATALOG_PATH, None, timeout)

    async def me(self, credentials: Credentials, *, timeout: float) -> Me | None:
        """Ask who is logged in, which also renews a session near its end; None where the site has no such call.

        Raises as `open` does: SessionExpired where nobody is.
        """
        body = await self._document(ME_PATH, credentials, timeout)
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
        return await self._document(history_path(evaluation_id), credentials, timeout, evaluation_id)

    async def _document(
        self, path: str, credentials: Credentials | None, timeout: float, evaluation_id: str | None = None
    ) -> bytes | None:
        """Read a JSON document; None where there is none: 404, or the page that says not found with 200."""
        try:
            response, body = await self._get(path, credentials, timeout, "application/json", evaluation_id)
        except (NotThere, SiteChanged):
            return None
        if response.content_type == "application/json":
            return body
        wall = read_page(response.content_type, body)
        if isinstance(wall, ProtocolViolated | NotThere):
            return None
        raise wall

    async def _get(
        self,
        path: str,
        credentials: Credentials | None,
        timeout: float,
        accept: str,
        evaluation_id: str | None = None,
    ) -> tuple[Response, bytes]:
        deadline = monotonic() + timeout
        headers = {"Accept": accept}
        response = await self._request("GET", path, credentials, deadline, headers=headers, evaluation_id=evaluation_id)
        with reading(response):
            return response, await read_bounded(response.connection.read, MAX_PAGE_BYTES)

    async def action(self, action_id: str, body: bytes, credentials: Credentials, *, timeout: float) -> bytes:
        """Call one of the page's server actions (docs/protocol.md, "Uploads"); return its answer, rows of flight data.

        Raises as `open` does, and StaleAction where the site does not know the id (any more), or has moved the page:
        the ids are to be read again from where the page is now.
        """
        deadline = monotonic() + timeout
        headers = {"Content-Type": CONTENT_TYPE, "Accept": ACTION_TYPE, "Next-Action": action_id}
        try:
            response = await self._request("POST", self.page_path, credentials, deadline, body=body, headers=headers)
            with reading(response):
                answer = await read_bounded(response.connection.read, MAX_PAGE_BYTES)
            if response.content_type != ACTION_TYPE:
                raise read_page(response.content_type, answer)
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
    ) -> Response:
        """Send, follow redirects within the origins, take over a rotated cookie, raise what is no success."""
        origin, target = self.origin, path
        is_page = path == self.page_path  # which another call may change meanwhile
        on_head = None if credentials is None else partial(_take_rotation, credentials)
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
            try:
                response = await self._exchanges.request(
                    method, origin, target, sent, body, deadline, patience, on_head
                )
            except SENDING_ERRORS as error:
                raise self._unanswered(error, origin) from None
            self.clock.learn(response.headers, now=response.status == HTTPStatus.BAD_REQUEST)
            if response.status == HTTPStatus.OK:
                coding = response.headers.get("Content-Encoding", "identity")
                if coding.lower() != "identity":
                    response.close()
                    raise ProtocolViolated(f"LMArena encoded its answer ({coding[:20]}), which it was not asked to.")
                return response
            if not 300 <= response.status < 400:
                with reading(response):
                    refusal = await read_bounded(response.connection.read, MAX_REFUSAL_BYTES)
                raise read_refusal(response.status, response.headers, refusal)
            origin, target = self._follow(response, URL(origin + target, encoded=True), method, is_page=is_page)
        raise ProtocolViolated(f"LMArena redirects in a circle ({origin}).")

    def _unanswered(self, error: Exception, origin: str) -> UpstreamError:
        """Translate a failure to send; a redirect that led to a place where nobody answers is not believed further."""
        translated = unanswered(error)
        if isinstance(translated, Unreachable) and origin == self.origin:
            self.origin = self._home
        return translated

    def _follow(self, response: Response, url: URL, method: str, *, is_page: bool) -> tuple[str, str]:
        """Say where a redirect leads: origin and target. Cookies go to no host outside the configured origins.

        `is_page` says that the page was asked for, or one of its actions.
        """
        response.release()
        location = response.headers.get("Location") or "about:blank"  # joined, '' would be this call once more
        try:
            target = url.join(URL(location))
            origin = str(target.origin())
        except ValueError as error:
            raise ProtocolViolated("LMArena sent a redirect that leads nowhere.", status=response.status) from error
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


def _take_rotation(credentials: Credentials, headers: CIMultiDict[str]) -> None:
    """Take over the cookie that an answer brings, in the moment it comes: the one before is dead from then on."""
    rotated = cookies.rotated(headers.getall("Set-Cookie", ()), credentials.session)
    if rotated is not None:
        credentials.rotate(rotated)
