"""Text that JSON of other programs may hold, but that UTF-8 cannot: surrogates."""

from __future__ import annotations

import re
from typing import Final

#: A surrogate that is no half of a pair.
_LONE: Final = re.compile("[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")


def well_formed(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced by U+FFFD, so that it can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        # The codec's own replacement calls Python for each: 2 s for a million.
        return _LONE.sub("\ufffd", text).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    return text
