"""The ids of responses and of their items; the id of an item contains that of its response."""

from __future__ import annotations

from typing import Final

#: The length of a stamp, which consists of hex digits.
_STAMP_CHARS: Final = 32


def response_id(stamp: str) -> str:
    """Make the id of a response from its stamp."""
    return f"resp_{stamp}"


def item_id(prefix: str, stamp: str, index: int) -> str:
    """Make the id of an item from its kind (`msg`, `rs`, `fc`, `ctc`, or `item` in an input), stamp and index."""
    return f"{prefix}_{stamp}{index:04x}"


def input_item_id(response: str, index: int) -> str:
    """Make the id of an input item that was sent without one, from its response's id and its index."""
    return item_id("item", response.partition("_")[2], index)


def response_id_of(item: str) -> str:
    """Return the id of the response to which an item belongs."""
    return response_id(item.partition("_")[2][:_STAMP_CHARS])
