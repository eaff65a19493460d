"""A compact index of the recorded requests, by which they are filtered and counted without reading them again.

`refresh` reads what was appended to the files. Everything here is blocking, and runs in one thread at a time; it yields
to other threads now and then, since reading JSON holds the interpreter's lock.
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
from bridge.activity.files import Part, open_part, parts_of
from bridge.state.documents import StateFolder
from bridge.statistics.counts import HERE

#: How many bytes are read at once; a longer line was not written by the bridge.
CHUNK_BYTES: Final = 1024 * 1024
#: After this many lines, which take less than a millisecond, other threads may run.
PIECE_LINES: Final = 200

#: The most names, for each request in the files, and in addition: callers may make up names of models.
NAMES_FOR_ROW: Final = 2
SPARE_NAMES: Final = 10_000

#: What requests are filtered by, besides their time and their text.
FACETS: Final = ("ending", "key", "model", "account")


class Names:
    """Numbers for names, the same in all files."""

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
    """The requests of one file, in its order: the offset of each line, its time, and the numbers of its names."""

    part: Part
    read: int = 0  # how many bytes of it
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    at: array[float] = field(default_factory=lambda: array("d"))
    facets: tuple[array[int], ...] = field(default_factory=lambda: tuple(array("I") for _ in FACETS))
    _counted: tuple[Counter[int], ...] = field(default_factory=lambda: tuple(Counter() for _ in FACETS))
    _counted_rows: int = 0

    def __len__(self) -> int:
        return len(self.offsets)

    def end_of(self, row: int) -> int:
        """The offset by which the line of a row has ended; after it there may be lines that could not be read."""
        return self.offsets[row + 1] if row + 1 < len(self.offsets) else self.read

    def counts(self, column: int) -> Counter[int]:
        """How many requests have each name in a column."""
        if self._counted_rows < len(self.offsets):
            for counts, names in zip(self._counted, self.facets, strict=True):
                counts.update(names[self._counted_rows :])
            self._counted_rows = len(self.offsets)
        return self._counted[column]

    def row_at(self, offset: int) -> int:
        """The row whose line contains an offset; -1 before the first row."""
        return bisect_right(self.offsets, offset) - 1


class Index:
    """The index of all files."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._indexes: dict[str, PartIndex] = {}
        self.names = tuple(Names() for _ in FACETS)

    @property
    def parts(self) -> list[PartIndex]:
        """The indexes of the files, the oldest first."""
        return list(self._indexes.values())

    def refresh(self) -> None:
        """Read what was appended, and forget files that were deleted. Raises OSError."""
        parts = parts_of(self._folder)
        kept = {part.path.name for part in parts}
        known = {name: index for name, index in self._indexes.items() if name in kept}
        rows = sum(map(len, known.values()))
        if any(len(names.names) > NAMES_FOR_ROW * rows + SPARE_NAMES for names in self.names):
            known = {}  # most names are those of deleted requests
            self.names = tuple(Names() for _ in FACETS)
        self._indexes = {}
        for part in parts:
            index = known.get(part.path.name)
            if index is None or part.size < index.read:  # truncated or replaced by hand
                index = PartIndex(part)
            index.part = part
            if part.size > index.read:
                try:
                    self._read(index)
                except FileNotFoundError:  # another process has just deleted it
                    continue
            self._indexes[part.path.name] = index

    def _read(self, index: PartIndex) -> None:
        """Read on in a file, up to the last whole line within the size that it had when it was listed."""
        with open_part(index.part) as file:
            file.seek(index.read)
            rest, left = b"", index.part.size - index.read
            while chunk := file.read(min(CHUNK_BYTES, left)):
                left -= len(chunk)
                data = rest + chunk
                end = data.rfind(b"\n") + 1
                self._add(index, data[:end])
                rest = data[end:]
                if len(rest) > CHUNK_BYTES:  # not a line of the bridge: skip what was read of it
                    index.read += len(rest)
                    rest = b""

    def _add(self, index: PartIndex, data: bytes) -> None:
        loads, numbers = orjson.loads, [names.number for names in self.names]
        offset = index.read
        for count, line in enumerate(data.split(b"\n")[:-1]):
            if count % PIECE_LINES == 0:
                time.sleep(0)  # releases the GIL, so that the event loop can run in between
            try:
                at, *facets = _row(loads(line))
            except (ValueError, LookupError, TypeError, AttributeError):  # a partial line, or not the bridge's
                pass
            else:
                index.offsets.append(offset)
                index.at.append(at)
                for column, number, name in zip(index.facets, numbers, facets, strict=True):
                    column.append(number(name))
            offset += len(line) + 1
        index.read = offset


def _row(plain: Any) -> tuple[float, str, str, str, str]:
    """What the index has of a line. Raises ValueError, LookupError, TypeError or AttributeError."""
    get = plain.get
    word = plain["word"]
    ending = word + HERE if get("refused") else word
    return float(plain["at"]), ending, get("key", ""), get("model") or get("asked", ""), get("account", "")


def entries(index: PartIndex, rows: list[int]) -> Iterator[Entry]:
    """Read the entries of some rows of a file, in the given order. Raises OSError."""
    with open_part(index.part) as file:
        for row in rows:
            start = index.offsets[row]
            file.seek(start)
            line = file.read(index.end_of(row) - start).partition(b"\n")[0]
            try:
                yield Entry.from_line(line)
            except ValueError:  # the file has changed meanwhile
                continue
