"""The raw material of a recording: one call as it was, with all its secrets. It never leaves the process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from upstream.capture import Capture, CapturedBody

#: How much is recorded of the answer as it was sent to the caller. Some dialects need ten times a delta's own bytes.
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
#: The memory that it takes besides heads and bodies; the shortest call takes 11 KiB in total.
_OWN_BYTES: Final = 6 * 1024

Headers = tuple[tuple[str, str], ...]


class Outcome(NamedTuple):
    """How a call ended for its caller. A replay must end in the same way.

    `finish` has the finish reason of each choice, `chars` is the total length of the texts, and `calls` the number of
    tool calls.
    """

    status: int
    reason: str
    code: str | None
    finish: tuple[str | None, ...]
    chars: int
    calls: int


class AskedModel(NamedTuple):
    """A model that the call asked for: its name, and what the bridge knows about it."""

    name: str
    modality: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    multiple_images: bool


@dataclass(slots=True)
class Material:
    """One call. `at` is when it began, in unix seconds; all other times are in seconds since `capture.began`.

    `answer` has the body that was written to the caller, each write with its time; `status` is None if not even the
    head was written. `secrets` must not get into any file.
    """

    request_id: str
    at: float
    method: str
    target: str
    headers: Headers = field(repr=False)
    capture: Capture = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    status: int | None = None
    answer_headers: Headers = field(default=(), repr=False)
    answer: CapturedBody = field(default_factory=lambda: CapturedBody(MAX_ANSWER_BYTES), repr=False)
    outcome: Outcome | None = None
    models: tuple[AskedModel, ...] = ()
    #: The names in the site's catalog, which may be shown; what a caller wrote as a model may be anything.
    public_names: frozenset[str] = frozenset()
    accounts: int = 1
    settings: dict[str, dict[str, object]] = field(default_factory=dict)
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    drift: tuple[str, ...] = ()
    texts: bool = False

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        heads = sum([len(name) + len(value) for name, value in (*self.headers, *self.answer_headers)])
        return _OWN_BYTES + len(self.target) + heads + len(self.body) + self.answer.size + self.capture.size
