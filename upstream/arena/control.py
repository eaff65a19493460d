"""The control API under `/_arena/`, for use with curl: arm faults, set traits, list calls.

curl ORIGIN/_arena/faults
curl ORIGIN/_arena/faults -d '{"name": "rate_limited", "times": 2, "retry_after": "0"}'
curl ORIGIN/_arena/faults -X DELETE
curl ORIGIN/_arena/traits
curl ORIGIN/_arena/traits -d '{"battle_every": 3}'
curl ORIGIN/_arena/calls
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from aiohttp import web

from upstream.arena.faults import FAULTS, ArmedFault
from upstream.arena.site import Site

_CALLS: Final = 100  # the most recent ones are listed, the oldest first


def add_control(router: web.UrlDispatcher, site: Site) -> None:
    """Add the control API's routes; calls to it are not recorded in `site.calls`."""

    async def faults(_: web.Request) -> web.Response:
        known = {name: fault.about for name, fault in FAULTS.items()}
        return _json({"known": known, "armed": [_armed(armed) for armed in site.faults.armed()]})

    async def arm(request: web.Request) -> web.Response:
        try:
            site.faults.arm(**orjson.loads(await request.read()))
        except (TypeError, ValueError) as wrong:
            return _json({"error": str(wrong)}, status=400)
        return await faults(request)

    async def clear(request: web.Request) -> web.Response:
        site.faults.clear()
        return await faults(request)

    async def calls(_: web.Request) -> web.Response:
        return _json([call.summary() for call in list(site.calls)[-_CALLS:]])

    async def traits(_: web.Request) -> web.Response:
        return _json(site.traits())

    async def set_traits(request: web.Request) -> web.Response:
        try:
            site.set_traits(dict(orjson.loads(await request.read())))
        except (TypeError, ValueError) as wrong:
            return _json({"error": str(wrong)}, status=400)
        return await traits(request)

    router.add_get("/_arena/faults", faults)
    router.add_post("/_arena/faults", arm)
    router.add_delete("/_arena/faults", clear)
    router.add_get("/_arena/traits", traits)
    router.add_post("/_arena/traits", set_traits)
    router.add_get("/_arena/calls", calls)


def _armed(armed: ArmedFault) -> dict[str, Any]:
    return {
        "name": armed.name,
        "times": armed.times,
        "on": armed.on,
        "account": armed.account,
        "parameters": {name: str(value) for name, value in armed.parameters.items()},
    }


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value) + b"\n", content_type="application/json")
