"""Reduces the read buffer of TLS connections.

asyncio allocates and clears 256 KiB for each, for as long as it is open: an open stream costs 300 KiB over https and
28 KiB over http. A TLS record has at most 16 KiB, and a smaller buffer is no slower: the rest comes with the next read.
"""

from __future__ import annotations

from asyncio import sslproto
from typing import Final

BUFFER_BYTES: Final = 16 * 1024


def shrink_tls_buffers() -> None:
    """Use small read buffers for all TLS connections that the process makes from now on.

    Neither `loop.create_connection` nor `start_tls` has an option for it in Python 3.11 to 3.14; asyncio reads the size
    from this class attribute.
    """
    sslproto.SSLProtocol.max_size = BUFFER_BYTES
