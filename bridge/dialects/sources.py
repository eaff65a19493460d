"""Citations as dialects collect them: the fullest version of each source, and the places that cite it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from upstream.protocol.events import Source
from upstream.protocol.line_values import MAX_OFFSETS, MAX_SOURCES

#: Annotations of one answer: each repeats its source.
MAX_ANNOTATIONS: Final = 1000


def merge_sources(known: dict[str, Source], sources: Iterable[Source]) -> None:
    """Keep the fullest version of each source: the same one comes again with more fields and offsets.

    At most `MAX_SOURCES` are kept, the first that came.
    """
    for source in sources:
        before = known.get(source.url)
        if before is not None:
            offsets = tuple(dict.fromkeys((*before.offsets, *source.offsets)))[:MAX_OFFSETS]
            source = Source(source.url, source.title or before.title, offsets)
        elif len(known) >= MAX_SOURCES:
            continue
        known[source.url] = source


def places(sources: dict[str, Source]) -> Iterator[tuple[Source, int]]:
    """Yield each place that cites a source, or 0 where none is named; at most `MAX_ANNOTATIONS`."""
    every = ((source, offset) for source in sources.values() for offset in source.offsets or (0,))
    return islice(every, MAX_ANNOTATIONS)
