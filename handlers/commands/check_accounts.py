"""`check`'s lines about accounts. It asks the site about each login, unless a running daemon must do that."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from bridge.accounts.renewals import CALL_SECONDS, check_login
from bridge.accounts.status import Condition, Finding, judge, login_validity
from bridge.config.schema import Config
from bridge.diagnosis import ADD_ACCOUNT, ADVICE
from bridge.state.state import State
from handlers.commands.check_lines import CheckLine, Verdict, advice
from handlers.commands.terminal import moment
from upstream.accounts import Account, AccountPool
from upstream.client import ArenaClient
from upstream.protocol.errors import Reason, UpstreamError
from upstream.protocol.renewal import may_renew


@dataclass(slots=True)
class LoginChecks:
    """The results of asking the site about each login, by user id: those left to the running daemon, and failures.

    `made` is false if the site was not asked at all.
    """

    made: bool = True
    left_to_daemon: set[str] = field(default_factory=set)
    failures: dict[str, UpstreamError] = field(default_factory=dict)


async def ask_about_logins(arena: ArenaClient, state: State, config: Config, *, others_may_renew: bool) -> LoginChecks:
    """Ask the site about each login, and save its answers and any new tokens.

    If the call might renew a login, and `others_may_renew` it, it is left to the daemon, since using a refresh token
    twice ends the login.
    """
    asked = LoginChecks()
    for account in state.pool:
        renews = may_renew(account.session, arena.clock())
        if renews and others_may_renew:
            asked.left_to_daemon.add(account.user_id)
            continue
        try:
            # Cancelling a call that renews would lose the new tokens.
            timeout = CALL_SECONDS if renews else config.upstream.connect_timeout
            await check_login(arena, state.pool, account, timeout=timeout)
        except UpstreamError as error:
            asked.failures[account.user_id] = error
        finally:
            await state.flush()
    return asked


def account_lines(pool: AccountPool, asked: LoginChecks, now: float) -> Iterator[CheckLine]:
    """The state of each account. `now` is unix time by the site's clock."""
    if not len(pool):
        yield CheckLine(Verdict.BAD, "accounts", f"none: {ADVICE[Reason.NO_ACCOUNT].now}")
    found = [(account, *_account(account, asked, now)) for account in pool]
    # An account that is out of service is not critical while another works.
    serving = any(verdict is not Verdict.BAD for _, verdict, _ in found)
    for account, verdict, text in found:
        shown = Verdict.WORTH_A_LOOK if verdict is Verdict.BAD and serving else verdict
        owner = f"{account.session.email}, " if account.session.email not in (None, account.label) else ""
        yield CheckLine(shown, f"account {account.label}", owner + text)


def _account(account: Account, asked: LoginChecks, now: float) -> tuple[Verdict, str]:
    """The state of an account; BAD if it cannot chat now."""
    session = account.session
    status = judge(account, time.time(), now, when=partial(moment, now=now))
    its_login, ended = login_validity(session, now, partial(moment, now=now)), session.expires_at <= now
    if session.renewable and ended:
        its_login = f"{its_login}, its token ended {moment(session.expires_at, now)}"
    if (obstacle := status.obstacle) is not None:
        before = f"{its_login}; " if obstacle.condition is Condition.COOLDOWN else ""
        return Verdict.BAD, before + _to_do(obstacle, account)
    failure = asked.failures.get(account.user_id)
    if failure is not None:
        verdict = Verdict.BAD if ended else Verdict.WORTH_A_LOOK
        return verdict, f"{its_login}, but the bridge could not ask LMArena about it: {advice(failure)}"
    if not asked.made:
        return Verdict.WORTH_A_LOOK, f"{its_login}; LMArena was not asked about it"
    if account.user_id in asked.left_to_daemon:
        by = f"{its_login}, which a running daemon will do"
        return (Verdict.WORTH_A_LOOK, f"{by}; its /health shows the outcome") if ended else (Verdict.GOOD, by)
    if status.findings:
        return Verdict.WORTH_A_LOOK, "; ".join(_to_do(finding, account) for finding in status.findings)
    return Verdict.GOOD, its_login


def _to_do(finding: Finding, account: Account) -> str:
    """The text of a finding, with the command that renews this account."""
    return finding.clause.replace(ADD_ACCOUNT, f"{ADD_ACCOUNT} --label {shlex.quote(account.label)}")
