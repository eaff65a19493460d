"""Errors as callers see them: one class with status, code, param, reason and advice.

Each dialect decides how an error is written, including its `type`.

The one table that translates upstream's errors is at the end (`from_upstream`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

from bridge.diagnosis import advice_on, with_full_stop, with_wait
from bridge.headers import REASON, SHOULD_RETRY
from upstream.accounts import DEFAULT_COOLDOWN_SECONDS
from upstream.protocol.errors import (
    Blocked,
    Challenge,
    CircuitOpen,
    GuestSession,
    Moderated,
    NoAccount,
    PromptFailed,
    RateLimited,
    Reason,
    RecaptchaRequired,
    Redirected,
    Rejected,
    StaleModel,
    TermsNotAccepted,
    TimedOut,
    UploadFailed,
    UpstreamError,
)

#: Converts the site's limit from characters to tokens: 113,000 characters are about 28,000 tokens.
CHARS_PER_TOKEN: Final = 4
#: OpenAI's SDKs wait for `Retry-After` themselves; beyond this many seconds they should give up instead.
MAX_PATIENCE_SECONDS: Final = 20.0
_MAY_PASS: Final = (500, 502, 504)


@dataclass(eq=False)
class ApiError(Exception):
    """An error response. `param` is a path into the request; `retry_after` is in seconds.

    `retry` says whether a caller's SDK may repeat the request by itself, `close` that the connection cannot be used
    again. `accepted` has the headers that say what would be accepted: `Allow`, `Accept-Encoding`. `of_site` says that
    the site refused the request, whatever the status.
    """

    status: int
    code: str
    message: str
    param: str | None = None
    reason: Reason = Reason.REJECTED
    retry_after: float | None = None
    retry: bool = True
    close: bool = False
    accepted: Mapping[str, str] = field(default_factory=dict)
    of_site: bool = False

    def __post_init__(self) -> None:
        super().__init__(self.message)

    def again(self) -> Self:
        """Copy the error, to raise it again: raising a kept instance would keep every frame of its traceback alive."""
        return replace(self)

    @property
    def refused_here(self) -> bool:
        """Whether the bridge itself refused the request, so that the error says nothing about the site's health."""
        return not self.of_site and (self.status < 500 or self.code in ("overloaded", "ended_by_owner"))


@dataclass(eq=False)
class ContextExceeded(ApiError):
    """A prompt of `tokens` tokens, where the site accepts `max_tokens`. Agents then compact their history."""

    tokens: int = 0
    max_tokens: int = 0


def context_exceeded(why: str, tokens: int, max_tokens: int) -> ContextExceeded:
    """400: the prompt is too long. The message has the words that agents look for."""
    tokens = max(tokens, max_tokens + 1)
    message = (
        f"The prompt exceeds the context window: it has {tokens} tokens, and the site's maximum context length is "
        f"{max_tokens} tokens. {why}"
    )
    return ContextExceeded(400, "context_length_exceeded", message, "messages", tokens=tokens, max_tokens=max_tokens)


def not_found(message: str, param: str | None = None) -> ApiError:
    """404: something that does not exist, or that belongs to another key."""
    return ApiError(404, "not_found", message, param)


def error_headers(error: ApiError) -> dict[str, str]:
    """The headers of a response with this error, the same in every API."""
    headers = {REASON: error.reason.value, **error.accepted}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.close:
        headers["Connection"] = "close"
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if not error.retry or (error.retry_after or 0) > MAX_PATIENCE_SECONDS:
        headers[SHOULD_RETRY] = "false"
    return headers


def message_in_stream(error: ApiError) -> str:
    """The message for a stream that has begun, where no status and no header can be sent: it says how long to wait.

    OpenAI's phrase at its end tells agents that they may repeat a broken turn.
    """
    message = with_wait(error.message, seconds_to_wait(error))
    return f"{message} You can retry your request." if error.status in _MAY_PASS else message


def seconds_to_wait(error: ApiError) -> str:
    """How long to wait before another try, in words for a person who sees no header."""
    return "a while" if error.retry_after is None else f"{max(1, math.ceil(error.retry_after))} s"


def invalid_request(code: str, message: str, param: str | None = None) -> ApiError:
    """400: the request itself is wrong."""
    return ApiError(400, code, message, param)


def invalid_api_key() -> ApiError:
    """401: the same message whether the key is missing, malformed or unknown."""
    return ApiError(
        401,
        "invalid_api_key",
        "Incorrect or missing API key. Send 'Authorization: Bearer sk-lmab-…' with a key created by "
        "`lmarena-bridge keys add`.",
    )


def key_expired() -> ApiError:
    """401: the key has expired."""
    return ApiError(401, "key_expired", "This API key has expired. The operator can extend it or create a new one.")


def key_paused() -> ApiError:
    """401: the operator has paused the key."""
    return ApiError(401, "key_paused", "This API key is paused. The operator can resume it.")


def budget_exceeded(kind: str, limit: int, retry_after: float) -> ApiError:
    """429: a key's daily budget is used up."""
    return ApiError(
        429,
        "budget_exceeded",
        f"This API key has used up its daily budget of {limit:,} {kind}. The budget starts again at midnight UTC.",
        reason=Reason.RATE_LIMITED,
        retry_after=retry_after,
    )


def model_not_allowed(name: str) -> ApiError:
    """403: the model exists, but not for this key."""
    return ApiError(
        403,
        "model_not_allowed",
        f"This API key may not use the model '{name}'. The operator can allow it with `lmarena-bridge keys set`"
        " (and `models.stealth`, for a stealth model).",
        "model",
    )


def metrics_not_allowed() -> ApiError:
    """403: a valid key without the right to read metrics."""
    return ApiError(
        403,
        "metrics_not_allowed",
        "This API key may not read metrics. The operator can allow it with `lmarena-bridge keys set NAME --metrics`.",
    )


#: A name that can stand in bridge.toml between quotes as it is.
_PLAIN_NAME: Final = re.compile(r"[\w./:@+-]{1,80}", re.ASCII)


def model_not_found(name: str, close: list[str]) -> ApiError:
    """404: no model of that name."""
    hint = f" Did you mean {' or '.join(repr(other) for other in close)}?" if close else ""
    meant = close[0] if close else "one of them"
    # In TOML's single quotes: SDKs show a message by repr(), which escapes quotes where both kinds occur.
    example = f": '{name}' = '{meant}'" if _PLAIN_NAME.fullmatch(name) and "'" not in meant else ""
    return ApiError(
        404,
        "model_not_found",
        f"The model '{name[:200]}' does not exist.{hint} GET /v1/models lists all models. If a client insists on "
        f"model names of its own, map them in [models.aliases] of bridge.toml{example}.",
        "model",
    )


def model_withheld(name: str) -> ApiError:
    """404: LMArena lists the model, but nobody can choose it."""
    return ApiError(
        404,
        "model_not_found",
        f"LMArena lists the model '{name[:200]}', but it cannot be chosen at the moment. "
        "GET /v1/models lists the models that can.",
        "model",
    )


def model_refused(name: str) -> ApiError:
    """404: LMArena lists the model under the same id that it rejects."""
    return ApiError(
        404,
        "model_not_found",
        f"LMArena lists the model '{name[:200]}', but rejects its id as unknown. Choose another model: "
        "GET /v1/models lists them.",
        "model",
        of_site=True,
    )


def model_stale(name: str, reason: Reason, why: str) -> ApiError:
    """503: LMArena no longer has the model under the id that is known, and its list cannot be read again."""
    return ApiError(
        503,
        "models_unavailable",
        f"LMArena has changed the id of the model '{name[:200]}' or removed the model, and the list of models "
        f"cannot be read again: {why} Run `lmarena-bridge check` for details.",
        reason=reason,
        retry=False,
    )


def unsupported_model(name: str, why: str) -> ApiError:
    """400: the model exists, but cannot do what the request asks for."""
    return ApiError(400, "unsupported_model", f"'{name}' {why}.", "model")


def document_not_taken(model: str, param: str) -> ApiError:
    """400: `param` is the path of a part with a PDF, and the model reads none."""
    return invalid_request(
        "unsupported_parameter",
        f"'{model}' does not accept documents: leave this part out, or choose a model whose `capabilities.input` in "
        "GET /v1/models includes `file`.",
        param,
    )


def models_unavailable(reason: Reason, why: str) -> ApiError:
    """503: no list of models has ever been read."""
    return ApiError(
        503,
        "models_unavailable",
        f"The list of models could not be read from LMArena yet: {why} Run `lmarena-bridge check` for details.",
        reason=reason,
        retry=False,
    )


def overloaded(message: str, retry_after: float = 1.0, *, close: bool = False) -> ApiError:
    """503: the daemon is shutting down or at its limit. The request may be repeated later."""
    return ApiError(
        503,
        "overloaded",
        message,
        reason=Reason.RATE_LIMITED,
        retry_after=retry_after,
        close=close,
    )


def answer_too_long(limit: int) -> ApiError:
    """502: the answer is too long to be collected for a caller who does not stream. `limit` is in characters."""
    return ApiError(
        502,
        "upstream_error",
        f"LMArena's answer is longer than {limit} characters, the most that the bridge collects when an answer is not "
        'streamed. Ask again with "stream": true, or ask for a shorter answer.',
        reason=Reason.UPSTREAM_ERROR,
        retry=False,
    )


def invalid_model_output(why: str) -> ApiError:
    """502: the model made no tool call where one was required, or gave no JSON that fits."""
    return ApiError(
        502,
        "invalid_model_output",
        f"{why} Ask again, or choose another model.",
        reason=Reason.UPSTREAM_ERROR,
        retry=False,
    )


def answers_too_large() -> ApiError:
    """503: the answers that are being collected for callers use up the memory set aside for them."""
    return overloaded('The bridge is collecting too many long answers already. Ask again with "stream": true.')


def may_fall_back(error: ApiError) -> bool:
    """Whether another model may answer in place of this one, which is missing, on cooldown or failing."""
    own = error.code in ("overloaded", "ended_by_owner", "internal_error")
    return not own and (error.status in (404, 429, 502, 503, 504) or error.code == "upstream_rejected")


def ended_by_owner() -> ApiError:
    """503: the operator ended this answer."""
    return ApiError(
        503,
        "ended_by_owner",
        "This answer was ended from the bridge's dashboard.",
        reason=Reason.TRUNCATED,
        retry=False,
    )


def internal_error() -> ApiError:
    """500: a bug of the bridge; the log has the details under the request id."""
    return ApiError(
        500,
        "internal_error",
        "An internal error occurred in the bridge. Its log has the details under this answer's x-request-id.",
        reason=Reason.UPSTREAM_ERROR,
    )


def from_upstream(error: UpstreamError) -> ApiError:
    """Translate an upstream error for the caller, with advice. A 401 or 403 of the site is never passed on as one."""
    status, code = _status_and_code(error)
    retry_after = _retry_after(error)
    message = f"{with_full_stop(error.message)} {advice_on(error).caller}"
    return ApiError(
        status,
        code,
        message if retry_after is not None else with_wait(message, "a while"),  # there is no header to point to
        reason=error.reason,
        retry_after=retry_after,
        retry=status in (400, 429),
        of_site=True,
    )


def _retry_after(error: UpstreamError) -> float | None:
    """The seconds to wait, where they are known; for a doubted account, the length of its cooldown."""
    match error:
        case PromptFailed(retry_after=None):
            return DEFAULT_COOLDOWN_SECONDS
        case RateLimited(retry_after=seconds) | PromptFailed(retry_after=seconds) | CircuitOpen(retry_after=seconds):
            return seconds
    return None


def _status_and_code(error: UpstreamError) -> tuple[int, str]:
    match error:
        case Challenge() | Blocked() | RecaptchaRequired() | PromptFailed():
            return 503, "upstream_challenge"
        case CircuitOpen():
            return 503, "upstream_error"
        case NoAccount() | GuestSession() | TermsNotAccepted():
            return 503, "no_account"
        case RateLimited():
            return 429, "upstream_rate_limited"
        case Moderated():
            return 400, "content_filter"
        case Rejected():
            return 400, "upstream_rejected"
        case Redirected():
            return 502, "upstream_redirect"
        case TimedOut():
            return 504, "upstream_timeout"
        case UploadFailed():
            return 502, "image_upload_failed"
        case StaleModel():
            return 404, "model_not_found"
        case _:
            return 502, "upstream_error"
