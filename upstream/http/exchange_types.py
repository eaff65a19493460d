"""The seam between the calls to LMArena and HTTP: one request, its response, and the ways in which that fails.

`upstream.http.exchange` implements it. The client, the storage and the fetcher know nothing else of HTTP, and turn
these errors into the protocol's (`upstream.responses`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

from multidict import CIMultiDict


class HttpError(Exception):
    """A request failed. No text quotes what the peer sent, and none holds a secret."""


class NotSent(HttpError):
    """No connection was made, so nothing was sent. `cause` completes "cannot be reached: …", without a full stop."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class NotPublic(NotSent):
    """The address is not one of the public Internet, where only those may be connected to."""

    def __init__(self) -> None:
        super().__init__("it has no public address")


class ConnectionBroke(HttpError):
    """The connection ended after the request was sent, before its response was complete."""


class NotHttp(ConnectionBroke):
    """What came is not HTTP, or exceeds a bound on heads: the connection was closed."""


class NoAnswerInTime(HttpError):
    """The deadline passed before the response was complete."""


class Response(Protocol):
    """A response that has begun. It must be let go by `release` or `close`; both are idempotent."""

    #: Called after each read from the socket, and at the end. While it is set, `read` is not to be called.
    on_data: Callable[[], None] | None
    #: When the response fails with NoAnswerInTime, on the loop's clock. `Exchanges.request` says how it may be moved.
    deadline: float

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

    @property
    def over(self) -> bool:
        """Whether no more will come than can be taken now."""

    async def read(self) -> bytes:
        """Wait for more of the body; b"" at its end. Raises ConnectionBroke or NoAnswerInTime."""

    def take(self) -> bytes:
        """What of the body has come and was not taken yet."""

    def release(self) -> None:
        """Give the connection back if the response is complete, or else close it."""

    def close(self) -> None:
        """Close the connection."""


class Exchanges(Protocol):
    """Requests over one pool of connections. Nothing is repeated, no redirect followed, no cookie kept."""

    async def request(
        self,
        method: str,
        origin: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        deadline: float = math.inf,
        patience: float = math.inf,
        on_head: Callable[[CIMultiDict[str]], None] | None = None,
    ) -> Response:
        """Send a request once; return the response as soon as its headers have come.

        It must be complete by `deadline`, on the loop's clock. That may be moved later, by `patience` seconds or more
        at a time, where `patience` was given.
        `on_head` gets the headers, and must not raise: also if the caller is cancelled or the deadline passes, for
        some time more. Raises HttpError, and ValueError for a header that cannot be sent.
        """
