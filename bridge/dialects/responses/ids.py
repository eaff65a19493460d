"""The ids of responses and of their items: each item's id names its response."""

from __future__ import annotations

from typing import Final

#: A stamp: 32 hex digits.
_STAMP_CHARS: Final = 32


def response_id(stamp: str) -> str:
    """The id of the response of a stamp, which is 32 hex digits."""
    return f"resp_{stamp}"


def item_id(prefix: str, stamp: str, index: int) -> str:
    """The id of an item: what it is (`msg`, `rs`, `fc`, `ctc`, and `item` of the input), its response, its place."""
    return f"{prefix}_{stamp}{index:04x}"


def input_item_id(response: str, index: int) -> str:
    """The id of an input item that came without one, by its response's id."""
    return item_id("item", response.partition("_")[2], index)


def response_id_of(item: str) -> str:
    """The id of the response that an item's id names."""
    return response_id(item.partition("_")[2][:_STAMP_CHARS])
