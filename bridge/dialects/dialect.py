"""The interfaces of an API: a dialect reads its requests, encodes its answers and formats its errors.

    bytes ─▶ fields ─▶ Dialect.read ─▶ DialectRequest.chat ─▶ relay ─▶ batches of events ─┬▶ StreamEncoder ─▶ bytes
                                                                                        └▶ Collector ─────▶ bytes

Dialects do no I/O and know no clock; `handlers.api.asking` drives them all. Routes that do not chat with a model (the
list of models, pictures) need only an `Api`, which finds the API key and formats errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from multidict import MultiMapping

from bridge.access.limits import Admission
from bridge.answering.chat import ChatRequest, Usage
from bridge.answering.events import AnswerEvent
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.errors import ApiError


class Stamp(NamedTuple):
    """The values from which an answer's ids and times are made: 32 random hex digits, and Unix time in seconds.

    `prompt_tokens` is the size of the whole prompt.
    """

    id: str
    created: int
    prompt_tokens: int


class ErrorAnswer(NamedTuple):
    """An error in the format of one API, for a response that has not begun."""

    status: int
    headers: dict[str, str]
    body: bytes


class StreamOpening(Protocol):
    """What a stream needs from its encoder before the first batch and during silence."""

    @property
    def keepalive(self) -> bytes:
        """What is sent while waiting for the answer; clients do not take it for a part of the answer."""

    def start(self) -> bytes:
        """Encode the beginning of the stream, before the first batch."""

    def idle(self) -> bytes:
        """Encode a keep-alive, after `start`, for clients that ignore comments and want events."""


class StreamEncoder(StreamOpening, Protocol):
    """Encodes one streamed answer, batch by batch as they arrive."""

    def encode(self, batch: Sequence[AnswerEvent]) -> bytes:
        """Encode a batch, which has no terminal event; the result may be empty."""

    def finish(self, reason: str | None, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of a complete answer; `reason` is the finish reason of upstream or of a stage."""

    def error(self, error: ApiError) -> bytes:
        """Encode the last event of a stream that failed, whether `start` has been sent or not."""


@runtime_checkable
class ReportsErrorsInStream(Protocol):
    """Also implemented by an encoder if callers of its API look for some errors only in the stream."""

    def reports(self, error: ApiError) -> bool:
        """Whether an error is reported in the stream even if nothing has been sent yet."""


@runtime_checkable
class BuffersText(Protocol):
    """Also implemented by an encoder if the end of its stream repeats the whole text."""

    @property
    def size(self) -> int:
        """The number of bytes buffered so far."""


class Collector(Protocol):
    """Collects one answer that is not streamed."""

    @property
    def size(self) -> int:
        """The number of bytes buffered so far."""

    def add(self, batch: Sequence[AnswerEvent]) -> None:
        """Add a batch. Raises ApiError (502) if the answer is too long to keep."""

    def finish(self, reason: str | None, usage: Usage) -> bytes:
        """Encode the whole answer as one JSON document."""


class SeveralEncoder(StreamOpening, Protocol):
    """Encodes several answers in one stream, identified by their indexes."""

    def encode(self, index: int, batch: Sequence[AnswerEvent]) -> bytes:
        """Encode a batch of one answer."""

    def finish_one(self, index: int, reason: str | None) -> bytes:
        """Encode the end of one answer; `reason` is its finish reason."""

    def finish(self, usage: Callable[[], Usage]) -> bytes:
        """Encode the end of the stream; `usage` is that of all answers together."""

    def error(self, error: ApiError) -> bytes:
        """Encode the last event of a stream that failed."""


class SeveralCollector(Protocol):
    """Collects several answers that are not streamed."""

    def add(self, index: int, batch: Sequence[AnswerEvent]) -> int:
        """Add a batch of one answer; return the bytes buffered for that answer. Raises ApiError (502)."""

    def finish_one(self, index: int, reason: str | None) -> None:
        """Mark one answer as complete; `reason` is its finish reason."""

    def finish(self, usage: Usage) -> bytes:
        """Encode all answers as one JSON document; `usage` is that of all answers together."""


class ComparingEncoder(SeveralEncoder, Protocol):
    """Encodes answers of several models in one stream; if one fails, the others continue."""

    def finish_one(self, index: int, reason: str | None, usage: Callable[[], Usage] | None = None) -> bytes:
        """Encode the end of one answer; `usage` is that of this answer."""

    def fail_one(self, index: int, error: ApiError) -> bytes:
        """Encode the end of one answer that failed."""


class ComparingCollector(SeveralCollector, Protocol):
    """Collects answers of several models that are not streamed."""

    def finish_one(self, index: int, reason: str | None, usage: Usage | None = None) -> None:
        """Mark one answer as complete; `usage` is that of this answer."""

    def fail_one(self, index: int, error: ApiError) -> None:
        """Mark one answer as failed."""


class DialectRequest(Protocol):
    """A request that has been read: the chat, and the encoders of its answer."""

    @property
    def chat(self) -> ChatRequest:
        """The request independent of the API."""

    def encoder(self, stamp: Stamp) -> StreamEncoder:
        """Make the encoder of its streamed answer."""

    def collector(self, stamp: Stamp) -> Collector:
        """Make the collector of its whole answer."""


@runtime_checkable
class SeveralRequest(Protocol):
    """Also implemented by requests of a dialect that may ask for several answers."""

    def several_encoder(self, stamp: Stamp) -> SeveralEncoder:
        """Make the encoder of the stream of all answers."""

    def several_collector(self, stamp: Stamp) -> SeveralCollector:
        """Make the collector of all answers."""


@runtime_checkable
class SeveralPrompts(Protocol):
    """Also implemented by requests of a dialect that may have several prompts."""

    @property
    def chats(self) -> Sequence[ChatRequest]:
        """The chats, one for each answer."""


@runtime_checkable
class ComparingRequest(Protocol):
    """Also implemented by requests of a dialect that may ask several models the same."""

    def comparing_encoder(self, stamp: Stamp, models: Sequence[str]) -> ComparingEncoder:
        """Make the encoder of a stream with one answer from each of these models."""

    def comparing_collector(self, stamp: Stamp, models: Sequence[str]) -> ComparingCollector:
        """Make the collector of one answer from each of these models."""


@runtime_checkable
class StoringRequest(Protocol):
    """Also implemented by requests of a dialect that stores their input."""

    @property
    def input_bytes(self) -> int:
        """The size of the input that is kept until the answer is complete, in addition to the messages."""


class Api(Protocol):
    """How an API carries keys, rate limits and errors."""

    @property
    def request_id_header(self) -> str:
        """The name of the header with the request's id."""

    def key(self, headers: MultiMapping[str]) -> str | None:
        """Find the API key in a request's headers; None if there is none, or if it is ambiguous."""

    def limit_headers(self, admission: Admission, now: float) -> dict[str, str]:
        """Make the headers that tell a caller its rate limits; `now` is Unix time in seconds."""

    def error(self, error: ApiError, request_id: str) -> ErrorAnswer:
        """Format an error that is the whole response."""


class Dialect(Api, Protocol):
    """An API through which callers chat with a model."""

    @property
    def name(self) -> str:
        """The name in statistics and logs."""

    def links(self, fields: Fields, owner: str) -> Iterator[str]:
        """Yield the http(s) URLs of a request's pictures, to be fetched before it is read. Skips malformed parts."""

    def read(self, fields: Fields, files: FileReader, owner: str) -> DialectRequest:
        """Read a request; `owner` is the id of its API key, by which stored data is found. Raises ApiError (400)."""


@runtime_checkable
class RepeatingDialect(Protocol):
    """Also implemented by a dialect whose streams repeat their text at the end: its encoders are `BuffersText`."""

    @property
    def repeats_text(self) -> bool:
        """True."""


@runtime_checkable
class StatefulDialect(Protocol):
    """Also implemented by a dialect whose requests may continue stored ones."""

    def stored_ids(self, fields: Fields) -> Iterable[str]:
        """Return the ids of stored objects to which a request refers."""

    def stored_bytes(self, fields: Fields, owner: str) -> int:
        """Return the size of the stored objects that are read with a request."""
