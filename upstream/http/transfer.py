"""What the three that speak HTTP share: a session that does no more than it is told, and aiohttp's errors as ours."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp
from aiohttp.http import HttpProcessingError

from upstream.http.addresses import AddressRefused
from upstream.http.exchange import Response
from upstream.protocol.errors import ProtocolViolated, ServerFailed, TimedOut, Unreachable, UpstreamError

#: How much one read of a session's answer brings at most, and how long one header of it may be.
_READ_BYTES: Final = 64 * 1024
_MAX_HEADER_BYTES: Final = 64 * 1024


def plain_session(connector: aiohttp.BaseConnector, connect_timeout: float) -> aiohttp.ClientSession:
    """A session that does what it is told and no more: no cookies, proxies or repetition, no limit but connecting."""
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),  # one shared jar would mix accounts
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout, sock_connect=connect_timeout),
        read_bufsize=_READ_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
        trust_env=False,
    )
    # aiohttp would silently repeat a PUT or GET whose connection died; what is repeated is `upstream.retry`'s to say.
    session._retry_connection = False  # noqa: SLF001 — it has no public switch
    return session


#: What the library raises until the headers have come; TimeoutError is among the OSErrors.
SENDING_ERRORS: Final = (aiohttp.ClientError, HttpProcessingError, OSError)


def unanswered(error: Exception, peer: str = "LMArena") -> UpstreamError:
    """Translate one of SENDING_ERRORS."""
    match error:
        case aiohttp.ClientConnectorError(os_error=AddressRefused()):
            return ProtocolViolated(f"{peer} has no public address.")
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError() | aiohttp.ClientProxyConnectionError():
            return Unreachable(f"{peer} cannot be reached: {_cause(error)}.")
        case TimeoutError():
            return TimedOut(f"{peer} has not begun to answer.")
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return ProtocolViolated(f"{peer}'s answer has a header that cannot be read.")
        case _:
            return ServerFailed(f"The connection to {peer} broke before its answer came.")


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
        body = await read_bounded(response.content.readany, limit + 1)
        if len(body) <= limit:
            return body
    raise ProtocolViolated(f"The answer is larger than {limit} bytes.")


async def read_bounded(read: Callable[[], Awaitable[bytes]], limit: int) -> bytes:
    """Put a body together, or its first `limit` bytes; `read` returns a piece of it, b"" at its end."""
    body = bytearray()
    while len(body) < limit and (data := await read()):
        body += data
    del body[limit:]
    return bytes(body)


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
