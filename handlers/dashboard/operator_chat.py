"""Chat Completions for the playground: errors, even within a stream, have advice for the operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bridge.dialects.dialect import Stamp
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.dialects.openai.chat import ChatCompletionRequest, ChatCompletions
from bridge.dialects.openai.chat_answer import ChunkEncoder
from bridge.dialects.openai.chat_choices import ChoicesEncoder
from bridge.errors import ApiError
from handlers.dashboard.wording import to_operator


def reworded(error: ApiError) -> ApiError:
    """The same error, with advice for the operator, who reads it in the dashboard."""
    return replace(error, message=to_operator(error))


class _Chunks(ChunkEncoder):
    @staticmethod
    def error(error: ApiError) -> bytes:
        return ChunkEncoder.error(reworded(error))


class _Choices(ChoicesEncoder):
    def fail_one(self, index: int, error: ApiError) -> bytes:
        return super().fail_one(index, reworded(error))

    def error(self, error: ApiError) -> bytes:
        return super().error(reworded(error))


class _Request(ChatCompletionRequest):
    def encoder(self, stamp: Stamp) -> ChunkEncoder:
        return _Chunks(self.header(stamp), include_usage=self.include_usage, older_form=self.older_form)

    def comparing_encoder(self, stamp: Stamp, models: Sequence[str]) -> ChoicesEncoder:
        headers = [self.header(stamp, model) for model in models]
        return _Choices(headers, include_usage=self.include_usage, older_form=self.older_form)


class OperatorChat(ChatCompletions):
    """`POST /dashboard/playground/chat`."""

    def read(self, fields: Fields, files: FileReader, owner: str = "") -> ChatCompletionRequest:
        """Read a request. Raises ApiError (400) that names the field."""
        return _Request(*super().read(fields, files, owner))


OPERATOR_CHAT: Final = OperatorChat()
