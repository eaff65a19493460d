"""Collects citations: the most complete version of each source, and the places in the text that cite it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from upstream.protocol.events import Source
from upstream.protocol.line_values import MAX_OFFSETS, MAX_SOURCES

#: The maximum number of annotations of one answer, each of which repeats its source.
MAX_ANNOTATIONS: Final = 1000


def merge_sources(known: dict[str, Source], sources: Iterable[Source]) -> None:
    """Merge sources into those known by URL, since a source may be repeated with more fields and offsets.

    Only the first `MAX_SOURCES` are kept.
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
    """Yield each offset in the text that cites a source, or 0 if none is known; at most `MAX_ANNOTATIONS`."""
    every = ((source, offset) for source in sources.values() for offset in source.offsets or (0,))
    return islice(every, MAX_ANNOTATIONS)
