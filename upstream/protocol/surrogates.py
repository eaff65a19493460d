"""Surrogates, which JSON of other programs may contain, but UTF-8 cannot encode."""

from __future__ import annotations

import re
from typing import Final

#: A surrogate that is not part of a pair.
_LONE: Final = re.compile("[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")


def well_formed(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced by U+FFFD, so that it can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        # The codec's own error handler calls Python for each one: 2 s for a million.
        return _LONE.sub("\ufffd", text).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    return text
