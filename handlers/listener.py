"""The server's edge, where a request is not one yet: sockets, broken HTTP, `Expect`."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from bridge.errors import ApiError, internal_error
from handlers.answers import error_response

#: Waiting connections that the kernel holds for us: a restart or a burst must refuse none.
BACKLOG: Final = 1024
#: How long an idle connection is kept, in seconds: above nginx's 60 and Caddy's 120, or reuse would meet a 502.
KEEPALIVE_SECONDS: Final = 130.0

_logger = logging.getLogger(__name__)


class BridgeProtocol(web.RequestHandler):
    """aiohttp's connection, except that what is no HTTP is answered as our errors are, and never quoted."""

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
        response = error_response(error)
        response.force_close()
        return response


async def expect_continue(request: web.Request) -> web.StreamResponse | None:
    """Answer `Expect: 100-continue`; anything else that is expected cannot be met."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it is no part of the answer
        return None
    return error_response(
        ApiError(417, "invalid_request_error", "expectation_failed", "Only 'Expect: 100-continue' can be met.")
    )


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


async def listen(
    runner: web.AppRunner, sockets: list[socket.socket], tls: ssl.SSLContext | None
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
