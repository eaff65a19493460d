"""The dialect of Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bridge.answering.chat import ChatRequest
from bridge.dialects.dialect import Stamp
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.dialects.messages.answer import MessageCollector, MessageEncoder, MessageHead
from bridge.dialects.messages.blocks import links
from bridge.dialects.messages.errors import Anthropic
from bridge.dialects.messages.request import read_request


class MessagesRequest:
    """A request for one message, with its reasoning if `thinking`."""

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
        return MessageHead(f"msg_{stamp.id}", self.chat.model, stamp.prompt_tokens)


class Messages(Anthropic):
    """`POST /messages` (docs/fronts.md, "Messages")."""

    name: Final = "messages"

    def links(self, fields: Fields, owner: str) -> Iterator[str]:
        """Yield the http(s) URLs of pictures."""
        del owner  # nothing is stored
        return links(fields)

    def read(self, fields: Fields, files: FileReader, owner: str) -> MessagesRequest:
        """Read a request. Raises ApiError (400) that names the field."""
        del owner
        chat, thinking = read_request(fields, files)
        return MessagesRequest(chat, thinking=thinking)


MESSAGES: Final = Messages()
