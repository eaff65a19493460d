"""A compact table of the kept requests, by which they are filtered and counted without reading them again.

It grows with the files: `refresh` reads what was appended since. All of it is blocking, and runs in one thread at a
time; in between it lets other threads go on, since reading JSON holds the interpreter's lock.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from bridge.activity.entry import Entry
from bridge.activity.files import Part, opened, parts_of
from bridge.state.documents import StateFolder
from bridge.statistics.counts import HERE

#: How much is read at once; a longer line was not written by the bridge.
CHUNK_BYTES: Final = 1024 * 1024
#: After this many lines, which take less than a millisecond, other threads may go on.
PIECE_LINES: Final = 200

#: Names that are remembered for each request that is kept, and besides: callers may make up names of models.
NAMES_FOR_ROW: Final = 2
SPARE_NAMES: Final = 10_000

#: What requests are filtered by, besides their time and their words.
FACETS: Final = ("ending", "key", "model", "account")


class Names:
    """Names as small numbers, the same for all files."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.names: list[str] = []

    def number(self, name: str) -> int:
        """The number of a name."""
        found = self.numbers.get(name)
        if found is None:
            found = self.numbers[name] = len(self.names)
            self.names.append(name)
        return found


@dataclass(slots=True)
class PartIndex:
    """The requests of one file, in its order: where each begins, when it came, and the numbers of its names."""

    part: Part
    read: int = 0
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    at: array[float] = field(default_factory=lambda: array("d"))
    facets: tuple[array[int], ...] = field(default_factory=lambda: tuple(array("I") for _ in FACETS))
    _counted: tuple[Counter[int], ...] = field(default_factory=lambda: tuple(Counter() for _ in FACETS))
    _counted_rows: int = 0

    def __len__(self) -> int:
        return len(self.offsets)

    def ends(self, row: int) -> int:
        """Where the line of a row ends at the latest; a line that could not be read may stand before it."""
        return self.offsets[row + 1] if row + 1 < len(self.offsets) else self.read

    def counts(self, column: int) -> Counter[int]:
        """How many requests have each name in a column."""
        if self._counted_rows < len(self.offsets):
            for counts, names in zip(self._counted, self.facets, strict=True):
                counts.update(names[self._counted_rows :])
            self._counted_rows = len(self.offsets)
        return self._counted[column]

    def row_at(self, offset: int) -> int:
        """The row in whose bytes an offset is; -1 before the first."""
        return bisect_right(self.offsets, offset) - 1


class Index:
    """The table of all files, the oldest first."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._indexes: dict[str, PartIndex] = {}
        self.names = tuple(Names() for _ in FACETS)

    @property
    def parts(self) -> list[PartIndex]:
        """The files, the oldest first."""
        return list(self._indexes.values())

    def refresh(self) -> None:
        """Read what was appended, and forget what was dropped. Raises OSError."""
        parts = parts_of(self._folder)
        kept = {part.path.name for part in parts}
        known = {name: index for name, index in self._indexes.items() if name in kept}
        rows = sum(map(len, known.values()))
        if any(len(names.names) > NAMES_FOR_ROW * rows + SPARE_NAMES for names in self.names):
            known = {}  # most names are of requests that are kept no longer
            self.names = tuple(Names() for _ in FACETS)
        self._indexes = {}
        for part in parts:
            index = known.get(part.path.name)
            if index is None or part.size < index.read:  # cut or replaced by hand
                index = PartIndex(part)
            index.part = part
            if part.size > index.read:
                try:
                    self._read(index)
                except FileNotFoundError:  # another process has just dropped it
                    continue
            self._indexes[part.path.name] = index

    def _read(self, index: PartIndex) -> None:
        """Read a file from where it was read last, up to the last whole line of the size that was listed."""
        with opened(index.part) as file:
            file.seek(index.read)
            rest, left = b"", index.part.size - index.read
            while chunk := file.read(min(CHUNK_BYTES, left)):
                left -= len(chunk)
                data = rest + chunk
                end = data.rfind(b"\n") + 1
                self._add(index, data[:end])
                rest = data[end:]
                if len(rest) > CHUNK_BYTES:  # no line of ours: as if it had ended here
                    index.read += len(rest)
                    rest = b""

    def _add(self, index: PartIndex, data: bytes) -> None:
        loads, numbers = orjson.loads, [names.number for names in self.names]
        offset = index.read
        for count, line in enumerate(data.split(b"\n")[:-1]):
            if count % PIECE_LINES == 0:
                time.sleep(0)  # lets other threads have the interpreter
            try:
                at, *facets = _row(loads(line))
            except (ValueError, LookupError, TypeError, AttributeError):  # torn, or not ours
                pass
            else:
                index.offsets.append(offset)
                index.at.append(at)
                for column, number, name in zip(index.facets, numbers, facets, strict=True):
                    column.append(number(name))
            offset += len(line) + 1
        index.read = offset


def _row(plain: Any) -> tuple[float, str, str, str, str]:
    """What the table has of a line. Raises ValueError, LookupError or TypeError."""
    get = plain.get
    word = plain["word"]
    ending = word + HERE if get("refused") else word
    return float(plain["at"]), ending, get("key", ""), get("model") or get("asked", ""), get("account", "")


def entries(index: PartIndex, rows: list[int]) -> Iterator[Entry]:
    """Read the entries of some rows of a file, in the given order. Raises OSError."""
    with opened(index.part) as file:
        for row in rows:
            start = index.offsets[row]
            file.seek(start)
            line = file.read(index.ends(row) - start).partition(b"\n")[0]
            try:
                yield Entry.from_line(line)
            except ValueError:  # the file was changed meanwhile
                continue
