"""The dialect of OpenAI's Chat Completions API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from bridge.answering.chat import ChatRequest
from bridge.dialects.dialect import Stamp
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader, linked_pictures
from bridge.dialects.openai.chat_answer import ChunkEncoder, CompletionCollector, Header
from bridge.dialects.openai.chat_choices import ChoicesCollector, ChoicesEncoder
from bridge.dialects.openai.chat_request import read_request
from bridge.dialects.openai.errors import OpenAI


class ChatCompletionRequest(NamedTuple):
    """A request for a chat completion; with `include_usage`, its stream ends with the usage.

    `older_form` says that its tools were given as `functions`, so that a call is sent as a `function_call`.
    """

    chat: ChatRequest
    include_usage: bool
    older_form: bool = False

    def encoder(self, stamp: Stamp) -> ChunkEncoder:
        """Make the encoder of its stream."""
        return ChunkEncoder(self.header(stamp), include_usage=self.include_usage, older_form=self.older_form)

    def collector(self, stamp: Stamp) -> CompletionCollector:
        """Make the collector of its whole answer."""
        return CompletionCollector(self.header(stamp), older_form=self.older_form)

    def several_encoder(self, stamp: Stamp) -> ChoicesEncoder:
        """Make the encoder of the stream of all choices."""
        return self._choices([self.header(stamp)] * self.chat.choices)

    def several_collector(self, stamp: Stamp) -> ChoicesCollector:
        """Make the collector of all choices."""
        return ChoicesCollector([self.header(stamp)] * self.chat.choices, older_form=self.older_form)

    def comparing_encoder(self, stamp: Stamp, models: Sequence[str]) -> ChoicesEncoder:
        """Make the encoder of a stream with one choice from each of these models."""
        return self._choices([self.header(stamp, model) for model in models])

    def comparing_collector(self, stamp: Stamp, models: Sequence[str]) -> ChoicesCollector:
        """Make the collector of one choice from each of these models."""
        return ChoicesCollector([self.header(stamp, model) for model in models], older_form=self.older_form)

    def _choices(self, headers: Sequence[Header]) -> ChoicesEncoder:
        return ChoicesEncoder(headers, include_usage=self.include_usage, older_form=self.older_form)

    def header(self, stamp: Stamp, choice_model: str | None = None) -> Header:
        """Make the header of an answer, or of the choice of one of several models."""
        return Header(f"chatcmpl-{stamp.id}", stamp.created, self.chat.model, choice_model)


class ChatCompletions(OpenAI):
    """`POST /chat/completions` (docs/behaviour.md, "Chat completions")."""

    name: Final = "chat"

    def links(self, fields: Fields, owner: str = "") -> Iterator[str]:  # noqa: ARG002 — nothing is stored
        """Yield the http(s) URLs of `image_url` parts."""
        return linked_pictures(fields)

    def read(self, fields: Fields, files: FileReader, owner: str = "") -> ChatCompletionRequest:  # noqa: ARG002 — Dialect has it
        """Read a request. Raises ApiError (400) that names the field."""
        return ChatCompletionRequest(*read_request(fields, files))


CHAT_COMPLETIONS: Final = ChatCompletions()
