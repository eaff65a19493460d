"""The format of a document: its name, its version, and how it is encoded and decoded, wherever it is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import orjson

T = TypeVar("T")

#: The default limit of a document: far more than any needs but conversations and responses, which have their own.
MAX_BYTES: Final = 32 * 1024 * 1024


class Damaged(Exception):
    """Bytes that are not a document of this format; the text continues a sentence that begins with their place."""


class TooLarge(Exception):
    """A value whose document would be larger than `max_bytes`; the text says by how much."""


@dataclass(frozen=True, slots=True)
class DocumentFormat(Generic[T]):
    """Documents `{"version": 1, "<name>": …}` of type T.

    `parse` turns plain JSON values into T and may raise ValueError, LookupError, TypeError, AttributeError or
    ArithmeticError if they have the wrong format; `dump` is its inverse. `empty` is the value before the first save. If
    a document that is not `precious` is damaged, `empty` may replace it.
    """

    name: str
    version: int
    parse: Callable[[object], T]
    dump: Callable[[T], object]
    empty: T
    precious: bool
    max_bytes: int = MAX_BYTES

    def encode(self, value: T) -> bytes:
        """Encode a value. Raises TooLarge if the document would be too large to be read again."""
        document = {"version": self.version, self.name: self.dump(value)}
        data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        if len(data) > self.max_bytes:
            raise TooLarge(f"{len(data):,} bytes, of at most {self.max_bytes:,}")
        return data

    def decode(self, data: bytes) -> T:
        """Decode a document. Raises Damaged."""
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise Damaged(f"is not JSON at line {error.lineno}, column {error.colno}") from error
        if not (isinstance(document, dict) and isinstance(document.get("version"), int) and self.name in document):
            raise Damaged(f'is not an object with "version" and "{self.name}"')
        if document["version"] != self.version:
            raise Damaged(f"has version {document['version']}, this bridge reads {self.version}")
        try:
            return self.parse(document[self.name])
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            # Not chained: the parser's message may quote a secret.
            raise Damaged(f"holds a value of the wrong format ({type(error).__name__})") from None


class StoredDocument(Protocol[T]):
    """A document in its place: in a file (`bridge.state.documents`) or in Redis (`bridge.shared.documents`)."""

    @property
    def where(self) -> str:
        """The document's place, for messages."""

    @property
    def short_name(self) -> str:
        """A shorter name of the same."""

    @property
    def written_at(self) -> float | None:
        """When the version that was last read or written here was saved, in unix seconds; None if that is not known."""

    async def load(self) -> T:
        """Read the document; `empty` if it was never saved. Raises StateError."""

    async def save(self, value: T) -> None:
        """Replace it with `value` as it is now. If that fails, raises StateError and keeps the old document."""

    async def update(self, change: Callable[[T], T]) -> T:
        """Atomically read the document, apply `change`, and write and return the result.

        `change` must use nothing but its argument, and may be called more than once. If it raises, nothing is written,
        and the exception propagates. Raises StateError as load and save do.
        """

    async def accept_deletion(self) -> None:
        """If the document is missing, treat it as empty from now on."""

    async def changed(self) -> bool:
        """Whether another process has saved the document since it was loaded or saved here."""

    def looks_changed(self) -> bool:
        """Like `changed`, but without awaiting, and with false positives. Raises StateError."""


class DocumentSource(Protocol):
    """The place of all documents."""

    def open(self, document_format: DocumentFormat[T]) -> StoredDocument[T]:
        """The document of this format."""

    async def changes(self, documents: Sequence[StoredDocument[Any]]) -> bool:
        """Wait until it is time to check the documents again; return whether any of them may have changed."""
