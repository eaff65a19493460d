"""The embedded arena: the site behind a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Self

from aiohttp import web

from upstream.arena.calls import Call
from upstream.arena.control import add_control
from upstream.arena.models import Model
from upstream.arena.playing import Player
from upstream.arena.replies import Reply
from upstream.arena.site import Site, Stream

_BODY_BYTES: Final = 64 * 1024 * 1024  # above everything that a caller of the real site would try
_HEADER_BYTES: Final = 65536  # session cookies are long, and tests send longer ones
_SHUTDOWN_SECONDS: Final = 0.1  # nothing here is worth waiting for


class Arena(Site):
    """`async with Arena() as arena:` plays LMArena at `arena.origin`, strictly, and notes all calls in `arena.calls`.

    `pace` is the silence before each delta of a built-in answer in seconds; port 0 takes a free one.
    """

    def __init__(
        self, *, pace: float = 0.0, host: str = "127.0.0.1", port: int = 0, models: Sequence[Model] | None = None
    ) -> None:
        super().__init__(pace=pace, models=models)
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None
        self._stopping = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; `origin` is known afterwards. OSError if the port is taken."""
        app = web.Application(client_max_size=_BODY_BYTES)
        add_control(app.router, self)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._stopping = False
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            access_log=None,
            max_field_size=_HEADER_BYTES,
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError:
            await self.stop()
            raise
        host, port = self._runner.addresses[0][:2]
        self.origin = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop listening and cut off who is still being answered."""
        self._stopping = True
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(request.method, request.path, dict(request.query), headers, body)
        answer = self.receive(call)
        try:
            if isinstance(answer, Reply):
                return _response(call, answer)
            return await self._play(request, call, answer)
        finally:
            call.done.set()

    async def _play(self, request: web.Request, call: Call, stream: Stream) -> web.StreamResponse:
        player = Player(request, call, stream)
        try:
            await player.play()
        except ConnectionError:  # a write found out; nobody is left to be told
            call.closed.set()
        except asyncio.CancelledError:
            if not self._stopping:
                call.closed.set()
            raise
        return player.response


def _response(call: Call, reply: Reply) -> web.Response:
    call.status = reply.status
    response = web.Response(status=reply.status, body=reply.body, headers={"content-type": reply.content_type})
    for name, value in reply.headers:
        response.headers.add(name, value)
    return response
