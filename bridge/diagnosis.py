"""The vocabulary of diagnosis: the cause that each word stands for, and what to do now. docs/words.md has the same
table.

Errors, health, `check`, `accounts` and the dashboard all take their advice from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from upstream.protocol.errors import (
    CircuitOpen,
    DownloadFailed,
    IdsRefused,
    Reason,
    Redirected,
    StaleModel,
    UploadFailed,
    UpstreamError,
)

#: The command that adds or renews an account, as advice names it.
ADD_ACCOUNT: Final = "lmarena-bridge accounts add"
#: How long to wait, for people, and for programs, which see the header.
AS_LONG: Final = "as long as the error says or the account's cooldown lasts"
AS_LONG_AS_SENT: Final = "as long as Retry-After says"


class Advice(NamedTuple):
    """The cause of a problem, and what to do now.

    `why` and `now` are for the operator: clauses without a full stop, code between backticks. `caller` is for the error
    response to the sender of the request, in whole sentences.
    """

    why: str
    now: str
    caller: str


ADVICE: Final[Mapping[Reason, Advice]] = {
    Reason.OK: Advice("all is well", "nothing", "There is nothing to do."),
    Reason.CHALLENGE: Advice(
        "`cf_clearance` has expired: the site shows its challenge page",
        "open the site in your browser, copy any request to it as cURL, paste that into the dashboard's Accounts page"
        " (or copy `cf_clearance` and the user agent into `bridge.toml` and send SIGHUP)",
        "The operator must open the site in a browser, and paste any request to it, copied as cURL, into the"
        " dashboard's Accounts page. Repeating the request does not help.",
    ),
    Reason.BLOCKED: Advice(
        "the site blocks your network address, or the client",
        "open it in a browser on the same network; if it is blocked there too, only another network or time helps",
        "A fresh cf_clearance may not help: open the site in a browser on the same network; if it is blocked there too,"
        " only another network or time helps.",
    ),
    Reason.RECAPTCHA: Advice(
        "the site wants a human in a browser for this request, or doubts that one uses the account",
        f"wait {AS_LONG}, or let another account answer; the bridge does not get around it",
        f"Wait {AS_LONG_AS_SENT}, or let another account answer; the bridge does not get around it.",
    ),
    Reason.GUEST: Advice(
        "the session is a guest's, who may not choose a model",
        "sign in on the site in that browser window, send one message, and paste the cookie again into the dashboard or"
        f" `{ADD_ACCOUNT}`",
        "The operator must sign in on the site in that browser window, send one message, and paste the cookie again:"
        f" {ADD_ACCOUNT}.",
    ),
    Reason.TERMS: Advice(
        "the site's terms of use have not been accepted by this account",
        "open the site in a browser, read its terms and accept them there if you agree; then `lmarena-bridge check`",
        "The operator must read them on the site in a browser, accept them there if they agree, and run"
        " lmarena-bridge check.",
    ),
    Reason.EXPIRED: Advice(
        "the site no longer accepts an account's login, or it ends within a day and cannot be renewed",
        f"log in again, and paste the new cookie into the dashboard or `{ADD_ACCOUNT}`",
        f"The operator must log in again, and paste the new cookie: {ADD_ACCOUNT}.",
    ),
    Reason.NO_ACCOUNT: Advice(
        "there is no account, or every one has expired",
        f"paste a cookie into the dashboard or `{ADD_ACCOUNT}`",
        f"The operator must add an account or renew one: {ADD_ACCOUNT}.",
    ),
    Reason.WRONG_ACCOUNT: Advice(
        "an evaluation is gone, or another account's",
        "nothing: the bridge starts a new one with the whole history",
        "Try again: the bridge starts a new one with the whole history.",
    ),
    Reason.RATE_LIMITED: Advice(
        "a key, an account or the whole daemon is at its limit",
        f"wait {AS_LONG}; add an account, or raise the key's requests per minute",
        f"Wait {AS_LONG_AS_SENT}.",
    ),
    Reason.MODERATED: Advice("the site's moderation refused the prompt", "change the prompt", "Change the prompt."),
    Reason.REJECTED: Advice(
        "the request itself is wrong, or the site refused it",
        "the message says what: `error.param` names the field",
        "Repeating it unchanged does not help.",
    ),
    Reason.TRUNCATED: Advice(
        "the answer broke off before its end",
        "ask again; what came is not the whole answer",
        "What has come is not the whole answer.",
    ),
    Reason.TIMEOUT: Advice(
        "the model did not begin, fell silent, or took too long",
        "ask again, try another model, or raise `upstream.*_timeout`",
        "Try again, or choose another model.",
    ),
    Reason.UNREACHABLE: Advice(
        "no connection to the site",
        "check the network, and `upstream.base_url` and `upstream.proxy` in `bridge.toml`",
        "Check the network; lmarena-bridge check says more.",
    ),
    Reason.UPSTREAM_ERROR: Advice(
        "the model or the site failed, or answered with something unknown",
        "ask again, or try another model",
        "Try again in a while, or choose another model.",
    ),
    Reason.SITE_CHANGED: Advice(
        "the site answered in a way this version does not know",
        "look for a newer version of the bridge; `lmarena-bridge check` and the log say what was seen",
        "The site has changed: the bridge may need an update. lmarena-bridge check says more.",
    ),
    Reason.CLIENT_GONE: Advice(
        "the caller left before the end (status 499 in the log)", "nothing", "There is nothing to do."
    ),
    Reason.STATE: Advice(
        "Redis, which holds the shared state, cannot be reached or refuses to work",
        "start it, or look at its log; `lmarena-bridge check` says what is wrong. Chats are answered meanwhile, each as"
        " a new conversation, and nothing can be changed",
        "Try again in a while: the bridge's shared state cannot be reached.",
    ),
    Reason.WORKER: Advice(
        "one of the daemon's processes ended unexpectedly (`server.workers`)",
        "nothing: it is started again, and the others serve meanwhile; the log says how it ended",
        "Try again in a moment.",
    ),
}

#: The limits that a rule of the bridge's own set, as opposed to the site's.
_OWN_LIMIT: Final = ADVICE[Reason.RATE_LIMITED]._replace(
    why="a key or the whole daemon is at its limit", now=f"wait {AS_LONG}, or raise the key's limits"
)
_SITES_LIMIT: Final = ADVICE[Reason.RATE_LIMITED]._replace(
    why="every account that may answer is at its limit", now=f"wait {AS_LONG}, or add an account"
)


def advice_after(reason: Reason, *, refused_here: bool) -> Advice:
    """Why a request ended so, and what to do now; `refused_here` says that a rule of the bridge's own refused it."""
    if reason is Reason.RATE_LIMITED:
        return _OWN_LIMIT if refused_here else _SITES_LIMIT
    return ADVICE[reason]


#: A clock that differs from the site's.
CLOCK: Final = Advice(
    "this machine's clock is wrong",
    "set it right (NTP). Ids are corrected meanwhile",
    "The operator must set this machine's clock right.",
)

_UPLOAD: Final = Advice(
    "a file could not be brought to the site's storage, or from there",
    "ask again in a while, or send the text alone",
    "Try again in a while, or send the text alone.",
)

#: Errors with more specific advice than their word's.
_CASES: Final[Mapping[type[UpstreamError], Advice]] = {
    CircuitOpen: Advice("request after request failed", f"wait {AS_LONG}", f"Wait {AS_LONG_AS_SENT}."),
    UploadFailed: _UPLOAD,
    DownloadFailed: _UPLOAD,
    StaleModel: Advice(
        "the site does not have the model",
        "choose one of those that `lmarena-bridge models` lists",
        "GET /v1/models lists the models that there are.",
    ),
    IdsRefused: CLOCK,
}


def advice_on(error: UpstreamError) -> Advice:
    """The cause of a failed call to the site, and what to do now."""
    if isinstance(error, Redirected):
        now = f'if that is the site\'s new home, set upstream.base_url = "{error.origin}" in bridge.toml'
        return Advice("the site has moved to an origin that the configuration does not allow", now, sentence(now))
    return _CASES.get(type(error), ADVICE[error.reason])


def told(error: UpstreamError, advice: Advice | None = None) -> str:
    """A text for the operator: what went wrong, and what to do now by `advice` or, without it, `advice_on`."""
    return f"{stopped(error.message)} {sentence((advice or advice_on(error)).now)}"


def with_wait(text: str, wait: str) -> str:
    """A text with `wait`, a time in words, in place of what stands for it."""
    return text.replace(AS_LONG, wait).replace(AS_LONG_AS_SENT, wait)


def sentence(clause: str) -> str:
    """Make a sentence of a clause: capitalise it, and end it with a full stop unless it ends with a stop."""
    return stopped(clause[:1].upper() + clause[1:])


def stopped(text: str) -> str:
    """`text` with a full stop at its end, unless it already ends like a sentence."""
    return text if text.endswith(_STOPS) else f"{text}."


_STOPS: Final = (".", "!", "?", "。", "！", "？")
