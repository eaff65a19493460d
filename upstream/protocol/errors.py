"""What can go wrong upstream: one small tree, each error with its word of diagnosis and its class of failure.

The words are the vocabulary that error answers, health and log share (README: "What you see, why, what you do now").
The class of failure says whether the same call may be made again (`upstream.retry` decides, this file only knows).
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import ClassVar


class Reason(StrEnum):
    """The vocabulary of diagnosis: one word for how a call went."""

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


class Repeat(Enum):
    """Whether a failed call may be repeated, by what upstream can have done with it."""

    NOT_SENT = "not sent"  # it never left: DNS, refused, TLS, connect
    REFUSED = "refused"  # upstream said no before doing anything
    CORRECTED = "corrected"  # refused, and the next attempt does differently what was refused: not a failure
    POSSIBLY_ACCEPTED = "possibly accepted"  # a generation may have started: once more at most
    NEVER = "never"  # repeating cannot help, or an answer had begun


class UpstreamError(Exception):
    """Something went wrong upstream. `detail` is upstream's own text where it may be shown (never HTML), else ''.

    `status` is upstream's HTTP status, None where there was none. `max_corrections` is how often one request may be
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
    """The challenge page (`Just a moment...`, `cf-mitigated: challenge`), whatever its status.

    `cf_clearance` has expired.
    """

    reason = Reason.CHALLENGE


class Blocked(UpstreamError):
    """403 with a page titled `Attention Required!`: the network address or client is refused."""

    reason = Reason.BLOCKED


class RecaptchaDemanded(UpstreamError):
    """403 JSON `recaptcha validation failed`: the site wants a human in a browser for this request."""

    reason = Reason.RECAPTCHA


class PromptDoubted(UpstreamError):
    """429 `prompt failed`: not a limit, the site doubts that a human uses this account.

    `retry_after` is in seconds, None when the site named no time.
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
    """401 for a cookie that has been replaced since the call was sent: the account is alive."""

    repeat = Repeat.CORRECTED
    max_corrections = (
        6  # calls take turns from the second on (`bridge.accounts.rotations`), and the first turns are contested
    )


class NotRenewed(UpstreamError):
    """The account's cookie was refused, and the site cannot be asked about its login: that may be alive."""

    repeat = Repeat.REFUSED


class NoneRenewed(NotRenewed):
    """The same, and no other account is left to try."""

    repeat = Repeat.NEVER


class GuestSession(UpstreamError):
    """401 with `LOGIN_GATE`: a guest's session, which may not chat with a chosen model. The cookie is not dead."""

    reason = Reason.GUEST
    repeat = Repeat.REFUSED


class TermsNotAccepted(UpstreamError):
    """The account has not accepted the site's terms of use in a browser."""

    reason = Reason.TERMS
    repeat = Repeat.REFUSED


class WrongAccount(UpstreamError):
    """401 `does not have access to evaluation session`: the evaluation is another account's; the cookie is fine."""

    reason = Reason.WRONG_ACCOUNT
    repeat = Repeat.REFUSED


class RateLimited(UpstreamError):
    """429. `retry_after` is in seconds, None when upstream named no time; 0 means at once."""

    reason = Reason.RATE_LIMITED
    repeat = Repeat.REFUSED

    def __init__(self, message: str, *, retry_after: float | None, status: int | None = 429, detail: str = "") -> None:
        super().__init__(message, status=status, detail=detail)
        self.retry_after = retry_after


class AllResting(RateLimited):
    """Every account rests after a 429: nothing was sent, and nothing can be before `retry_after`."""

    repeat = Repeat.NEVER


class CircuitOpen(UpstreamError):
    """Request after request failed: upstream is left alone for `retry_after` seconds. Nothing was sent."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Rejected(UpstreamError):
    """400, or a 403 that is none of the known ones: the payload was refused, `detail` says why."""

    reason = Reason.REJECTED


class Moderated(UpstreamError):
    """422: moderation refused the prompt."""

    reason = Reason.MODERATED


class ModeRefused(UpstreamError):
    """400: a new evaluation may not begin in this mode; the other one is tried."""

    reason = Reason.SITE_CHANGED
    repeat = Repeat.CORRECTED


class BattleDemanded(UpstreamError):
    """400: the next turn of this evaluation must be a battle, so it can no longer be continued with one model."""

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
    """The site answers in a way that this version does not know: the bridge may need an update."""

    reason = Reason.SITE_CHANGED


class NotThere(UpstreamError):
    """404 with a page: the site has nothing at this address (any more)."""

    reason = Reason.SITE_CHANGED


class EvaluationGone(NotThere):
    """404 of a call about an evaluation: the evaluation does not exist (any more) for this account."""

    reason = Reason.WRONG_ACCOUNT
    repeat = Repeat.REFUSED


class StaleAction(UpstreamError):
    """404 with `x-nextjs-action-not-found`: the site was deployed anew and its action ids changed."""

    repeat = Repeat.REFUSED


class Unavailable(UpstreamError):
    """503: upstream says that it did not take the call."""

    repeat = Repeat.REFUSED


class ServerFailed(UpstreamError):
    """500, 502 and other 5xx, or the connection died after the call was sent."""

    repeat = Repeat.POSSIBLY_ACCEPTED


class ModelFailed(UpstreamError):
    """`a3:`, or a finish reason `error`: the model failed; `detail` is the model's own text."""

    repeat = Repeat.POSSIBLY_ACCEPTED


class EmptyAnswer(UpstreamError):
    """The answer finished without a word, a thought or a picture."""

    repeat = Repeat.POSSIBLY_ACCEPTED


class Truncated(UpstreamError):
    """The transport ended, or broke, before upstream said that the answer was complete."""

    reason = Reason.TRUNCATED
    repeat = Repeat.POSSIBLY_ACCEPTED


class ProtocolViolated(UpstreamError):
    """Upstream sent what the protocol does not allow: broken JSON, an endless line, a page in place of an answer."""


class TimedOut(UpstreamError):
    """No first byte, silence in the middle, or an answer longer than allowed; `status` is None or 504."""

    reason = Reason.TIMEOUT


class SilentAnswer(TimedOut):
    """200, and then no event of an answer in time: nothing at all, or only signs of life."""

    repeat = Repeat.POSSIBLY_ACCEPTED


class UploadFailed(UpstreamError):
    """A picture could not be brought to LMArena's storage. No text of it quotes a signed URL."""


class DownloadFailed(UpstreamError):
    """A picture could not be brought from LMArena's storage. No text of it quotes a signed URL."""


class Redirected(UpstreamError):
    """Upstream points to an origin that the configuration does not allow; `origin` names it."""

    def __init__(self, message: str, *, origin: str, status: int | None = None) -> None:
        super().__init__(message, status=status)
        self.origin = origin


class NoAccount(UpstreamError):
    """No account can be used: none was added, or each has expired or may not chat; `reason` says which."""

    reason = Reason.NO_ACCOUNT

    def __init__(
        self, message: str, *, reason: Reason = Reason.NO_ACCOUNT, status: int | None = None, detail: str = ""
    ) -> None:
        super().__init__(message, status=status, detail=detail)
        self.reason = reason
