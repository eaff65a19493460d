"""The baseline: aiohttp forwarding bytes without parsing them.

python -m bench.pipe PORT UPSTREAM_PORT [uvloop]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial
from importlib import import_module

import aiohttp
from aiohttp import web

_SESSION = web.AppKey("session", aiohttp.ClientSession)
_UPSTREAM = web.AppKey("upstream", str)
_MAX_BODY_BYTES = 64 * 1024 * 1024


async def forward(request: web.Request) -> web.StreamResponse:
    """Forward the body, and return each read of the answer in one write."""
    url = request.app[_UPSTREAM] + request.path
    headers = {"Content-Type": request.headers["Content-Type"]}
    async with request.app[_SESSION].post(url, data=await request.read(), headers=headers) as answer:
        response = web.StreamResponse(headers={"Content-Type": answer.headers["Content-Type"]})
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


async def _session(app: web.Application) -> AsyncIterator[None]:
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as app[_SESSION]:
        yield


def main(port: int, upstream_port: int, loop: asyncio.AbstractEventLoop) -> None:
    """Serve forever."""
    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app[_UPSTREAM] = f"http://127.0.0.1:{upstream_port}"
    app.cleanup_ctx.append(_session)
    app.router.add_post("/{path:.*}", forward)
    run = partial(web.run_app, app, access_log=None, print=None, backlog=4096, handler_cancellation=True)
    run(host="127.0.0.1", port=port, loop=loop)


if __name__ == "__main__":
    library = import_module(sys.argv[3]) if len(sys.argv) > 3 else asyncio  # uvloop is only in LiteLLM's environment
    main(int(sys.argv[1]), int(sys.argv[2]), library.new_event_loop())
