"""The form of a document: its name, its version, and how its bytes are read and written, wherever these are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import orjson

T = TypeVar("T")

MAX_BYTES: Final = 32 * 1024 * 1024  # of a document; far above what any holds, except conversations, with its own limit


class Damaged(Exception):
    """Bytes that are not a document of this form; the text continues a sentence begun by their place's name."""


class TooLarge(Exception):
    """A value whose document would be larger than `max_bytes`; the text says by how much."""


@dataclass(frozen=True, slots=True)
class DocumentForm(Generic[T]):
    """Documents `{"version": 1, "<name>": …}` of type T.

    `parse` turns plain JSON values into T and may raise ValueError, LookupError, TypeError, AttributeError or
    ArithmeticError if they have the wrong form; `dump` is its inverse. A document that was never written is `empty`.
    One that is not `precious` may be begun anew where it is damaged.
    """

    name: str
    version: int
    parse: Callable[[object], T]
    dump: Callable[[T], object]
    empty: T
    precious: bool
    max_bytes: int = MAX_BYTES

    def encode(self, value: T) -> bytes:
        """The document of a value. Raises TooLarge: `decode`'s caller would refuse it."""
        document = {"version": self.version, self.name: self.dump(value)}
        data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        if len(data) > self.max_bytes:
            raise TooLarge(f"{len(data):,} bytes, of at most {self.max_bytes:,}")
        return data

    def decode(self, data: bytes) -> T:
        """The value of a document. Raises Damaged."""
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
            raise Damaged(f"holds a value of the wrong form ({type(error).__name__})") from None


class StoredDocument(Protocol[T]):
    """One document where it is kept: a file (`bridge.state.documents`), or in Redis (`bridge.shared.documents`)."""

    @property
    def where(self) -> str:
        """Its place, for messages."""

    @property
    def short_name(self) -> str:
        """The same, shorter."""

    @property
    def written_at(self) -> float | None:
        """When what was last read or written here was written, in unix seconds; None if that is not known."""

    async def load(self) -> T:
        """Read it; `empty` if there never was one. Raises StateError."""

    async def save(self, value: T) -> None:
        """Replace it with `value` as it is now. Raises StateError, and the old one is intact then."""

    async def update(self, change: Callable[[T], T]) -> T:
        """Read it, apply `change`, write and return the result; nobody writes in between.

        `change` must use nothing but its argument, and may be called more than once. If it raises, nothing is written
        and the exception reaches the caller. Raises StateError as load and save do.
        """

    async def accept_deletion(self) -> None:
        """Treat it as empty from now on, if it is missing."""

    async def changed(self) -> bool:
        """Whether another process has written it since it was loaded or saved here."""

    def looks_changed(self) -> bool:
        """Like `changed`, but at once, and perhaps too often. Raises StateError."""


class DocumentSource(Protocol):
    """Where documents are kept."""

    def open(self, form: DocumentForm[T]) -> StoredDocument[T]:
        """The document of this form."""

    async def changes(self, documents: Sequence[StoredDocument[Any]]) -> bool:
        """Wait until it is time to look at these again; return whether any of them may have changed."""
