"""What a recording is made of: one call as it was, with all its secrets. It never leaves the process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from upstream.tap import Tape, Track

#: How much of an answer is recorded as the caller was sent it: in some dialects a delta grows by a factor of ten.
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024

Headers = tuple[tuple[str, str], ...]


class Outcome(NamedTuple):
    """How a call ended for its caller: what a replay is compared by.

    `finish` has each choice's reason, `chars` is the length of all texts together, `calls` the number of tool calls.
    """

    status: int
    reason: str
    code: str | None
    finish: tuple[str | None, ...]
    chars: int
    calls: int


class AskedModel(NamedTuple):
    """A model that the call named: by which name, and what the bridge knows of it."""

    name: str
    modality: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    multiple_images: bool


@dataclass(slots=True)
class Material:
    """One call. Times are in seconds since `tape.began`; `at` is its beginning in unix time.

    `answer` has the bytes that the caller was sent, framed as HTTP/1.1, each write with its time; `whole` is an answer
    that was not written by the handler itself: status, headers and body. `secrets` are values that are shown to nobody.
    """

    request_id: str
    at: float
    method: str
    target: str
    headers: Headers = field(repr=False)
    tape: Tape = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    answer: Track = field(default_factory=lambda: Track(MAX_ANSWER_BYTES), repr=False)
    whole: tuple[int, Headers, bytes] | None = field(default=None, repr=False)
    outcome: Outcome | None = None
    models: tuple[AskedModel, ...] = ()
    #: Names of the site's models, as opposed to what a caller may have written for one.
    public_names: frozenset[str] = frozenset()
    accounts: int = 1
    settings: dict[str, dict[str, object]] = field(default_factory=dict)
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    drift: tuple[str, ...] = ()
    texts: bool = False

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        return len(self.body) + self.answer.size + self.tape.size
