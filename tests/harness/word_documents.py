"""A state document that consists of words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from bridge.state.documents import Document, StateFolder
from bridge.state.formats import DocumentFormat

Words: TypeAlias = tuple[str, ...]


def parse_words(value: object) -> Words:
    if not isinstance(value, list):
        raise TypeError(f"canary-secret in {value}")
    return tuple(word.upper() if word.isupper() else word for word in value)


def words_document(folder: StateFolder, *, precious: bool = True) -> Document[Words]:
    return Document(folder, DocumentFormat("words", 1, parse_words, list, (), precious=precious))


def append(word: str) -> Callable[[Words], Words]:
    return lambda old: (*old, word)
