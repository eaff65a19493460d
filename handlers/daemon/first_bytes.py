"""What a caller sends first: whether more of it must be awaited, and which secret is in it.

This sorts connections before anything is made of them, and decides nothing: aiohttp parses the same bytes afterwards,
and the route's door judges the key.
"""

from __future__ import annotations

import re
from typing import Final

#: The end of a head is awaited up to here.
MAX_BYTES: Final = 64 * 1024
#: Mistakes are looked for in so much of it: heads of SDKs and browsers have less.
_CHECKED_BYTES: Final = 4 * 1024

#: A request line, and one that stops anywhere.
_REQUEST_LINE: Final = re.compile(rb"[A-Z]{1,20} [!-~]+ HTTP/1\.[01]")
_BEGUN: Final = re.compile(rb"[A-Z]{0,20}|[A-Z]{1,20} (?:[!-~]+(?: [HTP/.01]{0,8}\r?)?)?")
#: Where keys are sent, spelled in any way that a client may spell it.
_SECRET: Final = re.compile(
    rb"\r\n(?:authorization:[ \t]*bearer[ \t]|x-api-key:|api-key:)[ \t]*([!-~]{1,256})[ \t]*\r\n", re.IGNORECASE
)


def is_unfinished(sent: bytes) -> bool:
    """Whether more of a head must be awaited: it has not ended, is not too long, and looks like HTTP so far."""
    if len(sent) >= MAX_BYTES or b"\r\n\r\n" in sent:
        return False
    if len(sent) > _CHECKED_BYTES:
        return True
    line, ended, headers = sent.partition(b"\r\n")
    if not ended:
        return _BEGUN.fullmatch(line) is not None
    return _REQUEST_LINE.fullmatch(line) is not None and headers.count(b"\n") == headers.count(b"\r\n")


def secret_in(sent: bytes) -> str | None:
    """The first secret of an API key in a head that has ended, None if there is none. It may be wrong."""
    head, end, _ = sent.partition(b"\r\n\r\n")
    found = _SECRET.search(head + end[:2]) if end else None
    return found[1].decode("ascii") if found is not None else None
