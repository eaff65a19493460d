"""OpenAI's Chat Completions API as one dialect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from bridge.answering.chat import ChatRequest
from bridge.dialects.dialect import Stamp
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader, linked_pictures
from bridge.dialects.openai.chat_answer import ChunkEncoder, Completion, Header
from bridge.dialects.openai.chat_choices import Choices, Completions
from bridge.dialects.openai.chat_request import read_request
from bridge.dialects.openai.errors import OpenAI


class ChatCompletionRequest(NamedTuple):
    """A request for one completion; its stream ends with its usage if `include_usage`.

    `older_form` says that its tools were given as functions: a call is answered as a `function_call`.
    """

    chat: ChatRequest
    include_usage: bool
    older_form: bool = False

    def encoder(self, stamp: Stamp) -> ChunkEncoder:
        """Make the encoder of its stream."""
        return ChunkEncoder(self.header(stamp), include_usage=self.include_usage, older_form=self.older_form)

    def collector(self, stamp: Stamp) -> Completion:
        """Make the collector of its whole answer."""
        return Completion(self.header(stamp), older_form=self.older_form)

    def several_encoder(self, stamp: Stamp) -> Choices:
        """Make the encoder of the stream of all choices."""
        return self._choices([self.header(stamp)] * self.chat.choices)

    def several_collector(self, stamp: Stamp) -> Completions:
        """Make the collector of all choices."""
        return Completions([self.header(stamp)] * self.chat.choices, older_form=self.older_form)

    def comparing_encoder(self, stamp: Stamp, models: Sequence[str]) -> Choices:
        """Make the encoder of the stream of a choice from each of these models."""
        return self._choices([self.header(stamp, model) for model in models])

    def comparing_collector(self, stamp: Stamp, models: Sequence[str]) -> Completions:
        """Make the collector of a choice from each of these models."""
        return Completions([self.header(stamp, model) for model in models], older_form=self.older_form)

    def _choices(self, headers: Sequence[Header]) -> Choices:
        return Choices(headers, include_usage=self.include_usage, older_form=self.older_form)

    def header(self, stamp: Stamp, choice_model: str | None = None) -> Header:
        return Header(f"chatcmpl-{stamp.id}", stamp.created, self.chat.model, choice_model)


class ChatCompletions(OpenAI):
    """`POST /chat/completions` (docs/behaviour.md, "Chat completions")."""

    name: Final = "chat"

    def links(self, fields: Fields, owner: str = "") -> Iterator[str]:  # noqa: ARG002 — nothing is stored
        """Find the URLs of `image_url` parts."""
        return linked_pictures(fields)

    def read(self, fields: Fields, files: FileReader, owner: str = "") -> ChatCompletionRequest:  # noqa: ARG002
        """Read a request. Raises ApiError (400) that names the field."""
        return ChatCompletionRequest(*read_request(fields, files))


CHAT_COMPLETIONS: Final = ChatCompletions()
