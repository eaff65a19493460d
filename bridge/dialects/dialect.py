"""What a front API is: one object that reads its requests, encodes its answers and spells its errors.

    bytes ─▶ fields ─▶ Dialect.read ─▶ DialectRequest.chat ─▶ relay ─▶ batches of events ─┬▶ StreamEncoder ─▶ bytes
                                                                                        └▶ Collector ─────▶ bytes

A dialect knows no socket and no clock. `handlers.api.asking` drives any of them; a route names its own. Paths that ask
no model (the list of models, pictures) need an `Api` alone: how its callers show a key, and how it words a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from multidict import MultiMapping

from bridge.access.limits import Admission
from bridge.answering.chat import ChatRequest, Usage
from bridge.answering.events import AnswerEvent
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.errors import ApiError


class Stamp(NamedTuple):
    """What makes one answer's ids and times: 32 random hex digits, and unix time in seconds."""

    id: str
    created: int


class ErrorAnswer(NamedTuple):
    """An error as one API spells it, before anything of an answer has been sent."""

    status: int
    headers: dict[str, str]
    body: bytes


class StreamOpening(Protocol):
    """What a stream needs of its encoder before the first batch, and while nothing comes."""

    @property
    def keepalive(self) -> bytes:
        """What is sent while an answer is waited for; no client takes it for a part of the answer."""

    def start(self) -> bytes:
        """Encode what comes before the first batch."""

    def idle(self) -> bytes:
        """Encode a keep-alive for clients that count events and skip comments; `start` has been sent."""


class StreamEncoder(StreamOpening, Protocol):
    """Encodes one streamed answer, each batch in the moment in which it comes."""

    def encode(self, batch: Sequence[AnswerEvent]) -> bytes:
        """Encode what one read held, without its terminal event; it may be nothing."""

    def finish(self, reason: str | None, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of a complete answer; `reason` is upstream's finish reason, or a stage's."""

    def error(self, error: ApiError) -> bytes:
        """Encode the last event of a stream that broke off, whether `start` has been sent or not."""


class Collector(Protocol):
    """Collects one answer that is not streamed."""

    @property
    def size(self) -> int:
        """The bytes that are kept so far."""

    def add(self, batch: Sequence[AnswerEvent]) -> None:
        """Take what one read held. Raises ApiError (502) where the answer is longer than is kept."""

    def finish(self, reason: str | None, usage: Usage) -> bytes:
        """Encode the whole answer as one JSON document."""


class SeveralEncoder(StreamOpening, Protocol):
    """Encodes several answers in one stream, each told by its index."""

    def encode(self, index: int, batch: Sequence[AnswerEvent]) -> bytes:
        """Encode what one read held of one answer."""

    def finish_one(self, index: int, reason: str | None) -> bytes:
        """Encode the end of one answer, for its reason."""

    def finish(self, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of the stream; `usage` is that of all answers."""

    def error(self, error: ApiError) -> bytes:
        """Encode the last event of a stream that broke off."""


class SeveralCollector(Protocol):
    """Collects several answers that are not streamed."""

    def add(self, index: int, batch: Sequence[AnswerEvent]) -> int:
        """Take what one read held of one answer; return the bytes that are kept of it. Raises ApiError (502)."""

    def finish_one(self, index: int, reason: str | None) -> None:
        """One answer is complete, for its reason."""

    def finish(self, usage: Usage) -> bytes:
        """Encode all answers as one JSON document; `usage` is that of all."""


class DialectRequest(Protocol):
    """One request, read: the chat that is asked, and how its answer is to be encoded."""

    @property
    def chat(self) -> ChatRequest:
        """What is asked, in no API's words."""

    def encoder(self, stamp: Stamp) -> StreamEncoder:
        """Make the encoder of its streamed answer."""

    def collector(self, stamp: Stamp) -> Collector:
        """Make the collector of its whole answer."""


@runtime_checkable
class SeveralRequest(Protocol):
    """What a request is besides, of a dialect that may ask for several answers."""

    def several_encoder(self, stamp: Stamp) -> SeveralEncoder:
        """Make the encoder of the stream of all answers."""

    def several_collector(self, stamp: Stamp) -> SeveralCollector:
        """Make the collector of all answers."""


class Api(Protocol):
    """How an API's callers show their key, and how it says no."""

    @property
    def request_id_header(self) -> str:
        """The header that carries the request's id."""

    def key(self, headers: MultiMapping[str]) -> str | None:
        """Find the key that a request shows; None where it shows none, or more than one."""

    def limit_headers(self, admission: Admission) -> dict[str, str]:
        """Name the headers that tell a caller its limits."""

    def error(self, error: ApiError, request_id: str) -> ErrorAnswer:
        """Spell an error that is the whole answer."""


class Dialect(Api, Protocol):
    """A front API that asks a model."""

    @property
    def name(self) -> str:
        """What statistics and logs call it."""

    def links(self, fields: Fields) -> Iterator[str]:
        """Find the http(s) URLs of a request's pictures, to be fetched before it is read. What is wrong is skipped."""

    def read(self, fields: Fields, files: FileReader) -> DialectRequest:
        """Read a request. Raises ApiError (400) that names the field."""
