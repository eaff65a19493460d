"""Searching recorded requests by words, outcome, key, model, account and time: in pages, the newest first, with counts.

Blocking, and for one thread at a time, like the index.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bridge.activity.entry import Entry, searched_text
from bridge.activity.files import open_part
from bridge.activity.index import FACETS, Index, PartIndex, entries
from bridge.state.documents import StateFolder
from bridge.statistics.counts import HERE, NO_FAILURE

#: Entries on a page.
PAGE_SIZE: Final = 50
#: After filtering this many rows, which takes about a millisecond, other threads may run.
_PIECE_ROWS: Final = 4000
#: How many searches for words are remembered, so that a page that refreshes itself reads only new requests.
_REMEMBERED: Final = 8
#: The most names of keys, models or accounts that are returned with a page.
_MAX_NAMES: Final = 200
#: Outcomes that stand for several words: failures, refusals by the bridge itself, and both.
FAILED: Final = "failed"
REFUSED: Final = "refused"
ERRORS: Final = "errors"


@dataclass(frozen=True, slots=True)
class Query:
    """What to search for; an empty field matches everything.

    Each of `words` must be in the request's id, models, key, client, code or message, in upper or lower case. `outcome`
    is a word of diagnosis, marked as in the statistics if the bridge itself refused, or FAILED, REFUSED or ERRORS.
    Times are unix seconds.
    """

    words: tuple[str, ...] = ()
    outcome: str = ""
    key: str = ""
    model: str = ""
    account: str = ""
    since: float | None = None
    until: float | None = None


class Found(NamedTuple):
    """One page of a search. `total` is the number of results on all pages; `first` counts from 1.

    `outcomes` counts what the query would find without its outcome; `keys`, `models` and `accounts` are the most common
    names of all recorded requests.
    """

    entries: Sequence[Entry]
    total: int
    first: int
    page: int
    pages: int
    outcomes: Counter[str]
    keys: Sequence[str]
    models: Sequence[str]
    accounts: Sequence[str]


def has_outcome(ending: str, outcome: str) -> bool:
    """Whether a request that ended with this word belongs to an outcome."""
    if outcome == ERRORS:
        return ending not in NO_FAILURE
    if outcome == REFUSED:
        return ending.endswith(HERE)
    if outcome == FAILED:
        return not ending.endswith(HERE) and ending not in NO_FAILURE
    return not outcome or ending == outcome


class Searches:
    """Searches the recorded requests of a state folder."""

    def __init__(self, folder: StateFolder) -> None:
        self._index = Index(folder)
        self._texts: OrderedDict[tuple[str, ...], dict[str, tuple[int, array[int]]]] = OrderedDict()

    def find(self, query: Query, page: int = 1, size: int = PAGE_SIZE) -> Found:
        """Find a page of results, or the last page if there are fewer. Raises OSError."""
        try:
            return self._find(query, page, size)
        except FileNotFoundError:  # another process has just deleted a file
            return self._find(query, page, size)

    def _find(self, query: Query, page: int, size: int) -> Found:
        self._index.refresh()
        facets = self._numbers(query)
        hits: list[tuple[PartIndex, list[int]]] = []
        outcomes: Counter[int] = Counter()
        wanted = {number for name, number in self._index.names[0].numbers.items() if has_outcome(name, query.outcome)}
        for indexed in self._index.parts:
            rows = list(self._rows(indexed, query, facets))
            endings = indexed.facets[0]
            outcomes.update(map(endings.__getitem__, rows))
            hits.append((indexed, [row for row in rows if endings[row] in wanted] if query.outcome else rows))
        total = sum(len(rows) for _, rows in hits)
        pages = max(1, -(-total // size))
        page = min(max(1, page), pages)
        names = self._index.names[0].names
        return Found(
            list(_newest(hits, (page - 1) * size, size)),
            total,
            (page - 1) * size + 1,
            page,
            pages,
            Counter({names[number]: count for number, count in outcomes.items()}),
            *(self._commonest(column) for column in range(1, len(FACETS))),
        )

    def get(self, request_id: str) -> Entry | None:
        """The last request with this id, if it is recorded. Raises OSError."""
        self._index.refresh()
        needle = f'"id":"{request_id}"'.encode()
        for indexed in reversed(self._index.parts):
            with open_part(indexed.part) as file:
                data = file.read(indexed.read)
            offset = len(data)
            while (offset := data.rfind(needle, 0, offset)) >= 0:
                row = indexed.row_at(offset)
                for entry in entries(indexed, [row] if row >= 0 else []):
                    if entry.id == request_id:
                        return entry
        return None

    def _numbers(self, query: Query) -> list[tuple[int, int]]:
        """The names that are searched for, as (column, number); the number is -1 if no request has the name."""
        wanted = ("", query.key, query.model, query.account)
        return [(column, self._index.names[column].numbers.get(name, -1)) for column, name in enumerate(wanted) if name]

    def _rows(self, indexed: PartIndex, query: Query, facets: Sequence[tuple[int, int]]) -> Iterator[int]:
        """The rows of a file that match the query apart from its outcome, in the order of the file."""
        rows: Iterable[int] = self._with_words(indexed, query.words) if query.words else range(len(indexed))
        since = float("-inf") if query.since is None else query.since
        until = float("inf") if query.until is None else query.until
        columns = [(indexed.facets[column], number) for column, number in facets]
        timed = query.since is not None or query.until is not None
        if not columns and not timed:
            yield from rows
            return
        for count, row in enumerate(rows):
            if count % _PIECE_ROWS == 0:
                time.sleep(0)  # releases the GIL, so that the event loop can run in between
            if timed and not since <= indexed.at[row] < until:
                continue
            if all(column[row] == number for column, number in columns):
                yield row

    def _with_words(self, indexed: PartIndex, words: tuple[str, ...]) -> array[int]:
        """The rows of a file that have all words. Rows that were searched before are not searched again."""
        known = self._texts.setdefault(words, {})
        self._texts.move_to_end(words)
        while len(self._texts) > _REMEMBERED:
            self._texts.popitem(last=False)
        done, rows = known.get(indexed.part.path.name, (0, array("I")))
        if done > len(indexed):
            done, rows = 0, array("I")
        if done < len(indexed):
            rows.extend(_search(indexed, done, words))
            known[indexed.part.path.name] = len(indexed), rows
        return rows

    def _commonest(self, column: int) -> list[str]:
        """The most common names of a column, in alphabetical order."""
        counts: Counter[int] = Counter()
        for indexed in self._index.parts:
            counts.update(indexed.counts(column))
        names = self._index.names[column].names
        return sorted(filter(None, (names[number] for number, _ in counts.most_common(_MAX_NAMES))))


def _newest(hits: Sequence[tuple[PartIndex, list[int]]], skip: int, count: int) -> Iterator[Entry]:
    for indexed, rows in reversed(hits):
        if skip >= len(rows):
            skip -= len(rows)
            continue
        newest = rows[::-1][skip : skip + count]
        yield from entries(indexed, newest)
        skip, count = 0, count - len(newest)
        if not count:
            return


def _search(indexed: PartIndex, first: int, words: tuple[str, ...]) -> Iterator[int]:
    """The rows from `first` on that have all words, which are case-folded."""
    start = indexed.offsets[first]
    with open_part(indexed.part) as file:
        file.seek(start)
        data = file.read(indexed.read - start)
    # Words that JSON does not escape are searched in the bytes first; the others only in the text of each line.
    plain = [word.encode() for word in words if word.isascii() and word.isprintable() and not set(word) & set('"\\')]
    low = data.lower() if plain else data
    rows = _candidates(indexed, first, low, start, max(plain, key=len)) if plain else iter(range(first, len(indexed)))
    for count, row in enumerate(rows):
        if count % 100 == 0:
            time.sleep(0)  # releases the GIL, so that the event loop can run in between
        begin, end = indexed.offsets[row] - start, indexed.end_of(row) - start
        if plain and not all(low.find(word, begin, end) >= 0 for word in plain):
            continue
        text = searched_text(data[begin:end].partition(b"\n")[0])
        if all(word in text for word in words):
            yield row


def _candidates(indexed: PartIndex, first: int, low: bytes, start: int, word: bytes) -> Iterator[int]:
    """The rows from `first` on whose lines contain a word."""
    offset, row = low.find(word), first - 1
    while offset >= 0:
        found = indexed.row_at(start + offset)
        if found > row:
            row = found
            yield row
        offset = low.find(word, indexed.end_of(row) - start)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a search text, case-folded."""
    return tuple(dict.fromkeys(text.casefold().split()))
