"""The TLS client context: peers are verified with the system's certificates, loaded for the first TLS connection."""

from __future__ import annotations

import asyncio
import ssl
from functools import cache

from upstream.http.tls_buffers import shrink_tls_buffers


async def tls_context() -> ssl.SSLContext:
    """Return the context for all TLS connections; the first call loads the certificates in a thread."""
    if system_context.cache_info().currsize:
        return system_context()
    return await asyncio.to_thread(system_context)


@cache
def system_context() -> ssl.SSLContext:
    """Make a client context with the system's certificates, once. Blocks.

    TLS connections use small read buffers from then on.
    """
    shrink_tls_buffers()
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
