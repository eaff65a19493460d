"""By whose certificates a peer is believed: the system's, read when the first TLS connection is to be made.

aiohttp reads them twice while it is imported: 35 to 70 ms of the daemon's start (`make bench`). Within `unread` it
finds no file of them. A call that does not say `ssl=await trust(url)` then believes too few peers, never too many.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

from yarl import URL

from upstream.http.tls_buffers import shrink_tls_buffers

#: Where OpenSSL is told of another file with the certificates.
_FILE: Final = "SSL_CERT_FILE"


@contextmanager
def unread() -> Iterator[None]:
    """Import aiohttp within, without reading certificates."""
    kept = os.environ.get(_FILE)
    os.environ[_FILE] = os.devnull
    try:
        yield
    finally:
        del os.environ[_FILE]
        if kept is not None:
            os.environ[_FILE] = kept


async def trust(url: URL) -> ssl.SSLContext | bool:
    """What aiohttp's `ssl` is to be for a call to this URL."""
    return await asyncio.to_thread(system_context) if url.scheme == "https" else True


@cache
def system_context() -> ssl.SSLContext:
    """A client's context by the system's certificates; they are read once. Blocks.

    What is connected with it reads into small buffers.
    """
    shrink_tls_buffers()
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])  # as aiohttp's own has it
    return context
