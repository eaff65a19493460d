"""Reads the query parameter `limit` of lists, common to all APIs."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.errors import invalid_request


def read_limit(query: Mapping[str, str], *, default: int, maximum: int) -> int:
    """Read `limit`, the maximum number of items on a page. Raises ApiError (400) unless it is 1 to `maximum`."""
    text = query.get("limit")
    if text is None:
        return default
    if not text.isdecimal() or len(text) > len(str(maximum)) or not 1 <= int(text) <= maximum:
        raise invalid_request("invalid_value", f"'limit' must be between 1 and {maximum}.", "limit")
    return int(text)
