"""The server's edge, where a request is not one yet: sockets, broken HTTP, `Expect`."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Collection, MutableMapping, Sequence
from functools import partial
from typing import Any, Final

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.http_exceptions import BadHttpMessage

from bridge.dialects.openai.errors import OPENAI, error_body
from bridge.errors import ApiError, internal_error
from handlers.daemon.accepting import KEEPALIVE_SECONDS, Connection, Listener
from handlers.daemon.bad_http import (
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_TARGET_BYTES,
    UnfinishedHead,
    headers_too_large,
    refusal,
)
from handlers.daemon.newcomers import READ_BYTES
from handlers.daemon.strangers import Strangers
from handlers.request.aiohttp_internals import ServerConnection
from handlers.request.answers import error_response
from handlers.request.appkeys import SETTINGS, STATE, STRANGERS
from handlers.request.cors import cors_headers
from handlers.request.middlewares import SERVER, request_id
from upstream.http.tls_buffers import shrink_tls_buffers

#: What may come beside a body (framing, trailers), and beside as much again as the body has.
MAX_OVERHEAD_BYTES: Final = 64 * 1024
#: For how long a caller that still sends is listened to behind its answer, and how much of it is dropped.
LINGER_SECONDS: Final = 2.0
MAX_DROPPED_BYTES: Final = 64 * 1024 * 1024
#: One read of somebody whom we know. Strangers' are of `READ_BYTES`: in 4 KiB there are up to 700 chunks, each of which
#: takes time.
_KNOWN_READ_BYTES: Final = 64 * 1024
#: What connections of an app that has no bound of its own may take.
_OPEN_FILES: Final = 1000
#: Where the sockets begin that a service manager hands over: sd_listen_fds(3).
_FIRST_INHERITED: Final = 3

_logger = logging.getLogger(__name__)


class BridgeProtocol(ServerConnection, Connection):
    """aiohttp's connection, except in what strangers may cost, and in how what is no HTTP is refused.

    Reads are short, so that no connection holds the loop for long: 4 KiB until somebody whom we know asks over it.
    Bytes that are no body (heads, the framing of chunks, their extensions, trailers, empty lines) are bounded. What
    comes behind broken HTTP, or behind the answer to a request whose body was not wanted, is dropped unparsed.
    """

    _answered = False
    _dropping = False
    _dropped = 0
    _overhead = 0
    _body: StreamReader | None = None
    _head: UnfinishedHead | None = None
    _left: asyncio.Event | None = None
    _seeing_off: asyncio.Task[None] | None = None

    def __init__(
        self,
        strangers: Strangers,
        buffer: memoryview,
        cors_origins: Callable[[], Collection[str]],
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # means none at all, as in aiohttp's own runner
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=0,  # aiohttp would parse what it drops
            read_bufsize=READ_BYTES,
            max_line_size=MAX_TARGET_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_FIELDS,
            auto_decompress=False,  # nothing is decoded before the key is known
        )
        self._strangers = strangers
        self._cors_origins = cors_origins
        self._buffer = buffer  # which all connections read into, one after the other

    @property
    def unasked(self) -> bool:
        """No request of it has reached its handler yet."""
        return not (self._answered or self.is_answering)

    def keep_no_longer(self) -> None:
        """Close it behind its running answer, or now if it only waits for another request."""
        if self.is_waiting:
            self.force_close()
        else:
            self.close()

    def turn_away(self) -> None:
        """End it at once: others need the room."""
        if self.transport is not None:
            self.transport.abort()
        elif self.begin is not None:
            self.begin.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with what came before."""
        super().connection_made(transport)
        first, self.first = self.first, b""
        for start in range(0, len(first), READ_BYTES):
            self.data_received(first[start : start + READ_BYTES])

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of what it held. When very many strangers leave at once, one waits for the other."""
        is_known = self._strangers.knows(self)
        self._strangers.gone(self)
        self._dropping, self._body = True, None  # which holds us
        if self._left is not None:
            self._left.set()
        if is_known:
            super().connection_lost(exc)
        else:
            if not self.is_waiting:
                self.close()  # what it has asked beside is not answered
            self._strangers.part(partial(super().connection_lost, exc))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 — asyncio says that it may be anything
        """Where the next read goes. All connections share it: what is read is taken out at once."""
        is_long = self._dropping or self._strangers.knows(self)
        return self._buffer if is_long else self._buffer[:READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Parse what was read, or drop it."""
        if self._dropping:
            self._drop(len(data))
            return
        self._strangers.hold(self, len(data))
        body = self._body
        had = 0 if body is None else body.total_raw_bytes
        had_parsed = len(self.parsed)
        super().data_received(data)
        if len(self.parsed) > had_parsed:
            message, payload = self.parsed[-1]
            error = getattr(message, "exc", None)
            if error is not None:
                error.__traceback__ = None  # it holds what was read, and would be held by it
                self._remember_head(data)
                self._refuse_rest("The HTTP is broken.")
            else:
                self._body = None if payload is EMPTY_PAYLOAD else payload
                self._overhead = 0
                self._head = None
            return
        came = 0 if body is None else body.total_raw_bytes
        self._overhead += len(data) - (came - had)
        between = body is None or body.is_eof()
        if between:
            self._remember_head(data)
        if self._overhead > (MAX_HEAD_BYTES if between else MAX_OVERHEAD_BYTES) + came:
            self._refuse_overhead(between=between)

    def _remember_head(self, data: bytes) -> None:
        """A head has not come whole: note what an error would say of it."""
        if self._head is None:
            self._head = UnfinishedHead()
        self._head.feed(data)

    def _cors_headers(self, request: web.BaseRequest | None = None) -> dict[str, str]:
        """What lets the page that asks read an answer which no middleware has seen."""
        origin = None if request is None else request.headers.get("Origin")
        if origin is None and self._head is not None:
            origin = self._head.origin
        return cors_headers(origin, self._cors_origins())

    def _refuse_overhead(self, *, between: bool) -> None:
        """Far more came than a request needs: end the reading of it."""
        _logger.info("a request with more head, framing or trailers than any needs was refused")
        self._refuse_rest("The framing of the body is larger than the body.")
        if between and self.is_waiting and self.transport is not None:  # nobody else will answer
            self.transport.write(_head_too_large(self._cors_headers()))
            self._seeing_off = asyncio.get_running_loop().create_task(self._see_off())

    def _refuse_rest(self, why: str) -> None:
        """Parse nothing more; whoever reads the body is told."""
        self._dropping = True
        if self._body is not None and not self._body.is_eof():
            self._body.set_exception(web.RequestPayloadError(why))

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > MAX_DROPPED_BYTES and self.transport is not None:
            self.transport.abort()

    async def _see_off(self) -> None:
        """Let a caller that still sends read its answer: a connection closed over unread bytes is reset.

        What comes is dropped unparsed, for a moment, and then the connection is closed.
        """
        transport = self.transport
        if transport is None:
            return
        self._left = asyncio.Event()
        try:
            if transport.can_write_eof():
                transport.write_eof()
            transport.resume_reading()
            async with asyncio.timeout(LINGER_SECONDS):
                await self._left.wait()
        except (TimeoutError, OSError, RuntimeError):  # the last is what a transport that is closing raises
            pass
        finally:
            transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002 — `exc` says more
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 — it quotes the caller's bytes, a key among them
    ) -> web.StreamResponse:
        """Answer a request that could not be parsed, or whose handling broke outside of every middleware."""
        if isinstance(exc, BadHttpMessage):
            _logger.info("a request that is no valid HTTP was refused: %s", type(exc).__name__)
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
        """Send an answer. aiohttp's own refusal of an `Expect` passes no middleware, so it gets our form here.

        A caller whose body was not read to its end is told that the connection closes, and seen off.
        """
        if isinstance(resp, web.HTTPException):
            message = "Only 'Expect: 100-continue' can be met."
            resp = _response(ApiError(resp.status, "expectation_failed", message), self._cors_headers(request))
        self._answered = True
        is_last = not request.content.is_eof() or (self._dropping and not self.parsed)
        if is_last:
            self._dropping = True
            if not resp.prepared:
                resp.force_close()
        resp, reset = await super().finish_response(request, resp, start_time)
        self._strangers.rest(self)
        if is_last and not reset:
            await self._see_off()
        return resp, reset

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Log a mistake of ours. A caller's broken body is none: aiohttp finds it once more behind our answer."""
        if not isinstance(kwargs.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kwargs)


def _response(error: ApiError, cors: dict[str, str]) -> web.Response:
    """An answer that no middleware has seen: it has a request id all the same, and ends the connection."""
    id_ = request_id("")
    response = error_response(error, OPENAI, id_)
    response.headers.update({"x-request-id": id_, "Server": SERVER, "Cache-Control": "no-store", **cors})
    response.force_close()
    return response


def _head_too_large(cors: dict[str, str]) -> bytes:
    """What is answered where aiohttp has no request yet that could be."""
    body = error_body(
        headers_too_large(f"The request's header fields are larger than {MAX_HEAD_BYTES} bytes together.")
    )
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Content-Length": str(len(body)),
        "x-request-id": request_id(""),
        "Server": SERVER,
        "Cache-Control": "no-store",
        "Connection": "close",
        **cors,
    }
    lines = ("HTTP/1.1 431 Request Header Fields Too Large", *(f"{name}: {value}" for name, value in headers.items()))
    return "\r\n".join((*lines, "", "")).encode() + body


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Bind every address that `host` names. Raises OSError. With port 0 all get the same free one."""
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        ):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound = sockets[0].getsockname()[1] if len(sockets) > 1 else port
            sock.bind((address[0], bound, *address[2:]))
            sock.setblocking(False)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def inherited_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Take the listening sockets that a service manager holds for us (sd_listen_fds(3)), if it does.

    Closing them closes our copies: its own keep collecting connections. The variables are unset, so that no child
    takes them for its own. Raises OSError for a descriptor that is no socket.
    """
    pid, count, _ = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    sockets = [socket.socket(fileno=_FIRST_INHERITED + index) for index in range(int(count))]
    for sock in sockets:
        sock.set_inheritable(False)
        sock.setblocking(False)
    return sockets


async def listen(runner: web.AppRunner, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> list[Listener]:
    """Accept connections on every socket."""
    loop = asyncio.get_running_loop()
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")
    strangers = runner.app.get(STRANGERS) or Strangers(_OPEN_FILES, loop.time)
    if tls is not None:
        shrink_tls_buffers()
    buffer = memoryview(bytearray(_KNOWN_READ_BYTES))
    make = partial(BridgeProtocol, strangers, buffer, partial(_cors_origins, runner.app), server, loop)
    owner_of = partial(_owner_of, runner.app)
    return [Listener(sock, strangers, make, tls, owner_of) for sock in sockets]


def _owner_of(app: web.Application, secret: str) -> str | None:
    """The id of the key with this secret."""
    key = app[STATE].keys.find(secret) if STATE in app else None
    return key.id if key is not None else None


def _cors_origins(app: web.Application) -> Collection[str]:
    return app[SETTINGS].config.server.cors_origins if SETTINGS in app else ()


async def stop_listening(listeners: Sequence[Listener]) -> None:
    """Accept no more, and close our copies of the sockets; connections that were accepted stay."""
    for listener in listeners:
        listener.stop()
    for listener in listeners:
        await listener.begun()
        listener.close_socket()


def awaits_first_request(runner: web.AppRunner, listeners: Sequence[Listener]) -> bool:
    """Whether a connection has been accepted over which nothing has been asked yet."""
    return any(each.newcomers for each in listeners) or any(each.unasked for each in _connections(runner))


def keep_no_connection(runner: web.AppRunner) -> None:
    """Close each connection that has had its answer, and the others behind theirs.

    A caller knows that a kept connection may be closed, and opens another one; to its first request over one an end is
    a failure.
    """
    for each in _connections(runner):
        if not each.unasked:
            each.keep_no_longer()


def _connections(runner: web.AppRunner) -> list[BridgeProtocol]:
    connections = runner.server.connections if runner.server is not None else ()
    return [each for each in connections if isinstance(each, BridgeProtocol)]
