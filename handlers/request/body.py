"""Reading a request's body: bounded in bytes, in time, and in the number of JSON values."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Final

from aiohttp import web

from bridge.errors import ApiError, invalid_request
from handlers.request.appkeys import DRAIN, HEAVY_WORK, KEY, RECORD
from handlers.request.codings import CODINGS, BrokenCoding, DecodedTooLong, decode
from upstream.protocol.printable import printable

#: How many of `[`, `{` and `,` a body may contain: each can create a Python object, and parsing blocks the event loop.
#: A million characters of prose contain about 20,000.
MAX_JSON_MARKS: Final = 100_000
#: Only longer bodies are counted: at most two in three bytes of JSON are such marks, as in `[],[],`.
UNCOUNTED_BYTES: Final = MAX_JSON_MARKS * 3 // 2

#: How much is buffered ahead of the handler; each read of a connection is smaller (`handlers.daemon.connection`).
READ_AHEAD_BYTES: Final = 128 * 1024


async def read_body(request: web.Request, *, limit: int, timeout: float, is_json: bool = True) -> bytes:
    """Read a body, and decode its Content-Encoding.

    Raises ApiError: 415 for an unknown coding, 413 over `limit` bytes, 408 after `timeout` seconds, 400 for a broken
    coding, and, where it `is_json`, for a JSON bomb.
    """
    coding, content, max_marks = _coding(request), request.content, MAX_JSON_MARKS if is_json else None
    if coding is not None:
        body = await _read_decoded(request, coding, limit=limit, timeout=timeout)
        if max_marks is not None and len(body) > UNCOUNTED_BYTES and _json_marks(body) > max_marks:
            raise _too_many_values()
    elif content.is_eof() and content.exception() is None and content.total_bytes <= min(limit, UNCOUNTED_BYTES):
        body = content.read_nowait()  # already received, and too small for a bomb
    else:
        body = await _collect(request, limit=limit, timeout=timeout, max_marks=max_marks)
    recording = request[RECORD].recording
    if recording is not None:
        recording.note_body(body)
    return body


async def _collect(request: web.Request, *, limit: int, timeout: float, max_marks: int | None = None) -> bytes:
    """Read a body as it was sent, with at most `max_marks` of `[`, `{` and `,` if given. Raises ApiError."""
    request.content.set_read_chunk_size(READ_AHEAD_BYTES)
    body = BytesIO()  # grows in place; joining parts would need twice the memory
    marks = 0
    async with receiving(request, limit=limit, timeout=timeout):
        async for data in request.content.iter_any():
            if body.tell() + len(data) > limit:
                raise too_large(limit)
            counted = body.tell() > UNCOUNTED_BYTES
            body.write(data)
            if max_marks is not None and body.tell() > UNCOUNTED_BYTES:
                marks += _json_marks(data if counted else body.getvalue())
                if marks > max_marks:
                    raise _closing(_too_many_values())
    return body.getvalue()


def _coding(request: web.Request) -> str | None:
    """The body's Content-Encoding, None for a plain body. Raises ApiError: 415 if it is unknown."""
    sent = request.headers.getall("Content-Encoding", ())
    if not sent:
        return None
    coding = ", ".join(sent).strip(" \t").lower()
    if coding in ("", "identity"):
        return None
    if coding in CODINGS:
        return coding
    known = ", ".join(CODINGS)
    message = f"The body's Content-Encoding '{printable(coding[:100])}' is unknown: send {known}, or leave it out."
    raise _closing(ApiError(415, "unsupported_encoding", message, accepted={"Accept-Encoding": known}))


async def _read_decoded(request: web.Request, coding: str, *, limit: int, timeout: float) -> bytes:
    """Read a body and decode it in a thread, since a large one would block the event loop. Raises ApiError."""
    body = await _collect(request, limit=limit, timeout=timeout)
    owner = request[KEY].id if KEY in request else ""  # a form of the dashboard has no key
    try:
        return await request.app[HEAVY_WORK].run(owner, decode, body, coding, limit)
    except DecodedTooLong:
        raise too_large(limit) from None
    except BrokenCoding as error:
        message = f"The body is not in the Content-Encoding that it names, {coding}: {error}."
        raise invalid_request("invalid_body", message) from None


def _too_many_values() -> ApiError:
    return invalid_request("invalid_json", "The body has too many JSON values.")


def _json_marks(data: bytes) -> int:
    """The number of `[`, `{` and `,`. Most reads of a picture contain none, which `in` tells quickly."""
    return sum([data.count(mark) for mark in (b"[", b"{", b",") if mark in data])


@asynccontextmanager
async def receiving(request: web.Request, *, limit: int, timeout: float) -> AsyncIterator[None]:
    """A context for receiving a body: errors and timeouts of the transfer become ApiError."""
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    try:
        async with request.app[DRAIN].receiving(timeout):
            yield
    except web.RequestPayloadError:
        raise _closing(invalid_request("invalid_body", "The body cannot be read: its chunks are broken.")) from None
    except TimeoutError:
        raise _closing(ApiError(408, "request_timeout", f"The body did not arrive within {timeout:g} s.")) from None


def too_large(limit: int) -> ApiError:
    """413: the body has more than `limit` bytes."""
    message = f"The body is larger than {limit} bytes (server.max_body_bytes)."
    return _closing(ApiError(413, "request_too_large", message))


def _closing(error: ApiError) -> ApiError:
    """Have the error close the connection, which cannot be reused as the rest of the body is not read."""
    error.close = True
    return error
