"""Text deltas that a stage makes or rewrites: each stays a delta of its own; one that is not changed stays the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from upstream.protocol.events import TextDeltas
from upstream.protocol.surrogates import well_formed


def text_delta(text: str) -> TextDeltas:
    """One delta of this text; lone surrogates become U+FFFD."""
    text = well_formed(text)
    return TextDeltas(text, orjson.dumps(text))


def pieces(json: bytes) -> Sequence[str]:
    """Decode a run of deltas, given as JSON strings with newlines between them."""
    return [orjson.loads(piece) for piece in json.split(b"\n")]


def rewritten(event: TextDeltas, push: Callable[[str], str]) -> TextDeltas | None:
    """Put each delta of a run through `push`, which returns what goes on in its place; None where nothing does.

    A delta for which nothing goes on is left out, unless it was empty before.
    """
    if b"\n" not in event.json:
        text = push(event.text)
        if text == event.text:
            return event
        return text_delta(text) if text else None
    texts = [(piece, push(piece)) for piece in pieces(event.json)]
    if all(before == after for before, after in texts):
        return event
    going = [after for before, after in texts if after or not before]
    if not any(going):
        return None
    return TextDeltas("".join(going), b"\n".join([orjson.dumps(text) for text in going]))
