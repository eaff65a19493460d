"""A caller's connection, the layer below aiohttp's requests: bounded reads, broken HTTP, `Expect`, lingering close."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.http_exceptions import BadHttpMessage

from bridge import SERVER
from bridge.dialects.openai.errors import OPENAI, error_body
from bridge.errors import ApiError, internal_error
from bridge.headers import REQUEST_ID
from handlers.daemon.accepting import KEEPALIVE_SECONDS, CallerConnection
from handlers.daemon.bad_http import (
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_TARGET_BYTES,
    UnfinishedHead,
    headers_too_large,
    refusal,
)
from handlers.daemon.connection_limits import ConnectionLimits
from handlers.daemon.pending_connections import READ_BYTES
from handlers.request.aiohttp_internals import ServerConnection
from handlers.request.answers import error_response
from handlers.request.cors import cors_headers
from handlers.request.middlewares import request_id

#: By how many bytes a body's framing and trailers may exceed the body itself.
MAX_OVERHEAD_BYTES: Final = 64 * 1024
#: For how long, in seconds, and up to which size the data of a caller that still sends is discarded after its answer.
LINGER_SECONDS: Final = 2.0
MAX_DISCARDED_BYTES: Final = 64 * 1024 * 1024

_logger = logging.getLogger(__name__)


class BridgeProtocol(ServerConnection, CallerConnection):
    """aiohttp's connection, with bounded costs for callers without a key, and errors for broken HTTP in our form.

    Reads are short, so that no connection blocks the event loop for long: 4 KiB until it is authenticated.
    Bytes outside of bodies (heads, framing of chunks, their extensions, trailers, empty lines) are bounded. Data after
    broken HTTP, or after the answer to a request whose body was not read, is discarded unparsed.
    """

    _answered = False
    _discarding = False
    _discarded = 0
    _overhead = 0
    _body: StreamReader | None = None
    _head: UnfinishedHead | None = None
    _closed: asyncio.Event | None = None
    _lingering: asyncio.Task[None] | None = None  # referred to, since the loop does not keep its tasks

    def __init__(
        self,
        connection_limits: ConnectionLimits,
        buffer: memoryview,
        cors_origins: Callable[[], Collection[str]],
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # None disables it, as in aiohttp's own runner
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=0,  # aiohttp would parse what it discards
            read_bufsize=READ_BYTES,
            max_line_size=MAX_TARGET_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_FIELDS,
            auto_decompress=False,  # nothing is decoded before the key is checked
        )
        self._connection_limits = connection_limits
        self._cors_origins = cors_origins
        self._buffer = buffer  # shared by all connections; each read is copied out at once

    @property
    def is_unused(self) -> bool:
        """Whether no request over this connection has reached a handler yet."""
        return not (self._answered or self.is_answering)

    @property
    def has_unhandled_request(self) -> bool:
        """Whether a request has been read, at least in part, that no handler has begun to handle."""
        closing = self.transport is None or self.transport.is_closing()
        return not (self.is_waiting or self.is_answering or closing)

    def close_when_idle(self) -> None:
        """Close the connection now if it is idle, else after its running answer."""
        if self.is_waiting:
            self.force_close()
        else:
            self.close()

    def evict(self) -> None:
        """Close the connection at once to make room for others."""
        if self.transport is not None:
            self.transport.abort()
        elif self.setup is not None:
            self.setup.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Parse the bytes that were read before there was a transport."""
        super().connection_made(transport)
        first_bytes, self.first_bytes = self.first_bytes, b""
        for start in range(0, len(first_bytes), READ_BYTES):
            self.data_received(first_bytes[start : start + READ_BYTES])

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the connection's resources; of many unauthenticated ones that are lost at once, a few at a time."""
        is_authenticated = self._connection_limits.is_authenticated(self)
        self._connection_limits.remove(self)
        self._discarding, self._body = True, None  # the body refers back to this connection
        if self._closed is not None:
            self._closed.set()
        if is_authenticated:
            goes_on = self.on_disconnect is not None and self.on_disconnect()
            if goes_on or self.answer_written:
                self.detach_handler()
            super().connection_lost(exc)
        else:
            if not self.is_waiting:
                self.close()  # pipelined requests are not answered
            self._connection_limits.close_soon(partial(super().connection_lost, exc))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 — asyncio gives it no fixed meaning
        """The buffer for the next read, which all connections share."""
        is_long = self._discarding or self._connection_limits.is_authenticated(self)
        return self._buffer if is_long else self._buffer[:READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """Process what was read."""
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Parse what was read, or discard it."""
        if self._discarding:
            self._discard(len(data))
            return
        self._connection_limits.count_bytes(self, len(data))
        body = self._body
        body_before = 0 if body is None else body.total_raw_bytes
        parsed = self.parsed
        parsed_before = len(parsed)
        super().data_received(data)
        if len(parsed) > parsed_before:
            message, payload = parsed[-1]
            error = getattr(message, "exc", None)
            if error is not None:
                error.__traceback__ = None  # breaks a reference cycle that includes the read data
                self._remember_head(data)
                self._refuse_rest("The HTTP is broken.")
            else:
                self._body = None if payload is EMPTY_PAYLOAD else payload
                self._overhead = 0
                self._head = None
            return
        body_bytes = 0 if body is None else body.total_raw_bytes
        extra = len(data) - (body_bytes - body_before)
        if not extra:  # all of it was body
            return
        self._overhead += extra
        in_head = body is None or body.is_eof()
        if in_head:
            self._remember_head(data)
        if self._overhead > (MAX_HEAD_BYTES if in_head else MAX_OVERHEAD_BYTES) + body_bytes:
            self._refuse_overhead(in_head=in_head)

    def _remember_head(self, data: bytes) -> None:
        """Remember what an error about an incomplete head would need."""
        if self._head is None:
            self._head = UnfinishedHead()
        self._head.feed(data)

    def _cors_headers(self, request: web.BaseRequest | None = None) -> dict[str, str]:
        """The CORS headers for an answer that does not pass the middleware."""
        origin = None if request is None else request.headers.get("Origin")
        if origin is None and self._head is not None:
            origin = self._head.origin
        return cors_headers(origin, self._cors_origins())

    def _refuse_overhead(self, *, in_head: bool) -> None:
        """Refuse a request whose head (if `in_head`), framing or trailers are far too large."""
        _logger.info("a request with an oversized head, framing or trailers was refused")
        self._refuse_rest("The framing of the body is larger than the body.")
        if in_head and self.is_waiting and self.transport is not None:  # there is no handler that would answer
            self.transport.write(_head_too_large(self._cors_headers()))
            self._lingering = asyncio.get_running_loop().create_task(self._linger())

    def _refuse_rest(self, why: str) -> None:
        """Parse nothing more, and fail the reading of the body."""
        self._discarding = True
        if self._body is not None and not self._body.is_eof():
            self._body.set_exception(web.RequestPayloadError(why))

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > MAX_DISCARDED_BYTES and self.transport is not None:
            self.transport.abort()

    async def _linger(self) -> None:
        """Lingering close: for a moment, discard what the caller still sends, so that it can read its answer.

        Closing a connection with unread data would reset it and lose the answer.
        """
        transport = self.transport
        if transport is None:
            return
        self._closed = asyncio.Event()
        try:
            if transport.can_write_eof():
                transport.write_eof()
            transport.resume_reading()
            async with asyncio.timeout(LINGER_SECONDS):
                await self._closed.wait()
        except (TimeoutError, OSError, RuntimeError):  # the last is raised by a closing transport
            pass
        finally:
            transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002 — `exc` says more
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 — it quotes the caller's bytes, which may contain a key
    ) -> web.StreamResponse:
        """Answer a request that could not be parsed, or that failed outside the middleware."""
        if isinstance(exc, BadHttpMessage):
            _logger.info("a request that is not valid HTTP was refused: %s", type(exc).__name__)
            error = refusal(exc, None if self._head is None else self._head.field)
        else:
            _logger.error("a request failed outside its handler", exc_info=exc)
            error = internal_error()
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, so that no error can be sent")
        return _response(error, self._cors_headers(request))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer. aiohttp's own refusal of `Expect` bypasses the middleware, and gets our form here.

        If the request's body was not read to its end, the answer announces `Connection: close` and is followed by a
        lingering close.
        """
        if isinstance(resp, web.HTTPException):
            message = "Only 'Expect: 100-continue' can be met."
            resp = _response(ApiError(resp.status, "expectation_failed", message), self._cors_headers(request))
        self._answered, self.answer_written = True, False
        is_last = not request.content.is_eof() or (self._discarding and not self.parsed)
        if is_last:
            self._discarding = True
            if not resp.prepared:
                resp.force_close()
        resp, reset = await super().finish_response(request, resp, start_time)
        self._connection_limits.request_done(self)
        if is_last and not reset:
            await self._linger()
        return resp, reset

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Log a bug of ours, but not a caller's broken body, which aiohttp reports again after our answer."""
        if not isinstance(kwargs.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kwargs)


def _response(error: ApiError, cors: dict[str, str]) -> web.Response:
    """An error answer that bypasses the middleware: with a request id of its own, and closing the connection."""
    id_ = request_id("")
    response = error_response(error, OPENAI, id_)
    response.headers.update({REQUEST_ID: id_, "Server": SERVER, "Cache-Control": "no-store", **cors})
    response.force_close()
    return response


def _head_too_large(cors: dict[str, str]) -> bytes:
    """The raw answer to a head that is too large, for which aiohttp has no request object yet."""
    body = error_body(
        headers_too_large(f"The request's header fields are larger than {MAX_HEAD_BYTES} bytes together.")
    )
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Content-Length": str(len(body)),
        REQUEST_ID: request_id(""),
        "Server": SERVER,
        "Cache-Control": "no-store",
        "Connection": "close",
        **cors,
    }
    lines = ("HTTP/1.1 431 Request Header Fields Too Large", *(f"{name}: {value}" for name, value in headers.items()))
    return "\r\n".join((*lines, "", "")).encode() + body
