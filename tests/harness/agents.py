"""Chat completions whose requests get tools, formats, stops and limits from a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from polling import until
from running import RunningBridge

from bridge.answering.chat import ChatRequest
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.dialects.openai.chat import ChatCompletionRequest, ChatCompletions
from upstream.arena import Line, Step, Turn


class Agents(ChatCompletions):
    """Chat completions whose requests are changed once they have been read."""

    def __init__(self) -> None:
        #: Applied to each request.
        self.change: Callable[[ChatRequest], ChatRequest] = lambda chat: chat
        self.older_form = False

    def read(self, fields: Fields, files: FileReader, owner: str = "") -> ChatCompletionRequest:
        request = super().read(fields, files, owner)
        return request._replace(chat=self.change(request.chat), older_form=self.older_form)


def answers(*texts: str | Sequence[str]) -> Callable[[Turn], AsyncIterator[Step]]:
    """A script for the arena: one text for each turn, as one delta or several."""
    left = list(texts)

    async def script(_: Turn) -> AsyncIterator[Step]:
        text = left.pop(0)
        for delta in [text] if isinstance(text, str) else text:
            yield Line("a0", delta)
        yield Line("ad", {"finishReason": "stop"})

    return script


async def calls_released(bridge: RunningBridge) -> None:
    """Wait until all calls have released their slots and accounts."""
    await until(lambda: not bridge.calls_held)
