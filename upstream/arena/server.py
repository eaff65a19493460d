"""The embedded arena's server: the site on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from email.utils import formatdate
from typing import Final, Self

from aiohttp import web

from upstream.arena.calls import Call
from upstream.arena.control import add_control
from upstream.arena.models import Model
from upstream.arena.playing import Player
from upstream.arena.replies import Reply
from upstream.arena.site import Site
from upstream.arena.storage import StorageCall
from upstream.arena.streams import Stream
from upstream.arena.traits import Era

_BODY_BYTES: Final = 64 * 1024 * 1024  # more than any caller of the real site would send
_HEADER_BYTES: Final = 65536  # session cookies are long, and tests send longer ones
_PIECE_BYTES: Final = 16 * 1024  # the most bytes of an upload that are read at a time
_SHUTDOWN_SECONDS: Final = 0.1  # open calls need no graceful shutdown


class Arena(Site):
    """`async with Arena() as arena:` serves a strict fake LMArena at `arena.origin`, and records `arena.calls`.

    Its storage listens at `arena.storage_origin`. `era` selects the protocol: that of late 2025 or of autumn 2026.
    `pace` is the pause before each delta of a built-in answer in seconds; port 0 selects a free port.
    """

    def __init__(
        self,
        *,
        era: Era = 2026,
        pace: float = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
        storage_port: int = 0,
        models: Sequence[Model] | None = None,
    ) -> None:
        super().__init__(era=era, pace=pace, models=models)
        self._host = host
        self._port = port
        self._storage_port = storage_port
        self._runners: list[web.AppRunner] = []
        self._stopping = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def storage_origin(self) -> str:
        """The origin of the storage."""
        return self.storage.origin

    async def start(self) -> None:
        """Listen, and set `origin` and `storage_origin`. Raises OSError if a port is taken."""
        site = web.Application(client_max_size=_BODY_BYTES)
        add_control(site.router, self)
        site.router.add_route("*", "/{path:.*}", self._handle)
        storage = web.Application()
        storage.router.add_route("*", "/{key:.*}", self._handle_storage)
        self._stopping = False
        try:
            self.storage.origin = await self._listen(storage, self._storage_port)
            self.origin = await self._listen(site, self._port)
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening, and abort the calls that are still open."""
        self._stopping = True
        runners, self._runners = self._runners, []
        await asyncio.gather(*(runner.cleanup() for runner in runners))

    async def _listen(self, app: web.Application, port: int) -> str:
        app.on_response_prepare.append(self._set_date)
        runner = web.AppRunner(
            app,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            access_log=None,
            max_field_size=_HEADER_BYTES,
        )
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, self._host, port).start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def _set_date(self, _: web.Request, response: web.StreamResponse) -> None:
        """Send the site's own time, which a test may have changed, with every answer."""
        response.headers["date"] = formatdate(self.clock(), usegmt=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        call = Call(request.method, request.path, dict(request.query), _headers(request), body)
        return await self._respond(request, call, self.receive(call))

    async def _handle_storage(self, request: web.Request) -> web.StreamResponse:
        path, query = request.path, dict(request.query)
        call = StorageCall(request.method, path, query, _headers(request), b"", key=path.removeprefix("/"))
        answer = self.storage.receive(call, request.content.iter_chunked(_PIECE_BYTES))
        return await self._respond(request, call, answer)

    async def _respond(self, request: web.Request, call: Call, answer: Reply | Stream) -> web.StreamResponse:
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
        except ConnectionError:  # a write failed because the caller has left
            call.closed.set()
        except asyncio.CancelledError:
            if not self._stopping:
                call.closed.set()
            raise
        return player.response


def _headers(request: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _response(call: Call, reply: Reply) -> web.Response:
    call.status = reply.status
    response = web.Response(status=reply.status, body=reply.body, headers={"content-type": reply.content_type})
    for name, value in reply.headers:
        response.headers.add(name, value)
    return response
