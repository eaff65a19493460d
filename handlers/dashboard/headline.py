"""The dashboard's headline: whether callers get answers, judged by the state of every part and by recent requests.

Only failures count here, not requests that the bridge itself refused (a wrong key, a limit).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from aiohttp import web

from bridge.accounts.status import Condition, judge
from bridge.health import Health
from bridge.state.errors import StateError
from bridge.statistics.counts import HERE, NO_FAILURE, Bucket, Counts
from bridge.statistics.stats import Stats
from handlers.dashboard.instances import INSTANCES, Others
from handlers.dashboard.wording import number, percent
from handlers.monitoring.health import health_of
from handlers.request.appkeys import CLIENT, STATE, STATS
from upstream.protocol.errors import Reason

#: The minutes over which failures are judged.
RECENT_MINUTES: Final = 15
#: The share of failures from which the headline reports problems, and the number of requests from which failures are
#: the headline.
FAILING_SHARE: Final = 0.05
ENOUGH_REQUESTS: Final = 20


class Recent(NamedTuple):
    """The last minutes: the requests that were not refused here, those that failed, and the most common reasons."""

    requests: int = 0
    failed: int = 0
    answered: int = 0
    words: tuple[tuple[str, int], ...] = ()

    @property
    def failing(self) -> bool:
        """Whether so many requests fail that the headline must report problems."""
        return self.failed > 0 and self.failed >= FAILING_SHARE * self.requests

    @property
    def alarming(self) -> bool:
        """Whether the failures are the headline."""
        return self.failing and self.requests >= ENOUGH_REQUESTS


def recent(minutes: Iterable[Bucket]) -> Recent:
    """Sum up the last minutes."""
    sums = Counts()
    for bucket in minutes:
        sums.add(bucket)
    words = Counter(
        {word: count for word, count in sums.endings.items() if not word.endswith(HERE) and word not in NO_FAILURE}
    )
    return Recent(sums.requests - sums.refused, sums.failed, sums.answered, tuple(words.most_common()))


class Step(NamedTuple):
    """A step of the setup: its text, whether it is done, and its page."""

    what: str
    done: bool
    page: str


class Headline(NamedTuple):
    """The headline. `alert` is for the tab's title, '' if there is nothing to do."""

    text: str
    lead: str = ""
    alert: str = ""


def first_steps(*, accounts: int, keys: int, answered: bool) -> Sequence[Step]:
    """The steps to the first answer; empty once all are done."""
    steps = (
        Step("Set the password", True, "/dashboard"),
        Step("Add an LMArena account", accounts > 0, "/dashboard/accounts"),
        Step("Make an API key", keys > 0, "/dashboard/keys"),
        Step("Get the first answer", answered, "/dashboard/playground"),
    )
    return () if all(step.done for step in steps) else steps


def headline(health: Health, lately: Recent, steps: Sequence[Step]) -> Headline:
    """The headline, which reports the worst problem."""
    share = percent(lately.failed, lately.requests)
    minutes = f"in the last {RECENT_MINUTES} minutes"
    if not health.serving:
        return Headline("Action needed", alert="Action needed")
    if lately.alarming and not lately.answered:
        return Headline(f"No answers: {share} of the requests {minutes} failed", alert=f"{share} failed")
    if lately.alarming:
        return Headline(f"Answering, but {share} failed {minutes}", alert=f"{share} failed")
    if health.troubles:
        return Headline("Working, with problems", alert="Problems")
    if lately.failing:
        few = f"{number(lately.failed)} of {number(lately.requests)} requests failed {minutes}"
        return Headline(
            "Working, with failures", f"All accounts work, but {few}.", alert=f"{number(lately.failed)} failed"
        )
    missing = next((step for step in steps if not step.done), None)
    if missing is not None:
        return Headline(_MISSING.get(missing.page, "Ready for the first question"))
    return Headline(
        "All is well",
        "All accounts work, the list of models is up to date, and there is nothing for you to do.",
    )


_MISSING: Final = {"/dashboard/accounts": "No account yet: add one", "/dashboard/keys": "No key yet: make one"}


class Situation(NamedTuple):
    """The data for the top of the Overview page."""

    health: Health
    lately: Recent
    steps: Sequence[Step]
    headline: Headline


def situation_of(app: web.Application, stats: Stats, others: Others) -> Situation:
    """The state of the daemon, from its parts, the other processes, and the statistics of the last minutes."""
    own, lately = health_of(app), recent(stats.series("minute")[-RECENT_MINUTES:])
    health = Health(own.serving and others.serving, (*own.troubles, *others.troubles))
    answered = stats.reasons[Reason.OK.value] > 0
    steps = first_steps(accounts=len(app[STATE].pool), keys=len(app[STATE].keys), answered=answered)
    return Situation(health, lately, steps, headline(health, lately, steps))


async def alert_of(app: web.Application) -> str:
    """The alert in the title of every page; '' for none."""
    try:
        stats = await app[STATS].read()
    except StateError:  # the Overview says why
        return "Problems"
    return situation_of(app, stats, await app[INSTANCES].ask()).headline.alert


def ending_soon(app: web.Application, now: float) -> Sequence[tuple[str, float]]:
    """The accounts whose login ends for good within a day: the label, and the end in unix time."""
    site_now = app[CLIENT].clock()
    judged = ((account, judge(account, now, site_now)) for account in app[STATE].pool)
    return [
        (account.label, account.session.expires_at)
        for account, status in judged
        if any(finding.condition is Condition.ENDING for finding in status.findings)
    ]
