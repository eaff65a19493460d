"""Reading the second turn of an evaluation, in which the model repeats what could not be read from its first answer."""

from __future__ import annotations

from bridge.answering.events import MAX_WHOLE_CHARS
from bridge.answering.record import AnswerRecord
from bridge.answering.stages import CUT
from bridge.answering.stages.limit import Limit
from upstream.answer import ArenaAnswer
from upstream.protocol.events import Failure, Finish, TextDeltas


async def read_whole(answer: ArenaAnswer, record: AnswerRecord, limit: Limit | None = None) -> str | None:
    """Read an answer to its end, record it in `record` and close it; return its text, or None unless it is complete.

    An answer that exceeds `limit` is closed at that point and counts as incomplete.
    """
    texts: list[str] = []
    chars = 0
    try:
        while chars <= MAX_WHOLE_CHARS and answer.keep(chars):
            batch = await answer.read()
            events = [event for event in batch if not isinstance(event, Finish | Failure)]
            record.add(events)
            if limit is not None:
                limit.feed(events)
                if limit.done:
                    return None
            for event in events:
                if isinstance(event, TextDeltas):
                    texts.append(event.text)
                    chars += len(event.text)
            match batch[-1]:
                case Finish(reason=reason) if reason not in CUT:
                    return "".join(texts)
                case Finish() | Failure():
                    return None
        return None
    finally:
        await answer.aclose()
