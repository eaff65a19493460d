"""Selects the stages that a request's answer passes through; most requests need none."""

from __future__ import annotations

from functools import partial

from bridge.answering.chat import ChatRequest
from bridge.answering.stages import StageMaker
from bridge.answering.stages.limit import Limit
from bridge.answering.stages.stop import Stop


def stage_makers(request: ChatRequest) -> tuple[StageMaker, ...]:
    """Return the makers of a request's stages, in order.

    The token limit comes first, because it counts everything that the model writes. Stop strings come after the tool
    calls, because they apply to text only.
    """
    makers: list[StageMaker] = []
    if request.max_tokens is not None:
        makers.append(partial(Limit, request.max_tokens))
    if request.tools is not None:
        from bridge.answering.tools.stage import ToolsStage  # deferred, since most requests have no tools

        makers.append(partial(ToolsStage, request.tools))
    if request.json_format is not None:
        from bridge.answering.stages.structured import JsonStage  # deferred, since most requests need no JSON

        makers.append(partial(JsonStage, request.json_format, streamed=request.stream))
    if request.stops:
        makers.append(partial(Stop, request.stops))
    return (*makers, *request.stages)
