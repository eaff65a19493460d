"""A fake public server in this process, from which pictures can be fetched."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiohappyeyeballs import AddrInfoType
from aiohttp import web
from pictures import SMALL

from upstream.fetch import open_fetcher
from upstream.http.addresses import guarded_socket_factory


class Internet:
    """One public name and a local server, to which connections that pass the address check are diverted."""

    def __init__(self) -> None:
        self.port = 0
        self.served: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        address = {"public.example": "93.184.215.14"}.get(host, host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port))]

    def open(self, _: AddrInfoType) -> socket.socket:
        diverted = Diverted(socket.AF_INET, socket.SOCK_STREAM)
        diverted.to = ("127.0.0.1", self.port)
        return diverted

    async def serve(self, request: web.BaseRequest) -> web.Response:
        """Once `answers` is set, serve a picture at every path except `/missing`, `/text` and the redirect `/away`."""
        self.served.append(request.path)
        await self.answers.wait()
        if request.path == "/text":
            return web.Response(text="no picture")
        if request.path == "/away":
            return web.Response(status=302, headers={"Location": f"http://127.0.0.1:{self.port}/cat"})
        return web.Response(body=SMALL["image/webp"], status=404 if request.path == "/missing" else 200)


class Diverted(socket.socket):
    """A socket that connects to the test's own server, for any address."""

    to: tuple[str, int]

    def connect(self, address: Any) -> None:  # noqa: ARG002 - where it was meant to go
        super().connect(self.to)


@asynccontextmanager
async def playing_the_internet(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Internet]:
    """Run the server; bridges started within the context reach it under its public name."""
    internet = Internet()
    runner = web.ServerRunner(web.Server(internet.serve), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    internet.port = runner.addresses[0][1]
    factory = guarded_socket_factory(internet.open)
    monkeypatch.setattr(
        "handlers.daemon.app.open_fetcher", partial(open_fetcher, resolver=internet, socket_factory=factory)
    )
    try:
        yield internet
    finally:
        internet.answers.set()
        await runner.cleanup()
