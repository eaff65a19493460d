"""The Messages API as one dialect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bridge.answering.chat import ChatRequest
from bridge.answering.prompting import prompt_tokens
from bridge.dialects.dialect import Stamp
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.dialects.messages.answer import MessageCollector, MessageEncoder, MessageHead
from bridge.dialects.messages.errors import Anthropic
from bridge.dialects.messages.request import links, read_request


class MessagesRequest:
    """A request for one message; its reasoning is shown if `thinking`."""

    def __init__(self, chat: ChatRequest, *, thinking: bool) -> None:
        self.chat = chat
        self._thinking = thinking

    def encoder(self, stamp: Stamp) -> MessageEncoder:
        """Make the encoder of its stream."""
        return MessageEncoder(self._head(stamp), thinking=self._thinking)

    def collector(self, stamp: Stamp) -> MessageCollector:
        """Make the collector of its whole answer."""
        return MessageCollector(self._head(stamp), thinking=self._thinking)

    def _head(self, stamp: Stamp) -> MessageHead:
        return MessageHead(f"msg_{stamp.id}", self.chat.model, lambda: prompt_tokens(self.chat))


class Messages(Anthropic):
    """`POST /messages` (docs/fronts.md, "Messages")."""

    name: Final = "messages"

    def links(self, fields: Fields) -> Iterator[str]:
        """Find the URLs of pictures."""
        return links(fields)

    def read(self, fields: Fields, files: FileReader) -> MessagesRequest:
        """Read a request. Raises ApiError (400) that names the field."""
        chat, thinking = read_request(fields, files)
        return MessagesRequest(chat, thinking=thinking)


MESSAGES: Final = Messages()
