"""A caller's first bytes: whether the head of a request is complete, and which API key's secret it contains.

This only prioritises connections: aiohttp parses the same bytes again, and the route checks the key.
"""

from __future__ import annotations

import re
from typing import Final

#: Beyond this size the end of the head is not awaited.
MAX_BYTES: Final = 64 * 1024
#: Beyond this size the syntax is not checked; heads of SDKs and browsers are smaller.
_CHECKED_BYTES: Final = 4 * 1024

#: A request line, and an incomplete one.
_REQUEST_LINE: Final = re.compile(rb"[A-Z]{1,20} [!-~]+ HTTP/1\.[01]")
_PARTIAL_LINE: Final = re.compile(rb"[A-Z]{0,20}|[A-Z]{1,20} (?:[!-~]+(?: [HTP/.01]{0,8}\r?)?)?")
#: The headers in which keys are sent.
_SECRET: Final = re.compile(
    rb"\r\n(?:authorization:[ \t]*bearer[ \t]|x-api-key:|api-key:)[ \t]*([!-~]{1,256})[ \t]*\r\n", re.IGNORECASE
)


def is_unfinished(sent: bytes) -> bool:
    """Whether more of the head must be awaited: it is incomplete, not too long, and looks like HTTP so far."""
    if len(sent) >= MAX_BYTES or b"\r\n\r\n" in sent:
        return False
    if len(sent) > _CHECKED_BYTES:
        return True
    line, ended, headers = sent.partition(b"\r\n")
    if not ended:
        return _PARTIAL_LINE.fullmatch(line) is not None
    return _REQUEST_LINE.fullmatch(line) is not None and headers.count(b"\n") == headers.count(b"\r\n")


def secret_in(sent: bytes) -> str | None:
    """The first API key's secret in a complete head, None if there is none. It is not validated."""
    head, end, _ = sent.partition(b"\r\n\r\n")
    found = _SECRET.search(head + end[:2]) if end else None
    return found[1].decode("ascii") if found is not None else None
