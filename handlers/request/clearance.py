"""The upstream client's settings, from bridge.toml and the clearance pasted into the dashboard."""

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

#: Upstream connections besides those of streams, for pages and uploads.
_SPARE_CONNECTIONS: Final = 20
#: The User-Agent unless another is configured or pasted: by default the bridge does not impersonate a browser.
_USER_AGENT: Final = f"lmarena-bridge/{bridge.__version__}"


def use_clearance(app: web.Application) -> None:
    """Reconfigure the upstream client after a change of bridge.toml or of the pasted clearance."""
    app[CLIENT].reconfigure(client_settings(app[SETTINGS].config, app[STATE].admin.clearance))


def client_settings(config: Config, clearance: Clearance | None) -> client.ClientSettings:
    """The upstream client's settings; a clearance pasted after bridge.toml's was set replaces that."""
    upstream = config.upstream
    configured = upstream.cf_clearance.value
    if clearance is None or not clearance.replaces(configured):
        clearance = None
    return client.ClientSettings(
        base_url=upstream.base_url,
        origins=upstream.allowed_origins,
        user_agent=(clearance.user_agent if clearance else "") or upstream.user_agent or _USER_AGENT,
        cf_clearance=clearance.value if clearance else configured,
        connect_timeout=upstream.connect_timeout,
        idle_timeout=upstream.idle_timeout,
        connections=config.limits.streams + _SPARE_CONNECTIONS,
        proxies=Proxies.from_setting(upstream.proxy.value, os.environ),
    )
