"""How the bridge shows itself to the site: by bridge.toml, and by what was pasted since."""

from __future__ import annotations

import os
from typing import Final

from aiohttp import web

import bridge
from bridge.config.schema import Config
from bridge.state.admin import Clearance
from handlers.request.appkeys import CLIENT, SETTINGS, STATE
from upstream import client
from upstream.http.proxies import Proxies

#: Connections to upstream beside those of streams: pages, uploads.
_SPARE_CONNECTIONS: Final = 20
#: The User-Agent where no browser's is given: we pass for nobody else.
_OWN_NAME: Final = f"lmarena-bridge/{bridge.__version__}"


def use_clearance(app: web.Application) -> None:
    """Show the site what bridge.toml, or a paste since, says that the browser showed it."""
    app[CLIENT].reconfigure(client_settings(app[SETTINGS].config, app[STATE].admin.clearance))


def client_settings(config: Config, clearance: Clearance | None) -> client.ClientSettings:
    """What the upstream client needs to know; a clearance pasted since stands in for bridge.toml's own."""
    upstream = config.upstream
    configured = upstream.cf_clearance.value
    if clearance is None or not clearance.replaces(configured):
        clearance = None
    return client.ClientSettings(
        base_url=upstream.base_url,
        origins=upstream.allowed_origins,
        user_agent=(clearance.user_agent if clearance else "") or upstream.user_agent or _OWN_NAME,
        cf_clearance=clearance.value if clearance else configured,
        connect_timeout=upstream.connect_timeout,
        idle_timeout=upstream.idle_timeout,
        connections=config.limits.streams + _SPARE_CONNECTIONS,
        proxies=Proxies.chosen(upstream.proxy.value, os.environ),
    )
