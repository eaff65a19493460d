"""Making and rewriting text deltas; a run keeps its division into deltas."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from upstream.protocol.events import TextDeltas
from upstream.protocol.surrogates import well_formed


def text_delta(text: str) -> TextDeltas:
    """Make a single delta; lone surrogates become U+FFFD."""
    text = well_formed(text)
    return TextDeltas(text, orjson.dumps(text))


def rewrite(event: TextDeltas, push: Callable[[str], str]) -> TextDeltas | None:
    """Replace each delta of a run by what `push` returns for it; return None if nothing is left.

    A delta that becomes empty is left out. A run that does not change is returned as it is.
    """
    if b"\n" not in event.json:
        text = push(event.text)
        if text == event.text:
            return event
        return text_delta(text) if text else None
    texts = [(before, push(before)) for before in map(orjson.loads, event.json.split(b"\n"))]
    if all(before == after for before, after in texts):
        return event
    kept = [after for before, after in texts if after or not before]
    if not any(kept):
        return None
    return TextDeltas("".join(kept), b"\n".join([orjson.dumps(text) for text in kept]))
