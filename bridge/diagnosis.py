"""The vocabulary of diagnosis: what each word means, and what to do about it. docs/words.md has the same table.

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
#: How long to wait, in advice for the operator, and in advice for the caller, who has the header.
HOW_LONG: Final = "as long as the error says or the account's cooldown lasts"
HOW_LONG_BY_HEADER: Final = "as long as Retry-After says"


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
        "the site blocks your network address or the bridge as a client",
        "open the site in a browser on the same network; if it is blocked there too, use another network or wait",
        "A fresh cf_clearance may not help: open the site in a browser on the same network; if it is blocked there too,"
        " use another network or wait.",
    ),
    Reason.RECAPTCHA: Advice(
        "the site demands a human in a browser for this request, or doubts that a human uses the account",
        f"wait {HOW_LONG}, or add another account; the bridge does not bypass the check",
        f"Wait {HOW_LONG_BY_HEADER}, or add another account; the bridge does not bypass the check.",
    ),
    Reason.GUEST: Advice(
        "the session is a guest's, and guests may not choose a model",
        "sign in to the site in the browser that the cookie came from, send one message, and paste the new cookie into"
        f" the dashboard or `{ADD_ACCOUNT}`",
        "The operator must sign in to the site in the browser that the cookie came from, send one message, and paste"
        f" the new cookie: {ADD_ACCOUNT}.",
    ),
    Reason.TERMS: Advice(
        "this account has not accepted the site's terms of use",
        "open the site in a browser, read its terms and accept them if you agree; then run `lmarena-bridge check`",
        "The operator must read the terms on the site in a browser, accept them there if they agree, and run"
        " lmarena-bridge check.",
    ),
    Reason.EXPIRED: Advice(
        "the site no longer accepts an account's login, or the login ends within a day and cannot be renewed",
        f"log in again, and paste the new cookie into the dashboard or `{ADD_ACCOUNT}`",
        f"The operator must log in again, and paste the new cookie: {ADD_ACCOUNT}.",
    ),
    Reason.NO_ACCOUNT: Advice(
        "there is no account, or every account has expired",
        f"paste a cookie into the dashboard or `{ADD_ACCOUNT}`",
        f"The operator must add an account or renew one: {ADD_ACCOUNT}.",
    ),
    Reason.WRONG_ACCOUNT: Advice(
        "an evaluation is gone, or belongs to another account",
        "nothing: the bridge starts a new one with the whole history",
        "Try again: the bridge starts a new evaluation with the whole history.",
    ),
    Reason.RATE_LIMITED: Advice(
        "a key, an account or the whole daemon is at its limit",
        f"wait {HOW_LONG}; add an account, or raise the key's requests per minute",
        f"Wait {HOW_LONG_BY_HEADER}.",
    ),
    Reason.MODERATED: Advice("the site's moderation refused the prompt", "change the prompt", "Change the prompt."),
    Reason.REJECTED: Advice(
        "the request itself is wrong, or the site refused it",
        "the message says what is wrong, and `error.param` names the field",
        "Repeating the request unchanged does not help.",
    ),
    Reason.TRUNCATED: Advice(
        "the answer broke off before its end",
        "ask again; the part of the answer that came is incomplete",
        "The part of the answer that came is incomplete.",
    ),
    Reason.TIMEOUT: Advice(
        "the model did not start to answer, stalled, or took too long",
        "ask again, try another model, or raise `upstream.*_timeout`",
        "Try again, or choose another model.",
    ),
    Reason.UNREACHABLE: Advice(
        "no connection to the site",
        "check the network, and `upstream.base_url` and `upstream.proxy` in `bridge.toml`",
        "Check the network, and run lmarena-bridge check for details.",
    ),
    Reason.UPSTREAM_ERROR: Advice(
        "the model or the site failed, or sent something that the bridge does not know",
        "ask again, or try another model",
        "Try again in a while, or choose another model.",
    ),
    Reason.SITE_CHANGED: Advice(
        "the site answered in a way that this version does not know",
        "look for a newer version of the bridge; `lmarena-bridge check` and the log show what was received",
        "The site has changed: the bridge may need an update. Run lmarena-bridge check for details.",
    ),
    Reason.CLIENT_GONE: Advice(
        "the caller disconnected before the end (status 499 in the log)", "nothing", "There is nothing to do."
    ),
    Reason.STATE: Advice(
        "Redis, which holds the shared state, cannot be reached or does not work",
        "start Redis, or look at its log; `lmarena-bridge check` says what is wrong. Until then, each chat is answered"
        " as a new conversation, and no keys, accounts or settings can be changed",
        "Try again in a while: the bridge's shared state cannot be reached.",
    ),
    Reason.WORKER: Advice(
        "one of the daemon's processes ended unexpectedly (`server.workers`)",
        "nothing: it is restarted, and the others serve requests meanwhile; the log says why it ended",
        "Try again in a moment.",
    ),
}

#: The limits that the bridge itself sets, as opposed to the site's.
_OWN_LIMIT: Final = ADVICE[Reason.RATE_LIMITED]._replace(
    why="a key or the whole daemon is at its limit", now=f"wait {HOW_LONG}, or raise the key's limits"
)
_SITES_LIMIT: Final = ADVICE[Reason.RATE_LIMITED]._replace(
    why="every account that may answer is at its limit", now=f"wait {HOW_LONG}, or add an account"
)


def advice_after(reason: Reason, *, refused_here: bool) -> Advice:
    """Why a request failed, and what to do now; `refused_here` means that the bridge itself refused it."""
    if reason is Reason.RATE_LIMITED:
        return _OWN_LIMIT if refused_here else _SITES_LIMIT
    return ADVICE[reason]


#: What to do if this machine's clock differs from the site's.
CLOCK_ADVICE: Final = Advice(
    "this machine's clock is wrong",
    "set the clock by NTP; meanwhile the bridge corrects its ids",
    "The operator must correct the clock of the bridge's machine.",
)

_UPLOAD: Final = Advice(
    "a file could not be uploaded to the site's storage or downloaded from it",
    "ask again in a while, or send the text alone",
    "Try again in a while, or send the text alone.",
)

#: Errors for which there is more specific advice than their word has.
_CASES: Final[Mapping[type[UpstreamError], Advice]] = {
    CircuitOpen: Advice("several requests in a row failed", f"wait {HOW_LONG}", f"Wait {HOW_LONG_BY_HEADER}."),
    UploadFailed: _UPLOAD,
    DownloadFailed: _UPLOAD,
    StaleModel: Advice(
        "the site does not have the model",
        "choose a model that `lmarena-bridge models` lists",
        "GET /v1/models lists the available models.",
    ),
    IdsRefused: CLOCK_ADVICE,
}


def advice_on(error: UpstreamError) -> Advice:
    """The cause of a failed call to the site, and what to do now."""
    if isinstance(error, Redirected):
        now = f'if that is the site\'s new address, set upstream.base_url = "{error.origin}" in bridge.toml'
        return Advice("the site has moved to an origin that the configuration does not allow", now, sentence(now))
    return _CASES.get(type(error), ADVICE[error.reason])


def explain(error: UpstreamError, advice: Advice | None = None) -> str:
    """A text for the operator: what went wrong and what to do now, by `advice` or else by `advice_on(error)`."""
    return f"{with_full_stop(error.message)} {sentence((advice or advice_on(error)).now)}"


def with_wait(text: str, wait: str) -> str:
    """Put `wait`, a time in words, in place of the phrase that refers to the error, the cooldown or the header."""
    return text.replace(HOW_LONG, wait).replace(HOW_LONG_BY_HEADER, wait)


def sentence(clause: str) -> str:
    """Make a sentence of a clause: capitalise it, and end it with a full stop unless it ends with a stop."""
    return with_full_stop(clause[:1].upper() + clause[1:])


def with_full_stop(text: str) -> str:
    """`text` with a full stop at its end, unless it already ends like a sentence."""
    return text if text.endswith(_STOPS) else f"{text}."


_STOPS: Final = (".", "!", "?", "。", "！", "？")
