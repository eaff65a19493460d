"""What a front API is: one object that reads its requests, encodes its answers and spells its errors.

    bytes ─▶ fields ─▶ Dialect.read ─▶ DialectRequest.chat ─▶ relay ─▶ batches of events ─┬▶ StreamEncoder ─▶ bytes
                                                                                        └▶ Collector ─────▶ bytes

A dialect knows no socket and no clock. `handlers.api.asking` drives any of them; a route names its own. Paths that ask
no model (the list of models, pictures) need an `Api` alone: how its callers show a key, and how it words a refusal.
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
    """What makes one answer's ids and times: 32 random hex digits, and unix time in seconds.

    `prompt_tokens` is what the model has before it.
    """

    id: str
    created: int
    prompt_tokens: int


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


@runtime_checkable
class TellsErrors(Protocol):
    """What an encoder is besides, of an API whose callers look for some errors in the stream alone."""

    def tells(self, error: ApiError) -> bool:
        """Say whether an error is told in the stream even where nothing has been sent before it."""


@runtime_checkable
class KeepsText(Protocol):
    """What an encoder is besides, of an API whose stream repeats at its end what came before."""

    @property
    def size(self) -> int:
        """The bytes that are kept so far."""


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


class ComparingEncoder(SeveralEncoder, Protocol):
    """Encodes answers of several models in one stream: where one fails, the others go on."""

    def finish_one(self, index: int, reason: str | None, usage: Callable[[], Usage] | None = None) -> bytes:
        """Encode the end of one answer, for its reason; `usage` is that of this answer."""

    def fail_one(self, index: int, error: ApiError) -> bytes:
        """Encode the end of one answer that has failed."""


class ComparingCollector(SeveralCollector, Protocol):
    """Collects answers of several models that are not streamed."""

    def finish_one(self, index: int, reason: str | None, usage: Usage | None = None) -> None:
        """One answer is complete, for its reason; `usage` is that of this answer."""

    def fail_one(self, index: int, error: ApiError) -> None:
        """One answer has failed."""


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


@runtime_checkable
class SeveralPrompts(Protocol):
    """What a request is besides, of a dialect that may ask several prompts at once."""

    @property
    def chats(self) -> Sequence[ChatRequest]:
        """All that is asked: a chat for each answer."""


@runtime_checkable
class ComparingRequest(Protocol):
    """What a request is besides, of a dialect that may ask several models the same."""

    def comparing_encoder(self, stamp: Stamp, models: Sequence[str]) -> ComparingEncoder:
        """Make the encoder of the stream of an answer from each of these models."""

    def comparing_collector(self, stamp: Stamp, models: Sequence[str]) -> ComparingCollector:
        """Make the collector of an answer from each of these models."""


@runtime_checkable
class KeepingRequest(Protocol):
    """What a request is besides, of a dialect that stores what it was asked."""

    @property
    def kept_bytes(self) -> int:
        """What is kept of the request until it has its answer, beside its messages."""


class Api(Protocol):
    """How an API's callers show their key, and how it says no."""

    @property
    def request_id_header(self) -> str:
        """The header that carries the request's id."""

    def key(self, headers: MultiMapping[str]) -> str | None:
        """Find the key that a request shows; None where it shows none, or more than one."""

    def limit_headers(self, admission: Admission, now: float) -> dict[str, str]:
        """Name the headers that tell a caller its limits; `now` is unix time."""

    def error(self, error: ApiError, request_id: str) -> ErrorAnswer:
        """Spell an error that is the whole answer."""


class Dialect(Api, Protocol):
    """A front API that asks a model."""

    @property
    def name(self) -> str:
        """What statistics and logs call it."""

    def links(self, fields: Fields, owner: str) -> Iterator[str]:
        """Find the http(s) URLs of a request's pictures, to be fetched before it is read. What is wrong is skipped."""

    def read(self, fields: Fields, files: FileReader, owner: str) -> DialectRequest:
        """Read a request; `owner` is the id of its key, for what an API stores. Raises ApiError (400)."""


@runtime_checkable
class RepeatingDialect(Protocol):
    """What a dialect is besides, whose streams repeat their text at the end: their encoders are `KeepsText`."""

    @property
    def repeats_text(self) -> bool:
        """That it does so."""


@runtime_checkable
class RememberingDialect(Protocol):
    """What a dialect is besides, whose requests may continue what it has stored."""

    def remembered_ids(self, fields: Fields) -> Iterable[str]:
        """What a request names of that, by id."""

    def remembered_bytes(self, fields: Fields, owner: str) -> int:
        """How much is stored of what a request continues, which is read with it."""
