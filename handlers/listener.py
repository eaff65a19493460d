"""The server's edge, where a request is not one yet: sockets, broken HTTP, `Expect`."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import MutableMapping, Sequence
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from bridge.errors import ApiError, internal_error
from handlers.answers import error_response
from handlers.middlewares import SERVER, request_id

#: Waiting connections that the kernel holds for us: a restart or a burst must refuse none. More it does not allow by
#: default (net.core.somaxconn).
BACKLOG: Final = 4096
#: How long an idle connection is kept, in seconds: above nginx's 60 and Caddy's 120, or reuse would meet a 502.
KEEPALIVE_SECONDS: Final = 130.0
#: Where the sockets begin that a service manager hands over: sd_listen_fds(3).
_FIRST_INHERITED: Final = 3

_logger = logging.getLogger(__name__)


class BridgeProtocol(web.RequestHandler):
    """aiohttp's connection, except that what is no HTTP is answered as our errors are, and never quoted."""

    _answered = False

    @property
    def unasked(self) -> bool:
        """No request of it has reached its handler yet."""
        return not (self._answered or self._request_in_progress)

    def keep_no_longer(self) -> None:
        """Close it behind its running answer, or now if it only waits for another request."""
        if self._waiter is not None and not self._waiter.done():
            self.force_close()
        else:
            self.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 — it quotes the caller's bytes, a key among them
    ) -> web.StreamResponse:
        """Answer a request that could not be parsed, or whose handling broke outside of every middleware."""
        if isinstance(exc, BadHttpMessage):
            _logger.info("a request that is no valid HTTP was refused: %s", type(exc).__name__)
            error = ApiError(status, "invalid_request_error", "invalid_http", "The request is not valid HTTP.")
        else:
            _logger.error("a request failed outside its handler", exc_info=exc)
            error = internal_error()
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, so that no error can be sent")
        return _response(error)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer. aiohttp's own refusal of an `Expect` passes no middleware, so it gets our form here."""
        if isinstance(resp, web.HTTPException):
            message = "Only 'Expect: 100-continue' can be met."
            resp = _response(ApiError(resp.status, "invalid_request_error", "expectation_failed", message))
        self._answered = True
        return await super().finish_response(request, resp, start_time)

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Log a mistake of ours. A caller's broken body is none: aiohttp finds it once more behind our answer."""
        if not isinstance(kwargs.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kwargs)


def _response(error: ApiError) -> web.Response:
    """An answer that no middleware has seen: it has a request id all the same, and ends the connection."""
    response = error_response(error)
    response.headers.update({"x-request-id": request_id(""), "Server": SERVER})
    response.force_close()
    return response


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


async def listen(
    runner: web.AppRunner, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None
) -> list[asyncio.Server]:
    """Accept connections on every socket."""
    loop = asyncio.get_running_loop()
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")

    def connection() -> BridgeProtocol:
        return BridgeProtocol(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # means none at all, as in aiohttp's own runner
            keepalive_timeout=KEEPALIVE_SECONDS,
        )

    return [await loop.create_server(connection, sock=sock, ssl=tls, backlog=BACKLOG) for sock in sockets]


async def stop_listening(servers: Sequence[asyncio.Server]) -> None:
    """Accept no more, and close our copies of the sockets; connections that were accepted stay."""
    loop = asyncio.get_running_loop()
    for server in servers:
        for sock in server.sockets:
            loop.remove_reader(sock)
    await asyncio.sleep(0)  # connections that were just accepted join their server, which a closed one does not allow
    for server in servers:
        server.close()


def awaits_first_request(runner: web.AppRunner) -> bool:
    """Whether a connection has been accepted over which nothing has been asked yet."""
    return any(each.unasked for each in _connections(runner))


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
