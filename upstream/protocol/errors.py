"""The hierarchy of upstream errors; each has a `Reason` for diagnosis and says whether the call may be repeated.

Error answers, health and logs share the reasons (docs/words.md). `upstream.retry` decides about retries by `Repeat`.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import ClassVar


class Reason(StrEnum):
    """The outcome of a call in one word, for diagnosis."""

    OK = "ok"
    CHALLENGE = "challenge"
    BLOCKED = "blocked"
    RECAPTCHA = "recaptcha"
    GUEST = "guest"
    TERMS = "terms"
    EXPIRED = "expired"
    NO_ACCOUNT = "no_account"
    WRONG_ACCOUNT = "wrong_account"
    RATE_LIMITED = "rate_limited"
    MODERATED = "moderated"
    REJECTED = "rejected"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    UPSTREAM_ERROR = "upstream_error"
    SITE_CHANGED = "site_changed"
    CLIENT_GONE = "client_gone"
    STATE = "state"
    WORKER = "worker"


class Repeat(Enum):
    """Whether a failed call may be repeated, depending on what upstream may have done with it."""

    NOT_SENT = "not sent"  # DNS, connection refused, TLS, connect timeout
    REFUSED = "refused"  # upstream refused it before doing anything
    CORRECTED = "corrected"  # refused, but the next attempt corrects the cause: not a failure
    POSSIBLY_ACCEPTED = "possibly accepted"  # a generation may have started: repeat at most once
    NEVER = "never"  # repeating cannot help, or the answer had begun


class UpstreamError(Exception):
    """An upstream failure. `detail` is upstream's own text if it may be shown (never HTML), else ''.

    `status` is upstream's HTTP status, None without a response. `max_corrections` is how often one request may be
    corrected after refusals of this kind.
    """

    reason: Reason = Reason.UPSTREAM_ERROR
    repeat: ClassVar[Repeat] = Repeat.NEVER
    max_corrections: ClassVar[int] = 2

    def __init__(self, message: str, *, status: int | None = None, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.detail = detail


class Unreachable(UpstreamError):
    """No connection: DNS, refused, TLS, connect timeout. Nothing was sent."""

    reason = Reason.UNREACHABLE
    repeat = Repeat.NOT_SENT


class Challenge(UpstreamError):
    """The challenge page (`Just a moment...`, `cf-mitigated: challenge`), with any status.

    `cf_clearance` has expired.
    """

    reason = Reason.CHALLENGE


class Blocked(UpstreamError):
    """403 with a page titled `Attention Required!`: the network address or the client is blocked."""

    reason = Reason.BLOCKED


class RecaptchaRequired(UpstreamError):
    """403 JSON `recaptcha validation failed`: the site requires a human in a browser for this request."""

    reason = Reason.RECAPTCHA


class PromptFailed(UpstreamError):
    """429 `prompt failed`: not a rate limit; the site doubts that a human uses this account.

    `retry_after` is in seconds, None if the site named no time.
    """

    reason = Reason.RECAPTCHA

    def __init__(self, message: str, *, retry_after: float | None, status: int | None = 429, detail: str = "") -> None:
        super().__init__(message, status=status, detail=detail)
        self.retry_after = retry_after


class SessionExpired(UpstreamError):
    """401, or a redirect to the login page: the session cookie is expired or invalid."""

    reason = Reason.EXPIRED
    repeat = Repeat.REFUSED


class StaleCookie(SessionExpired):
    """401 for a cookie that has been replaced since the call was sent: the account is still logged in."""

    repeat = Repeat.CORRECTED
    # Calls take turns from the second attempt on (`bridge.accounts.rotations`), but several compete for the first.
    max_corrections = 6


class NotRenewed(UpstreamError):
    """The account's cookie was refused, but its login may be valid: the call that would tell has failed."""

    repeat = Repeat.REFUSED


class NoneRenewed(NotRenewed):
    """NotRenewed, and there is no other account to try."""

    repeat = Repeat.NEVER


class GuestSession(UpstreamError):
    """401 with `LOGIN_GATE`: guests may not chat with a model of their choice. The cookie is valid."""

    reason = Reason.GUEST
    repeat = Repeat.REFUSED


class TermsNotAccepted(UpstreamError):
    """The account has not accepted the site's terms of use in a browser."""

    reason = Reason.TERMS
    repeat = Repeat.REFUSED


class WrongAccount(UpstreamError):
    """401 `does not have access to evaluation session`: the evaluation is another account's; the cookie is valid."""

    reason = Reason.WRONG_ACCOUNT
    repeat = Repeat.REFUSED


class RateLimited(UpstreamError):
    """429. `retry_after` is in seconds, None if upstream named no time; 0 means immediately."""

    reason = Reason.RATE_LIMITED
    repeat = Repeat.REFUSED

    def __init__(self, message: str, *, retry_after: float | None, status: int | None = 429, detail: str = "") -> None:
        super().__init__(message, status=status, detail=detail)
        self.retry_after = retry_after


class AllOnCooldown(RateLimited):
    """Every account is on cooldown after a 429: nothing was sent, and nothing can be sent before `retry_after`."""

    repeat = Repeat.NEVER


class CircuitOpen(UpstreamError):
    """The circuit breaker is open for `retry_after` seconds after repeated failures. Nothing was sent."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Rejected(UpstreamError):
    """400, or a 403 of unknown meaning: the payload was refused, `detail` says why."""

    reason = Reason.REJECTED


class Moderated(UpstreamError):
    """422: moderation refused the prompt."""

    reason = Reason.MODERATED


class ModeRefused(UpstreamError):
    """400: a new evaluation may not start in this mode; the other one is tried."""

    reason = Reason.SITE_CHANGED
    repeat = Repeat.CORRECTED


class BattleRequired(UpstreamError):
    """400: the next turn of this evaluation must be a battle, so it cannot be continued with one model."""

    reason = Reason.WRONG_ACCOUNT
    repeat = Repeat.CORRECTED


class IdsRefused(UpstreamError):
    """400: the time in the ids differs too much from the site's clock."""

    reason = Reason.REJECTED
    repeat = Repeat.CORRECTED


class StaleModel(UpstreamError):
    """404 `Models not found`, or 400 `no longer available`: the model's id or modality is out of date."""

    reason = Reason.REJECTED


class SiteChanged(UpstreamError):
    """The site's answer is unknown to this version: the bridge may need an update."""

    reason = Reason.SITE_CHANGED


class NotFound(UpstreamError):
    """404 with a page: the site has nothing at this address (any more)."""

    reason = Reason.SITE_CHANGED


class EvaluationGone(NotFound):
    """404 for an evaluation: it does not exist (any more) for this account."""

    reason = Reason.WRONG_ACCOUNT
    repeat = Repeat.REFUSED


class StaleAction(UpstreamError):
    """404 with `x-nextjs-action-not-found`: the site was redeployed, and its action ids have changed."""

    repeat = Repeat.REFUSED


class Unavailable(UpstreamError):
    """503: upstream did not accept the call."""

    repeat = Repeat.REFUSED


class ServerFailed(UpstreamError):
    """500, 502 and other 5xx, or the connection broke after the call was sent."""

    repeat = Repeat.POSSIBLY_ACCEPTED


class ModelFailed(UpstreamError):
    """`a3:`, or a finish reason `error`: the model failed; `detail` is the model's own text."""

    repeat = Repeat.POSSIBLY_ACCEPTED


class EmptyAnswer(UpstreamError):
    """The answer finished without text, reasoning or pictures."""

    repeat = Repeat.POSSIBLY_ACCEPTED


class Truncated(UpstreamError):
    """The transport ended or broke before upstream declared the answer complete."""

    reason = Reason.TRUNCATED
    repeat = Repeat.POSSIBLY_ACCEPTED


class ProtocolViolated(UpstreamError):
    """Upstream violated the protocol: broken JSON, an endless line, a page in place of an answer."""


class TimedOut(UpstreamError):
    """No first byte, silence in the middle, or an answer longer than allowed; `status` is None or 504."""

    reason = Reason.TIMEOUT


class SilentAnswer(TimedOut):
    """200, but no event of an answer in time: nothing at all, or only heartbeats."""

    repeat = Repeat.POSSIBLY_ACCEPTED


class UploadFailed(UpstreamError):
    """A file could not be uploaded to LMArena's storage. The texts never quote a signed URL."""


class DownloadFailed(UpstreamError):
    """A picture could not be downloaded from LMArena's storage. The texts never quote a signed URL."""


class Redirected(UpstreamError):
    """Upstream redirects to an origin that the configuration does not allow; `origin` names it."""

    def __init__(self, message: str, *, origin: str, status: int | None = None) -> None:
        super().__init__(message, status=status)
        self.origin = origin


class NoAccount(UpstreamError):
    """No account can be used: there are none, or each has expired or may not chat; `reason` says which."""

    reason = Reason.NO_ACCOUNT

    def __init__(
        self, message: str, *, reason: Reason = Reason.NO_ACCOUNT, status: int | None = None, detail: str = ""
    ) -> None:
        super().__init__(message, status=status, detail=detail)
        self.reason = reason
