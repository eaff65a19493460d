"""The vocabulary of diagnosis in full: why each word is said, and what to do now. README has the same table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from upstream.protocol.errors import Reason


class Advice(NamedTuple):
    """Why a word is said, and what whoever runs the bridge does now; `code` stands between backticks."""

    why: str
    now: str


ADVICE: Final[Mapping[Reason, Advice]] = {
    Reason.OK: Advice("all is well", "nothing"),
    Reason.CHALLENGE: Advice(
        "`cf_clearance` has expired: the site shows its challenge page",
        "open the site in your browser, copy any request to it as cURL, paste that into the dashboard's Accounts page"
        " (or copy `cf_clearance` and the user agent into `bridge.toml` and send SIGHUP)",
    ),
    Reason.BLOCKED: Advice(
        "the site blocks your network address, or the client",
        "open it in a browser on the same network; if it is blocked there too, only another network or time helps",
    ),
    Reason.RECAPTCHA: Advice(
        "the site wants a human in a browser for this request, or doubts that one uses the account",
        "wait as long as `Retry-After` says, or let another account answer; the bridge does not get around it",
    ),
    Reason.GUEST: Advice(
        "the session is a guest's, who may not choose a model",
        "sign in on the site in that browser window, send one message, and paste the cookie again",
    ),
    Reason.TERMS: Advice(
        "the site's terms of use have not been accepted by this account",
        "open the site in a browser, read its terms and accept them there if you agree; then `lmarena-bridge check`",
    ),
    Reason.EXPIRED: Advice(
        "the site no longer accepts an account's login, or it ends within a day and cannot be renewed",
        "log in again, and paste the new cookie into the dashboard or `lmarena-bridge accounts add`",
    ),
    Reason.NO_ACCOUNT: Advice(
        "there is no account, or every one has expired",
        "paste a cookie into the dashboard or `lmarena-bridge accounts add`",
    ),
    Reason.WRONG_ACCOUNT: Advice(
        "an evaluation is gone, or another account's", "nothing: the bridge starts a new one with the whole history"
    ),
    Reason.RATE_LIMITED: Advice(
        "a key, an account or the whole daemon is at its limit",
        "wait as long as `Retry-After` says; add an account, or raise the key's requests per minute",
    ),
    Reason.MODERATED: Advice("the site's moderation refused the prompt", "change the prompt"),
    Reason.REJECTED: Advice(
        "the request itself is wrong, or the site refused it", "the message says what: `error.param` names the field"
    ),
    Reason.TRUNCATED: Advice("the answer broke off before its end", "ask again; what came is not the whole answer"),
    Reason.TIMEOUT: Advice(
        "the model did not begin, fell silent, or took too long",
        "ask again, try another model, or raise `upstream.*_timeout`",
    ),
    Reason.UNREACHABLE: Advice("no connection to the site", "check the network; `lmarena-bridge check`"),
    Reason.UPSTREAM_ERROR: Advice(
        "the model or the site failed, or answered with something unknown", "ask again, or try another model"
    ),
    Reason.SITE_CHANGED: Advice(
        "the site answered in a way this version does not know",
        "look for a newer version of the bridge; `lmarena-bridge check` and the log say what was seen",
    ),
    Reason.CLIENT_GONE: Advice("the caller left before the end (status 499 in the log)", "nothing"),
}
