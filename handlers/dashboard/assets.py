"""The static files under `web/`, which are all read once, at startup.

A requested file is looked up by name in a table, so that no path from a request reaches the file system.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from aiohttp import web

import handlers
from handlers.request.appkeys import RECORD

#: Next to our packages, both in a checkout and in a wheel.
WEB: Final = Path(handlers.__file__).parent.parent / "web"

#: How our scripts import one another.
_IMPORT: Final = re.compile(rb'(?<= from "\./)([a-z_]+\.js)(?=";)')
_TYPES: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


class Asset(NamedTuple):
    """One static file; `version`, which is part of its URL, changes with its content."""

    body: bytes
    content_type: str
    version: str


@cache
def read_assets() -> Mapping[str, Asset]:
    """Every static file by its name, read once in a process.

    Imports between scripts also have the version of the imported script in their URLs.
    """
    found: dict[str, Asset] = {}

    def versioned(imported: re.Match[bytes]) -> bytes:
        return b"%b?v=%b" % (imported[1], read(imported[1].decode()).version.encode())

    def read(name: str) -> Asset:
        if name not in found:
            path = WEB / "static" / name
            body = path.read_bytes()
            if path.suffix == ".js":
                body = _IMPORT.sub(
                    lambda match: b"%b?v=%b" % (match[1], read(match[1].decode()).version.encode()), body
                )
            found[name] = Asset(body, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:12])
        return found[name]

    for path in sorted((WEB / "static").iterdir()):
        read(path.name)
    return MappingProxyType(found)


ASSETS: Final = web.AppKey("assets", Mapping[str, Asset])


async def static(request: web.Request) -> web.StreamResponse:
    """GET /dashboard/static/{name}: cacheable without limit, since the URL changes with the content."""
    asset = request.app[ASSETS].get(request.match_info["name"])
    if asset is None:
        raise web.HTTPNotFound
    request[RECORD].quiet = True
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    charset = None if asset.content_type == "image/png" else "utf-8"
    return web.Response(body=asset.body, content_type=asset.content_type, charset=charset, headers=headers)
