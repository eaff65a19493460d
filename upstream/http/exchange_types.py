"""The HTTP interface that the LMArena client uses: one request, its response, and how they fail.

`upstream.http.exchange` implements it. The client, the storage and the fetcher use nothing else of HTTP, and
`upstream.responses` translates these errors into the protocol's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from multidict import CIMultiDict


class HttpError(Exception):
    """A request failed. The texts neither quote the peer nor contain secrets."""


class NotSent(HttpError):
    """No connection was made, so nothing was sent. `cause` completes "cannot be reached: …", without a period."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class NotPublic(NotSent):
    """The address is not public, and this connection may only lead to public ones."""

    def __init__(self) -> None:
        super().__init__("it has no public address")


class ConnectionBroke(HttpError):
    """The connection ended after the request was sent, before its response was complete."""


class NotHttp(ConnectionBroke):
    """The response is not HTTP, or its headers exceed a limit: the connection was closed."""


class NoAnswerInTime(HttpError):
    """The deadline passed before the response was complete."""


class ResponseConnection(Protocol):
    """What a response arrives on. It may serve another response after this one's `release` or `close`."""

    #: Called after each read from the socket, and at the end. While it is set, do not call `read`.
    on_data: Callable[[], None] | None
    #: When the response fails with NoAnswerInTime, on the loop's clock. See `Exchanges.request` for extending it.
    deadline: float

    @property
    def ended(self) -> bool:
        """Whether nothing more will arrive than can be taken now."""


class Response(Protocol):
    """A response whose head has arrived. Its owner must call `release` or `close`; both are idempotent."""

    @property
    def connection(self) -> ResponseConnection:
        """What it arrives on. Each delta uses it directly, as methods in between would only pass the calls on."""

    @property
    def take(self) -> Callable[[], bytes]:
        """Returns the part of the body that has arrived since the last call."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def headers(self) -> CIMultiDict[str]:
        """The headers, without trailers."""

    @property
    def origin(self) -> str:
        """Where the request was sent, as `https://host:port`."""

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""

    async def read(self) -> bytes:
        """Wait for more of the body; b"" at its end. Raises ConnectionBroke or NoAnswerInTime."""

    def release(self) -> None:
        """Return the connection to the pool if the response is complete, or else close it."""

    def close(self) -> None:
        """Close the connection."""


class Exchanges(Protocol):
    """Requests over one pool of connections: without retries, redirects or a cookie jar."""

    async def request(
        self,
        method: str,
        origin: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        deadline: float = math.inf,
        min_extension: float = math.inf,
        on_head: Callable[[CIMultiDict[str]], None] | None = None,
    ) -> Response:
        """Send a request once; return the response as soon as its headers have arrived.

        It must be complete by `deadline`, on the loop's clock. If `min_extension` is given, the deadline may later be
        extended by at least that many seconds at a time.

        `on_head` gets the headers and must not raise. It still gets them for a short time after the caller was
        cancelled or the deadline has passed.

        Raises HttpError, and ValueError for a header that cannot be sent.
        """

    def awaited_heads(self) -> Iterator[Callable[[CIMultiDict[str]], None]]:
        """The `on_head` of each request that has been sent, and whose response may still begin."""
