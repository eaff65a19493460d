"""Documents on disk: loading, saving, and noticing what others have written."""

from __future__ import annotations

import json
from typing import NoReturn

import pytest
from word_documents import Words, append, parse_words, words_document

from bridge.state.documents import Document, StateFolder
from bridge.state.errors import StateError
from bridge.state.formats import DocumentFormat

pytestmark = pytest.mark.usefixtures("synced")


async def test_a_missing_document_is_loaded_as_empty(words: Document[Words]) -> None:
    assert await words.load() == ()


async def test_a_saved_document_is_loaded_again(folder: StateFolder, words: Document[Words]) -> None:
    await words.save(("a", "é", "中"))
    assert await words_document(folder).load() == ("a", "é", "中")
    assert json.loads(words.path.read_bytes()) == {"version": 1, "words": ["a", "é", "中"]}


async def test_an_update_returns_and_writes_its_result(folder: StateFolder, words: Document[Words]) -> None:
    await words.save(("a",))
    assert await words.update(append("b")) == ("a", "b")
    assert await words_document(folder).load() == ("a", "b")


async def test_an_update_that_raises_writes_nothing(words: Document[Words]) -> None:
    await words.save(("a",))

    def refuse(_: Words) -> NoReturn:
        raise KeyError("no such word")

    with pytest.raises(KeyError):
        await words.update(refuse)
    assert await words.load() == ("a",)
    await words.save(("b",))  # no lock is left behind


async def test_only_writes_by_others_count_as_changes(folder: StateFolder, words: Document[Words]) -> None:
    other = words_document(folder)
    assert not await words.changed()
    await other.save(("a",))
    assert await words.changed()
    await words.load()
    assert not await words.changed()
    await words.save(("b",))
    assert not await words.changed()
    await other.update(lambda old: old)
    assert await words.changed()
    await words.load()
    words.path.unlink()
    assert await words.changed()


async def test_changes_of_several_documents_are_checked_together(
    folder: StateFolder, words: Document[Words], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.state.documents.WATCH_SECONDS", 0.0)
    await words.save(("a",))
    none = Document(folder, DocumentFormat("none", 1, str, str, "", precious=False))
    await none.load()
    assert not await folder.changes((words, none))
    await words_document(folder).update(lambda old: old)
    assert await folder.changes((none, words))
    await words.load()
    assert not await folder.changes((words, none))


async def test_a_document_over_the_size_limit_for_reading_is_not_saved(folder: StateFolder) -> None:
    words: Document[Words] = Document(
        folder, DocumentFormat("words", 1, parse_words, list, (), precious=True, max_bytes=200)
    )
    await words.save(("a",))
    with pytest.raises(StateError, match="of at most 200"):
        await words.update(lambda old: (*old, "b" * 200))
    assert await words.load() == ("a",)
