"""The LMArena client: sends calls, follows redirects, and turns unsuccessful answers into errors.

async with connect(settings, timers) as client:
    answer = await client.open(call, credentials, first_byte_timeout=120)   # then see `upstream.answer`
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from time import monotonic  # the loop's own clock
from typing import Final

import orjson
from multidict import CIMultiDict
from yarl import URL

from upstream.answer import ArenaAnswer
from upstream.capture import CapturingExchanges
from upstream.credentials import Credentials
from upstream.http.connection import MAX_HEAD_BYTES
from upstream.http.exchange import open_exchanges
from upstream.http.exchange_types import Exchanges, HttpError, Response
from upstream.http.proxies import DIRECT, Proxies
from upstream.loop.timers import Timers
from upstream.protocol import cookies
from upstream.protocol.errors import (
    NotFound,
    ProtocolViolated,
    SiteChanged,
    StaleAction,
    UpstreamError,
)
from upstream.protocol.evaluations import CONTENT_TYPE, Call, history_path, referer
from upstream.protocol.memory_budget import MemoryBudget
from upstream.protocol.refusals import is_stream, quotable, read_page, read_refusal
from upstream.protocol.secrets import Secrets
from upstream.responses import read_prefix, reading, to_upstream_error
from upstream.site_clock import SiteClock
from upstream.site_location import PAGE_PATHS, SiteLocation

#: The list of models as JSON; needs no login.
CATALOG_PATH: Final = "/nextjs-api/model-catalog"
#: Returns who is logged in; also the cheapest call that renews a session near its expiry.
ME_PATH: Final = "/api/me"
#: React's flight data, the format of a server action's answer.
ACTION_TYPE: Final = "text/x-component"
#: A refusal's text is short; if it is a page instead, only its title matters.
MAX_REFUSAL_BYTES: Final = 64 * 1024
#: A page or a script. The page holds some 300 KB of flight data; 320 models are 200 KB of it.
MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
#: The catalog has some 460 entries, 300 KB in all.
MAX_CATALOG_BYTES: Final = 2 * 1024 * 1024
#: The user's data from ME_PATH.
MAX_ME_BYTES: Final = 256 * 1024
#: An evaluation read back: the site refuses prompts above 113,000 characters.
MAX_HISTORY_BYTES: Final = 4 * 1024 * 1024
#: A server action answers with some 120 KB, one row of which matters.
MAX_ACTION_BYTES: Final = 1024 * 1024
#: A rotated session cookie, its pieces joined.
MAX_SESSION_CHARS: Final = MAX_HEAD_BYTES
#: Redirects followed within the configured origins.
MAX_REDIRECTS: Final = 3
#: Statuses of redirects that are followed.
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Where and how to call. Timeouts are in seconds; `connections` limits the pool, including open streams.

    `connections`, `connect_timeout` and `proxies` cannot be changed later.
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
class SiteUser:
    """A user of the site: `email` is '' for a guest; `consented` is whether the user has accepted the terms."""

    email: str = field(repr=False)
    consented: bool


@asynccontextmanager
async def connect(settings: ClientSettings, timers: Timers) -> AsyncIterator[ArenaClient]:
    """Own the connections, closed on exit."""
    async with open_exchanges(
        settings.connections, settings.connect_timeout, timers, proxies=settings.proxies
    ) as exchanges:
        yield ArenaClient(CapturingExchanges(exchanges), settings)


class ArenaClient:
    """Calls one site, which may move among the configured origins."""

    def __init__(self, exchanges: Exchanges, settings: ClientSettings) -> None:
        self._exchanges = exchanges
        self.settings = settings
        self.clock = SiteClock()
        self.location = SiteLocation(settings.base_url, settings.origins)
        self._memory_budget = MemoryBudget()
        #: Called with each answer that shows that the site has changed, after the call's method and path.
        self.on_unknown_answer: Callable[[str, str, Response, bytes], None] = lambda _method, _path, _response, _body: (
            None
        )

    def reconfigure(self, settings: ClientSettings) -> None:
        """Use other settings for the next calls; the site's origin and its page's path are learned again."""
        self.settings = replace(settings, proxies=self.settings.proxies)
        self.location = SiteLocation(settings.base_url, settings.origins)

    @property
    def route(self) -> str:
        """How calls reach the current origin, such as `through the SOCKS5 proxy at …`; '' directly, as for http."""
        url = URL(self.location.origin)
        if url.scheme == "http":
            return ""
        return self.settings.proxies.describe(url.scheme, url.raw_host or "", url.port or 0)

    def may_replace(self, session: str) -> bool:
        """Whether the response to a request with this cookie has not begun: it may bring the cookie's replacement."""
        awaited = self._exchanges.awaited_heads()
        return any(isinstance(each, _HeadTaker) and each.credentials.session == session for each in awaited)

    async def open(self, call: Call, credentials: Credentials, *, first_byte_timeout: float) -> ArenaAnswer:
        """Make a streaming call; return its answer, which has not been read yet.

        Raises the errors of `upstream.protocol.refusals` if the answer is not a stream, Unreachable, Redirected,
        TimedOut, or ServerFailed if the connection broke after the call was sent.
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
            min_extension=self.settings.idle_timeout,
        )
        if not is_stream(response.headers.get("Content-Type", "")):
            with reading(response):
                page = await read_prefix(response, MAX_REFUSAL_BYTES)
            raise self._handled(self._not_streamed(call, response, page), response.origin, credentials)
        return ArenaAnswer(
            response,
            deadline,
            self.settings.idle_timeout,
            first_byte_timeout,
            memory_budget=self._memory_budget,
            secrets=self._secrets(credentials, before),
        )

    def _not_streamed(self, call: Call, response: Response, page: bytes) -> UpstreamError:
        """The error for a page in place of a stream. A local variable for it in `open` would be a reference cycle."""
        found = read_page(response.content_type, page)
        if isinstance(found, ProtocolViolated):
            self.on_unknown_answer(call.method, call.path, response, page)
        return found

    async def page(self, credentials: Credentials | None = None, *, timeout: float) -> str:
        """Read the page, trying all known paths. Raises as `open` does."""
        first = self.location.page_path
        paths = list(dict.fromkeys((first, *PAGE_PATHS)))
        while True:
            path = paths.pop(0)
            try:
                page = await self._page_at(path, credentials, timeout)
            except NotFound:
                if not paths:
                    raise
                continue
            if path != first and self.location.page_path == first:  # no redirect has changed it meanwhile
                self.location.page_path = path
            return page

    async def _page_at(self, path: str, credentials: Credentials | None, timeout: float) -> str:
        response, body = await self._get(path, credentials, timeout, "text/html,*/*", MAX_PAGE_BYTES, is_page=True)
        found = read_page(response.content_type, body)
        try:
            if isinstance(found, NotFound):
                raise found
        finally:
            del found  # the error's traceback refers to this frame, which must not refer to the error
        return body.decode("utf-8", "replace")

    async def read(self, path: str, *, timeout: float) -> str:
        """Read a text document, such as a script. Raises as `open` does."""
        _, body = await self._get(path, None, timeout, "text/html,*/*", MAX_PAGE_BYTES)
        return body.decode("utf-8", "replace")

    async def catalog(self, *, timeout: float) -> bytes | None:
        """Read the list of models as JSON; None if the site has no such list. Raises as `open` does."""
        return await self._document(CATALOG_PATH, None, timeout, MAX_CATALOG_BYTES)

    async def me(self, credentials: Credentials, *, timeout: float) -> SiteUser | None:
        """Ask who is logged in, which also renews a session near its expiry; None if the site has no such call.

        Raises as `open` does, SessionExpired if the cookie is not valid.
        """
        body = await self._document(ME_PATH, credentials, timeout, MAX_ME_BYTES)
        try:
            found = None if body is None else orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(found, dict) or "email" not in found:
            return None
        email = found["email"]
        return SiteUser(email if isinstance(email, str) else "", consented=bool(found.get("touConsentTimestamp")))

    async def history(self, evaluation_id: str, credentials: Credentials, *, timeout: float) -> bytes | None:
        """Read an evaluation back (`evaluations.read_back`); None if the site has no such call or evaluation."""
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
        """Read a JSON document; None if it is missing: 404, or a page with status 200 that says not found."""
        try:
            response, body = await self._get(path, credentials, timeout, "application/json", limit, evaluation_id)
        except (NotFound, SiteChanged):
            return None
        if response.content_type == "application/json":
            return body
        wall = read_page(response.content_type, body)
        try:
            if isinstance(wall, ProtocolViolated | NotFound):
                return None
            raise self._handled(wall, response.origin, credentials)
        finally:
            del wall  # as in `_page_at`

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
            return response, await read_prefix(response, limit)

    async def action(self, action_id: str, body: bytes, credentials: Credentials, *, timeout: float) -> bytes:
        """Call one of the page's server actions; return its answer: rows of flight data (`flight.action_result`).

        Raises as `open` does, and StaleAction if the site does not know the id (any more) or has moved the page: then
        the ids must be read again from the page.
        """
        deadline = monotonic() + timeout
        headers = {"Content-Type": CONTENT_TYPE, "Accept": ACTION_TYPE, "Next-Action": action_id}
        try:
            response = await self._request(
                "POST", self.location.page_path, credentials, deadline, body=body, headers=headers, is_page=True
            )
            with reading(response):
                answer = await read_prefix(response, MAX_ACTION_BYTES)
            if response.content_type != ACTION_TYPE:
                raise self._handled(read_page(response.content_type, answer), response.origin, credentials)
        except NotFound as error:
            raise StaleAction("LMArena's page is no longer at its path.", status=error.status) from error
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
        min_extension: float = math.inf,
        is_page: bool = False,
    ) -> Response:
        """Send a request, follow redirects within the origins, accept a rotated cookie, raise unsuccessful answers.

        `is_page`: the request is for the page or one of its actions, so redirects show the page's new path.
        """
        origin, target = self.location.origin, path
        before = credentials.session if credentials is not None else ""
        on_head = None if credentials is None else _HeadTaker(credentials)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                sent = {**headers, **self._headers(origin, credentials, evaluation_id)}
                try:
                    response = await self._exchanges.request(
                        method, origin, target, sent, body, deadline, min_extension, on_head
                    )
                except HttpError as error:
                    raise to_upstream_error(error) from None
                self.clock.learn(response.headers, now=response.status == HTTPStatus.BAD_REQUEST)
                if response.status == HTTPStatus.OK:
                    return _unencoded(response)
                if response.status not in _REDIRECTS:
                    raise await self._refusal(response, method, target)
                response.release()
                url, location = URL(origin + target, encoded=True), response.headers.get("Location")
                origin, target = self.location.follow(response.status, location, url, method, is_page=is_page)
        except UpstreamError as error:
            self._handled(error, origin, credentials, before, is_get=method == "GET")
            raise
        raise self._handled(ProtocolViolated(f"LMArena redirects in a loop ({origin})."), origin, credentials, before)

    async def _refusal(self, response: Response, method: str, path: str) -> UpstreamError:
        """Read a response that is neither a success nor a redirect."""
        now, refusal = self.clock(), b""
        if response.status < HTTPStatus.OK:  # 101: another protocol begins, so there is no body
            response.close()
        else:
            with reading(response):
                refusal = await read_prefix(response, MAX_REFUSAL_BYTES)
        error = read_refusal(response.status, response.headers, refusal, now)
        if isinstance(error, SiteChanged):
            self.on_unknown_answer(method, path, response, refusal)
        return error

    def _headers(self, origin: str, credentials: Credentials | None, evaluation_id: str | None) -> dict[str, str]:
        """The headers of every call, among them the browser's user agent and cookies."""
        sent = {
            "User-Agent": self.settings.user_agent,
            "Accept-Encoding": "identity",  # compression would delay a stream until its blocks are full
            "Origin": origin,
        }
        if evaluation_id is not None:
            sent["Referer"] = referer(origin, evaluation_id)
        session = credentials.session if credentials is not None else ""
        if cookie := cookies.cookie_header(session, self.settings.cf_clearance):
            sent["Cookie"] = cookie
        return sent

    def _secrets(self, credentials: Credentials | None, before: str) -> Secrets:
        """The secrets that no error may quote; `before` is the cookie that was sent first."""
        now = credentials.session if credentials is not None else ""
        return Secrets(before, now, clearance=self.settings.cf_clearance)

    def _handled(
        self,
        error: UpstreamError,
        origin: str,
        credentials: Credentials | None,
        before: str = "",
        *,
        is_get: bool = False,
    ) -> UpstreamError:
        """Remove secrets from a call's error and return it; the location learns from it.

        `before` is the cookie that was sent first.
        """
        self._secrets(credentials, before).redact(error)
        self.location.note_error(error, origin, is_get=is_get)
        return error


def _unencoded(response: Response) -> Response:
    """Raise ProtocolViolated if the body has a content coding, which was not requested."""
    coding = response.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        response.close()
        raise ProtocolViolated(
            f"LMArena's answer has a content coding ({quotable(coding[:20])}) that was not requested."
        )
    return response


@dataclass(slots=True, eq=False)
class _HeadTaker:
    """Takes the limit and the new cookie from a head as soon as it arrives: the old cookie is then invalid."""

    credentials: Credentials

    def __call__(self, headers: CIMultiDict[str]) -> None:
        credentials = self.credentials
        if (limit := headers.get("ratelimit")) is not None:
            credentials.limit = limit, headers.get("ratelimit-policy", "")
        rotated = cookies.rotated(headers.getall("Set-Cookie", ()), credentials.session)
        if rotated is not None and len(rotated) <= MAX_SESSION_CHARS:
            credentials.rotate(rotated)
