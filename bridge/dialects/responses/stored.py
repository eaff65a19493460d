"""Stored responses, which `previous_response_id` continues and GET returns. An API key sees only its own.

Their number and size are limited. Beyond the limits, the oldest response of the key that has the most is removed, so
that no key can evict the responses of others.

A response has only its own input and the id of the one before it, so that a long conversation is stored once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, Protocol

import orjson

from bridge.dialects.responses.ids import response_id_of
from bridge.dialects.responses.listed import listed_items
from bridge.errors import ApiError, invalid_request

#: The maximum number of responses, and of the bytes of all of them together.
MAX_RESPONSES: Final = 10_000
MAX_BYTES: Final = 64 * 1024 * 1024
#: The maximum length of a chain of responses that continue each other.
MAX_CHAIN: Final = 10_000
#: The memory that a response takes in addition to its JSON.
_OVERHEAD_BYTES: Final = 512


class Stored(NamedTuple):
    """One response: the id of the API key that made it, its own input items and the response object, both as JSON."""

    owner: str
    previous: str | None
    input: bytes
    response: bytes

    @property
    def size(self) -> int:
        """Its approximate size in bytes."""
        return len(self.input) + len(self.response) + _OVERHEAD_BYTES

    @property
    def is_whole(self) -> bool:
        """Whether it is well-formed; it may not have been written by the bridge."""
        try:
            given, response = orjson.loads(self.input), orjson.loads(self.response)
        except orjson.JSONDecodeError:
            return False
        return isinstance(given, list) and isinstance(response, dict) and isinstance(response.get("output"), list)

    def output(self) -> list[object]:
        """Return the items of its answer."""
        output: list[object] = orjson.loads(self.response)["output"]
        return output


class _Owner:
    """The responses of one API key: the ids, the oldest first, and their size in bytes."""

    __slots__ = ("ids", "size")

    def __init__(self) -> None:
        self.ids: OrderedDict[str, None] = OrderedDict()
        self.size = 0


class StoredResponses:
    """All stored responses by id, the oldest first. It does no I/O; `on_change` connects it to a store."""

    def __init__(self, max_bytes: int = MAX_BYTES, max_responses: int = MAX_RESPONSES) -> None:
        self._max_bytes = max_bytes
        self._max_responses = max_responses
        self._kept: OrderedDict[str, Stored] = OrderedDict()
        self._size = 0
        self._owners: dict[str, _Owner] = {}
        self._on_change: Callable[[str, Stored | None], None] | None = None

    def on_change(self, callback: Callable[[str, Stored | None], None]) -> None:
        """Call `callback` for each response that is put or removed from now on; with None for a removed one."""
        self._on_change = callback

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[tuple[str, Stored]]:
        """Yield ids and responses, the oldest first."""
        return iter(self._kept.items())

    @property
    def size(self) -> int:
        """The size of all responses in bytes."""
        return self._size

    def put(self, id_: str, stored: Stored) -> None:
        """Store a response, unless it alone exceeds the limit, and report the change."""
        self.put_unreported(id_, stored)
        if self._on_change is not None:
            self._on_change(id_, stored)

    def put_unreported(self, id_: str, stored: Stored) -> None:
        """Store a response without reporting a change."""
        self.remove_unreported(id_)
        if stored.size > self._max_bytes:
            return
        # Copied, because the output of orjson takes up to twice its length, and at least 4 KiB.
        exact = [bytes(memoryview(each)) for each in (stored.input, stored.response)]
        self._kept[id_] = Stored(stored.owner, stored.previous, *exact)
        self._size += stored.size
        if (owner := self._owners.get(stored.owner)) is None:
            owner = self._owners[stored.owner] = _Owner()
        owner.ids[id_] = None
        owner.size += stored.size
        while self._size > self._max_bytes or len(self._kept) > self._max_responses:
            self.remove_unreported(self._next_evicted(owner))

    def _next_evicted(self, last: _Owner) -> str:
        """Return the oldest id of the key that has the most, or of `last` if that has at least an equal share."""
        if self._size > self._max_bytes:
            if last.size * len(self._owners) < self._size:
                last = max(self._owners.values(), key=lambda owner: owner.size)
        elif len(last.ids) * len(self._owners) < len(self._kept):
            last = max(self._owners.values(), key=lambda owner: len(owner.ids))
        return next(iter(last.ids))

    def remove(self, id_: str) -> None:
        """Remove a response, if it is there, and report the change."""
        self.remove_unreported(id_)
        if self._on_change is not None:
            self._on_change(id_, None)

    def remove_unreported(self, id_: str) -> None:
        """Remove a response, if it is there, without reporting a change."""
        if (stored := self._kept.pop(id_, None)) is not None:
            self._size -= stored.size
            owner = self._owners[stored.owner]
            owner.size -= stored.size
            del owner.ids[id_]
            if not owner.ids:
                del self._owners[stored.owner]

    def find(self, owner: str, id_: str) -> Stored | None:
        """Return a response if it belongs to the API key `owner`."""
        stored = self._kept.get(id_)
        return stored if stored is not None and stored.owner == owner else None

    def history(self, owner: str, id_: str) -> list[object]:
        """Return all items up to and including a response. Raises ApiError (400) if it or one before it is missing."""
        items: list[object] = []
        for stored in reversed(self._chain(owner, id_)):
            items += orjson.loads(stored.input)
            items += stored.output()
        return items

    def history_bytes(self, owner: str, id_: str) -> int:
        """Return the size of what `history` reads; 0 if the response or one before it is missing."""
        try:
            return sum([stored.size for stored in self._chain(owner, id_)])
        except ApiError:
            return 0

    def _chain(self, owner: str, id_: str) -> list[Stored]:
        """Return a response and those before it, the newest first. Raises ApiError (400) if one is missing."""
        chain: list[Stored] = []
        before: str | None = id_
        while before is not None:
            stored = self.find(owner, before)
            if stored is None or len(chain) >= MAX_CHAIN:
                raise _not_found(id_)
            chain.append(stored)
            before = stored.previous
        return chain

    def resolve(self, owner: str, items: Iterable[object]) -> Iterator[object]:
        """Replace each `item_reference` by the item. Raises ApiError (400) if there is no such item.

        Each item may be referred to once, so that a small request cannot expand into a large one.
        """
        finder, seen = ItemFinder(self, owner), set[str]()
        for at, item in enumerate(items):
            id_ = referenced_id(item)
            if id_ is None:
                yield item
                continue
            found = finder.find(id_)
            if found is None:
                message = f"Item with id '{id_[:100]}' not found, or no longer stored: send the item itself."
                raise invalid_request("item_not_found", message, f"input[{at}].id")
            if id_ in seen:
                raise invalid_request("invalid_value", f"'{id_[:100]}' is referenced twice.", f"input[{at}].id")
            seen.add(id_)
            yield found


class SharedResponses(Protocol):
    """Stored responses of several processes."""

    async def fetch(self, owner: str, ids: Iterable[str]) -> None:
        """Load these responses, and those that they continue, into this process's `StoredResponses`."""

    @property
    def has_unconfirmed(self) -> bool:
        """Whether there are changes for which `wait_until_confirmed` would wait."""

    async def wait_until_confirmed(self) -> None:
        """Wait until the other processes see the changes to this one's `StoredResponses`."""


class ItemFinder:
    """Finds items of one API key's stored responses by their ids; each response is parsed once."""

    def __init__(self, stored: StoredResponses, owner: str) -> None:
        self._stored = stored
        self._owner = owner
        self._items: dict[str, dict[object, object]] = {}  # by response, by id

    def find(self, id_: str) -> object | None:
        """Find an item in the input or output of a response; None if there is none."""
        response = response_id_of(id_)
        if response not in self._items:
            self._items[response] = dict(self._items_of(response))
        return self._items[response].get(id_)

    def _items_of(self, response: str) -> Iterator[tuple[object, object]]:
        stored = self._stored.find(self._owner, response)
        if stored is not None:
            for item in (*listed_items(response, orjson.loads(stored.input)), *stored.output()):
                if isinstance(item, dict):
                    yield item.get("id"), item


def referenced_id(item: object) -> str | None:
    """Return the id in an `item_reference`, whose type may be left out; None for any other item."""
    if not isinstance(item, dict) or "role" in item or item.get("type") not in ("item_reference", None):
        return None
    id_ = item.get("id")
    return id_ if isinstance(id_, str) else None


def _not_found(id_: str) -> ApiError:
    message = f"Previous response with id '{id_[:100]}' not found: send the whole history in 'input'."
    return invalid_request("previous_response_not_found", message, "previous_response_id")
