"""The dialect of OpenAI's older Completions API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from bridge.answering.chat import ChatRequest
from bridge.dialects.completions.answer import (
    SeveralTextCompletionsCollector,
    SeveralTextCompletionsEncoder,
    TextCompletionCollector,
    TextCompletionEncoder,
)
from bridge.dialects.completions.request import CompletionFields, read_request
from bridge.dialects.dialect import Stamp
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.dialects.openai.chat_answer import Header
from bridge.dialects.openai.errors import OpenAI


class CompletionRequest:
    """A request for one or more completions of one or more prompts."""

    def __init__(self, read: CompletionFields) -> None:
        self._read = read

    @property
    def chat(self) -> ChatRequest:
        """The first of the chats."""
        return self._read.chats[0]

    @property
    def chats(self) -> Sequence[ChatRequest]:
        """All chats, one for each choice."""
        return self._read.chats

    def encoder(self, stamp: Stamp) -> TextCompletionEncoder:
        """Make the encoder of its stream."""
        return TextCompletionEncoder(self._header(stamp), self._read.echoed, include_usage=self._read.include_usage)

    def collector(self, stamp: Stamp) -> TextCompletionCollector:
        """Make the collector of its whole answer."""
        return TextCompletionCollector(self._header(stamp), self._read.echoed)

    def several_encoder(self, stamp: Stamp) -> SeveralTextCompletionsEncoder:
        """Make the encoder of the stream of all choices."""
        return SeveralTextCompletionsEncoder(self.encoder(stamp))

    def several_collector(self, stamp: Stamp) -> SeveralTextCompletionsCollector:
        """Make the collector of all choices."""
        return SeveralTextCompletionsCollector(self.collector(stamp))

    def _header(self, stamp: Stamp) -> Header:
        return Header(f"cmpl-{stamp.id}", stamp.created, self.chat.model)


class Completions(OpenAI):
    """`POST /completions` (docs/fronts.md, "Completions")."""

    name: Final = "completions"

    def links(self, fields: Fields, owner: str) -> Iterator[str]:
        """Yield nothing, since this API has no pictures."""
        del fields, owner
        return iter(())

    def read(self, fields: Fields, files: FileReader, owner: str) -> CompletionRequest:
        """Read a request. Raises ApiError (400) that names the field."""
        del files, owner
        return CompletionRequest(read_request(fields))


COMPLETIONS: Final = Completions()
