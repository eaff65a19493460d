"""By whose certificates a peer is believed: the system's, read when the first TLS connection is to be made."""

from __future__ import annotations

import asyncio
import ssl
from functools import cache

from upstream.http.tls_buffers import shrink_tls_buffers


async def trusted() -> ssl.SSLContext:
    """The context of every TLS connection that is made here."""
    if system_context.cache_info().currsize:
        return system_context()
    return await asyncio.to_thread(system_context)


@cache
def system_context() -> ssl.SSLContext:
    """A client's context by the system's certificates; they are read once. Blocks.

    What is connected with it reads into small buffers.
    """
    shrink_tls_buffers()
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
