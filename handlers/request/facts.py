"""What is known of one request while it is answered, and for a while after."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from bridge.answering.answer import Answer
from bridge.errors import ApiError
from handlers.request.drain import Life
from upstream.protocol.errors import Reason


@dataclass(slots=True, eq=False)
class Facts:
    """One request's, for its log line, its answer's headers, the dashboard and the statistics.

    `ttft` and `seconds` are seconds, `began` is unix time. `status` is None while the request runs.
    """

    request_id: str
    number: int = 0  # in the order of coming; 0 where nobody follows
    began: float = field(default_factory=time.time)
    client: str = ""  # what the caller says it is
    key: str | None = None
    model: str | None = None  # as asked
    served: str | None = None  # its own name, once it is found
    account: str | None = None  # the label of the one that answers
    reason: Reason = Reason.OK
    code: str | None = None
    message: str | None = None  # of an error
    prompt: str | None = None  # only with log.debug
    ttft: float | None = None
    headers: dict[str, str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    life: Life | None = None
    quiet: bool = False  # asked by a page itself, again and again: the log need not know
    status: int | None = None
    seconds: float = 0.0
    chunks: int = 0

    def fail(self, error: ApiError) -> None:
        """Note what the caller is told."""
        self.reason, self.code, self.message = error.reason, error.code, error.message
