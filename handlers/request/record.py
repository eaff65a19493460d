"""The record of one request, held while it runs and until its entry is stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bridge.answering.answer import Answer
from bridge.answering.attempts import AttemptRecord
from bridge.answering.chat import ChatRequest
from bridge.diagnosis import with_wait
from bridge.errors import ApiError, seconds_to_wait
from handlers.request.drain import AnswerLifetime
from handlers.request.queued_call import QueuedCall
from upstream.protocol.errors import Reason

if TYPE_CHECKING:
    from handlers.request.recording import CallRecording


class RequestRecord:
    """The record of one request, for the log, the answer's headers, the dashboard and the statistics.

    `ttft` and `seconds` are in seconds, `began` is unix time. `status` is None while the request runs.
    """

    number: int = 0  # in order of arrival; 0 before the dashboard shows it
    client: str = ""  # its User-Agent
    key: str | None = None
    model: str | None = None  # as requested
    served: str | None = None  # the resolved model's name
    account: str | None = None  # the label of the answering account
    reason: Reason = Reason.OK
    code: str | None = None
    message: str | None = None  # of an error
    refused: bool = False  # by the bridge itself, not by the site
    prompt: str | None = None  # only with log.debug
    ttft: float | None = None
    lifetime: AnswerLifetime | None = None
    queued: QueuedCall | None = None  # where `limits.queue_seconds` is set
    recording: CallRecording | None = None  # if the request is being recorded
    spend: Callable[[int], None] | None = None  # called with the number of tokens at the end, if the key has a budget
    quiet: bool = False  # the dashboard's polling, logged at DEBUG only
    status: int | None = None
    seconds: float = 0.0
    chunks: int = 0
    streamed: bool = False
    messages: int = 0
    tools: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __init__(self, request_id: str, api: str | None = None) -> None:
        """`api` is the name of the front API, where a model is asked."""
        self.request_id = request_id
        self.api = api
        self.began = time.time()
        self.headers: dict[str, str] = {}
        self.ignored: dict[str, Sequence[str]] = {}  # what has no effect, by the model as requested
        self.answers: list[Answer] = []
        self.attempts: list[AttemptRecord] = []

    @property
    def recorded_bytes(self) -> int:
        """How many bytes of the request's body its recording holds."""
        return 0 if self.recording is None else self.recording.body_bytes

    def note(self, chat: ChatRequest) -> None:
        """Record what the chat asks for, apart from its model."""
        self.streamed, self.messages = chat.stream, len(chat.messages)
        if chat.tools is not None:
            self.tools = len(chat.tools.tools)

    def fail(self, error: ApiError) -> None:
        """Record the error that the caller gets."""
        self.reason, self.code = error.reason, error.code
        self.message = with_wait(error.message, seconds_to_wait(error))
        self.refused = error.refused_here
