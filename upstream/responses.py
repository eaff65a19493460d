"""Reads whole responses, and translates HTTP errors into upstream errors: for client, storage and fetcher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from upstream.http.exchange_types import HttpError, NoAnswerInTime, NotHttp, NotPublic, NotSent, Response
from upstream.protocol.errors import ProtocolViolated, ServerFailed, TimedOut, Unreachable, UpstreamError


def to_upstream_error(error: HttpError, peer: str = "LMArena") -> UpstreamError:
    """Translate the error of a request whose response has not begun."""
    match error:
        case NotPublic():
            return ProtocolViolated(f"{peer} has no public address.")
        case NotSent(cause=cause):
            return Unreachable(f"{peer} cannot be reached: {cause}.")
        case NoAnswerInTime():
            return TimedOut(f"{peer} has not begun to answer.")
        case NotHttp():
            return ProtocolViolated(f"{peer}'s answer has a header that cannot be read.")
        case _:
            return ServerFailed(f"The connection to {peer} broke before its answer came.")


@contextmanager
def reading(response: Response, peer: str = "LMArena") -> Iterator[None]:
    """Translate errors while a whole body is read; the connection is released or closed on exit."""
    try:
        yield
        response.release()
    except NoAnswerInTime as error:
        raise TimedOut(f"{peer} did not finish its answer in time.") from error
    except HttpError as error:
        raise ServerFailed(f"The connection to {peer} broke in the middle of its answer.") from error
    finally:
        response.close()


async def read_whole(response: Response, limit: int) -> bytes:
    """Read a body of at most `limit` bytes. Raises ProtocolViolated as soon as it turns out to be larger."""
    announced = response.headers.get("Content-Length", "").lstrip("0")  # Python reads no number of 4301 digits
    if not announced.isascii() or not announced.isdigit() or int(announced) <= limit:
        body = await read_prefix(response, limit + 1)
        if len(body) <= limit:
            return body
    raise ProtocolViolated(f"The answer is larger than {limit} bytes.")


async def read_prefix(response: Response, limit: int) -> bytes:
    """Read a body, or its first `limit` bytes."""
    body = bytearray()
    while len(body) < limit and (data := await response.read()):
        body += data
    del body[limit:]
    return bytes(body)
