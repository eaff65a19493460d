"""The order in which waiting requests are served: one of each key in turn, and those of one key by arrival.

A key with 500 waiting delays another key's first by at most one place:

    waiting, by key   a: 1 2 3 4 …   b: 5   c: 6 7
    order             1 5 6 2 7 3 4 …

The key that was served goes to the end of the turn. A key whose next request may not be served now is passed over, and
keeps its turn. No clock, no I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Turns(Generic[T]):
    """The waiting calls. Each method but `ahead_of_new`, `longest` and iterating costs the same however many wait."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()  # the next key first
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        """All calls, in the order in which they are served if every key may be served."""
        rows = [iter(row) for row in self._keys.values()]
        while rows:
            left = []
            for row in rows:
                for each in row:
                    yield each
                    left.append(row)
                    break
            rows = left

    def waiting_of(self, key_id: str) -> int:
        """How many calls of a key wait."""
        row = self._keys.get(key_id)
        return 0 if row is None else len(row)

    def add(self, key_id: str, each: T) -> None:
        """Let a call wait behind all others of its key."""
        self._keys.setdefault(key_id, OrderedDict())[each] = None
        self._size += 1

    def put_back(self, key_id: str, each: T) -> None:
        """Let a call that was taken, but could not be served, be the next again."""
        row = self._keys.setdefault(key_id, OrderedDict())
        row[each] = None
        row.move_to_end(each, last=False)
        self._keys.move_to_end(key_id, last=False)
        self._size += 1

    def remove(self, key_id: str, each: T) -> bool:
        """Let a call no longer wait; False if it did not wait."""
        row = self._keys.get(key_id)
        if row is None or each not in row:
            return False
        del row[each]
        if not row:
            del self._keys[key_id]
        self._size -= 1
        return True

    def take(self, may: Callable[[T], bool]) -> T | None:
        """Take the next one out of which `may` says that it may be served; None if there is none.

        It is asked about the first call of each key, which stands for all of that key.
        """
        for key_id, row in self._keys.items():
            first = next(iter(row))
            if may(first):
                row.popitem(last=False)
                if row:
                    self._keys.move_to_end(key_id)
                else:
                    del self._keys[key_id]
                self._size -= 1
                return first
        return None

    def ahead_of_new(self, key_id: str) -> int:
        """How many calls would be served before one that comes now, if every key may be served."""
        mine = self.waiting_of(key_id)
        ahead, before = mine, mine > 0
        for other, row in self._keys.items():
            if other == key_id:
                before = False
            else:
                ahead += min(len(row), mine + 1 if before or not mine else mine)
        return ahead

    def longest(self) -> tuple[str, T] | None:
        """The key with most waiting calls, and the last of them; None if nothing waits."""
        if not self._keys:
            return None
        key_id, row = max(self._keys.items(), key=lambda item: len(item[1]))
        return key_id, next(reversed(row))
