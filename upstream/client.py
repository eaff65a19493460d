"""The I/O shell: calls to LMArena, and what their answers mean before a stream begins.

async with connect(settings, alarms) as client:
    answer = await client.open(call, credentials, first_byte_timeout=120)   # `upstream.answer` has the rest
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic  # the loop's own clock, in a third of the time
from typing import Final

from multidict import CIMultiDict
from yarl import URL

from upstream import cookies
from upstream.alarms import Alarms
from upstream.answer import ArenaAnswer
from upstream.errors import ProtocolViolated, Redirected, SessionExpired
from upstream.evaluations import CONTENT_TYPE, Call, referer
from upstream.exchange import Exchanges, Response, exchanging
from upstream.refusals import is_stream, read_page, read_refusal
from upstream.transfer import SENDING_ERRORS, read_bounded, reading, unanswered

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
async def connect(settings: Settings, alarms: Alarms) -> AsyncIterator[ArenaClient]:
    """Own the connections: they are closed on the way out."""
    async with exchanging(settings.connections, settings.connect_timeout, alarms) as exchanges:
        yield ArenaClient(exchanges, settings)


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

    async def page(self, path: str, credentials: Credentials | None, *, timeout: float) -> str:
        """Read a page or a script. Raises as `open` does."""
        deadline = monotonic() + timeout
        response = await self._request("GET", path, credentials, deadline, headers={"Accept": "text/html,*/*"})
        with reading(response):
            return (await read_bounded(response.connection.read, MAX_PAGE_BYTES)).decode("utf-8", "replace")

    async def action(self, action_id: str, body: bytes, credentials: Credentials, *, timeout: float) -> bytes:
        """Call one of the page's server actions (PROTOCOL, image upload); return its answer, rows of flight data.

        Raises as `open` does, and StaleAction where the site does not know the id (any more).
        """
        deadline = monotonic() + timeout
        headers = {"Content-Type": CONTENT_TYPE, "Accept": ACTION_TYPE, "Next-Action": action_id}
        response = await self._request("POST", PAGE, credentials, deadline, body=body, headers=headers)
        with reading(response):
            answer = await read_bounded(response.connection.read, MAX_PAGE_BYTES)
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
        patience: float = math.inf,
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
            try:
                response = await self._exchanges.request(method, origin, target, sent, body, deadline, patience)
            except SENDING_ERRORS as error:
                raise unanswered(error) from None
            if credentials is not None and "Set-Cookie" in response.headers:
                _take_rotation(response.headers, credentials)
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
            origin, target = self._follow(response, URL(origin + target, encoded=True), method)
        raise ProtocolViolated(f"LMArena redirects in a circle ({origin}).")

    def _follow(self, response: Response, url: URL, method: str) -> tuple[str, str]:
        """Say where a redirect leads: origin and target. Cookies go to no host outside the configured origins."""
        response.release()
        location = response.headers.get("Location") or "about:blank"  # joined, '' would be this call once more
        try:
            target = url.join(URL(location))
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


def _take_rotation(headers: CIMultiDict[str], credentials: Credentials) -> None:
    rotated = cookies.rotated(headers.getall("Set-Cookie"), credentials.session)
    if rotated is not None:
        credentials.on_rotated(rotated)
