"""Which stages a request's answer passes: none for most requests."""

from __future__ import annotations

from functools import partial

from bridge.answering.chat import ChatRequest
from bridge.answering.stages import StageMaker
from bridge.answering.stages.limit import Limit
from bridge.answering.stages.stop import Stop


def stages_of(request: ChatRequest) -> tuple[StageMaker, ...]:
    """Make the makers of a request's stages, in their order.

    The limit counts all that the model writes, so it stands first; stop strings end text alone, so calls are read
    before they are looked for.
    """
    makers: list[StageMaker] = []
    if request.max_tokens is not None:
        makers.append(partial(Limit, request.max_tokens))
    if request.tools is not None:
        from bridge.answering.tools.stage import ToolsStage  # when first needed, like the libraries behind it

        makers.append(partial(ToolsStage, request.tools))
    if request.json_format is not None:
        from bridge.answering.stages.structured import JsonStage  # when first needed

        makers.append(partial(JsonStage, request.json_format, streamed=request.stream))
    if request.stops:
        makers.append(partial(Stop, request.stops))
    return (*makers, *request.stages)
