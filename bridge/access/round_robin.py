"""The order in which waiting requests are served: round robin among keys, first in first out within a key.

A key with 500 waiting requests delays another key's first one by at most one place:

    waiting, by key   a: 1 2 3 4 …   b: 5   c: 6 7
    order             1 5 6 2 7 3 4 …

A key that was served goes to the end of the round. A key whose next request may not be served now is skipped, and keeps
its place. No clock, no I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class RoundRobin(Generic[T]):
    """The waiting requests. All methods but iteration, `ahead_of_new` and `longest` cost the same however many wait."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()  # none is empty; the next key first
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        """All requests, in the order in which they are served if every key may be served."""
        queues = [iter(queue) for queue in self._queues.values()]
        while queues:
            unfinished = []
            for queue in queues:
                for request in queue:
                    yield request
                    unfinished.append(queue)
                    break
            queues = unfinished

    def of(self, key_id: str) -> Collection[T]:
        """The waiting requests of a key, in order."""
        return self._queues.get(key_id, {}).keys()

    def waiting_of(self, key_id: str) -> int:
        """How many requests of a key wait."""
        return len(self._queues.get(key_id, ()))

    def add(self, key_id: str, request: T) -> None:
        """Add a request behind all others of its key."""
        self._queues.setdefault(key_id, OrderedDict())[request] = None
        self._size += 1

    def put_back(self, key_id: str, request: T) -> None:
        """Make a request that was taken, but could not be served, the next one again."""
        queue = self._queues.setdefault(key_id, OrderedDict())
        queue[request] = None
        queue.move_to_end(request, last=False)
        self._queues.move_to_end(key_id, last=False)
        self._size += 1

    def remove(self, key_id: str, request: T) -> None:
        """Remove a request, which must be waiting."""
        queue = self._queues[key_id]
        del queue[request]
        if not queue:
            del self._queues[key_id]
        self._size -= 1

    def take(self, may_serve: Callable[[T], bool]) -> T | None:
        """Remove and return the next request that may be served; None if there is none.

        `may_serve` is called with the first request of each key only: if that may not be served, none of the key may.
        """
        for key_id, queue in self._queues.items():
            first = next(iter(queue))
            if may_serve(first):
                del queue[first]
                if queue:
                    self._queues.move_to_end(key_id)
                else:
                    del self._queues[key_id]
                self._size -= 1
                return first
        return None

    def ahead_of_new(self, key_id: str) -> int:
        """How many requests would be served before one that is added now, if every key may be served."""
        own = self.waiting_of(key_id)
        ahead, is_before_own = own, own > 0
        for other, queue in self._queues.items():
            if other == key_id:
                is_before_own = False
            else:
                ahead += min(len(queue), own + 1 if is_before_own or not own else own)
        return ahead

    def longest(self) -> tuple[str, T] | None:
        """The key with the most waiting requests, and the last one of them; None if nothing waits."""
        if not self._queues:
            return None
        key_id, queue = max(self._queues.items(), key=lambda item: len(item[1]))
        return key_id, next(reversed(queue))
