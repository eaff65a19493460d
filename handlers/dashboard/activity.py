"""The Activity page: running and ended requests, searched and filtered by the page's URL."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from bridge.access.logins import Login
from bridge.activity.entry import Entry
from bridge.activity.moments import read_moment
from bridge.activity.search import FAILED, REFUSED, Found, Query, Searches, has_outcome, words_of
from bridge.state.documents import StateFolder
from bridge.statistics.counts import HERE
from handlers.dashboard.guard import read_form, see_other
from handlers.dashboard.instances import INSTANCES, RUNNING, running_here
from handlers.dashboard.pages import render, template
from handlers.request.appkeys import ACTIVITY_STORE, SETTINGS
from upstream.loop.threads import Threads

#: The query parameters of the page's URL, in the order of the form.
_NAMES: Final = ("q", "outcome", "key", "model", "account", "from", "to")
_MAX_CHARS: Final = 200
#: The start times that the page offers: the value of `from`, and its label.
RECENT: Final[Mapping[str, str]] = {"15m": "15 minutes", "1h": "1 hour", "24h": "24 hours", "7d": "7 days"}


class KeptRequests:
    """The stored requests, searched in a thread, one search at a time."""

    def __init__(self, folder: StateFolder) -> None:
        self._searches = Searches(folder)
        self._threads = Threads("activity", 1)

    async def find(self, query: Query, page: int) -> Found:
        """Find a page. Raises OSError."""
        return await self._threads.run(self._searches.find, query, page)

    async def get(self, request_id: str) -> Entry | None:
        """The last request with this id, if it is stored. Raises OSError."""
        return await self._threads.run(self._searches.get, request_id)


KEPT: Final = web.AppKey("kept", KeptRequests)


class ActivityQuery(NamedTuple):
    """A search from the page's URL: its parameters, their meaning, and the problems in them."""

    fields: Mapping[str, str]
    query: Query
    page: int
    problem: str

    @property
    def narrowed(self) -> bool:
        """Whether anything is looked for."""
        return any(self.fields.values())

    def address(self, **changed: str | int) -> str:
        """The address of the same search with other values; page 1 unless that is given."""
        fields = {**self.fields, "page": 1, **changed}
        kept = {name: value for name, value in fields.items() if value not in ("", 1)}
        return "/dashboard/activity" + (f"?{urlencode(kept)}" if kept else "")


class Chip(NamedTuple):
    """A link to the requests with one outcome, and their number."""

    text: str
    outcome: str
    requests: int
    address: str
    current: bool


def asked_for(query: Mapping[str, str], now: float) -> ActivityQuery:
    """Read the search from the page's URL."""
    fields = {name: query.get(name, "").strip()[:_MAX_CHARS] for name in _NAMES}
    times: dict[str, float | None] = {}
    problems = []
    for name in ("from", "to"):
        try:
            times[name] = read_moment(fields[name], now) if fields[name] else None
        except ValueError as error:
            times[name] = None
            problems.append(f"{name}: {error}")
    page = query.get("page", "")
    return ActivityQuery(
        fields,
        Query(
            words_of(fields["q"]),
            fields["outcome"],
            fields["key"],
            fields["model"],
            fields["account"],
            times["from"],
            times["to"],
        ),
        int(page) if page.isdecimal() and len(page) < 8 else 1,
        "; ".join(problems),
    )


def chips_of(asked: ActivityQuery, outcomes: Counter[str]) -> Sequence[Chip]:
    """Links to all requests, the failed ones, those refused here, and those of each word, with their counts."""

    def chip(text: str, outcome: str) -> Chip:
        count = sum(number for ending, number in outcomes.items() if has_outcome(ending, outcome))
        return Chip(text, outcome, count, asked.address(outcome=outcome), asked.query.outcome == outcome)

    words = [(_words_of(ending), ending) for ending, _ in outcomes.most_common()]
    if asked.query.outcome not in ("", FAILED, REFUSED, *outcomes):
        words.append((_words_of(asked.query.outcome), asked.query.outcome))
    first = [chip("all", ""), chip("failed", FAILED), chip("refused here", REFUSED)]
    shown = [each for each in first if each.requests or not each.outcome or each.current]
    return [*shown, *(chip(*each) for each in words)]


async def activity(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/activity, and its live part."""
    app, now = request.app, time.time()
    asked = asked_for(request.query, now)
    problem = asked.problem
    others = await app[INSTANCES].ask(RUNNING)  # which makes them write their ended requests
    await app[ACTIVITY_STORE].flush()
    try:
        found = await app[KEPT].find(asked.query, asked.page)
    except OSError as error:
        found = Found((), 0, 1, 1, 1, Counter(), (), (), ())
        problem = f"{problem}; the stored requests cannot be read: {error.strerror}".lstrip("; ")
    running = list(running_here(app))
    everywhere = sorted((*running, *others.running), key=lambda each: -each.entry.at)
    return await render(
        request,
        template(request, "activity"),
        login,
        {
            "asked": asked,
            "found": found,
            "chips": chips_of(asked, found.outcomes),
            "recent": RECENT,
            "problem": problem,
            "unwritten": app[ACTIVITY_STORE].waiting,
            "running": len(running) + max(others.answering, len(others.running)),
            "records": [each for each in everywhere if found.page == 1 and _fits(each.entry, asked.query)],
            "debug": app[SETTINGS].config.log.debug,
            "unseen": others.unseen,
        },
    )


async def end(request: web.Request, _: Login) -> web.StreamResponse:
    """POST /dashboard/activity: end an answer with an error to its caller, and close the upstream call.

    The form's URL has the query of the page, to which it leads back.
    """
    await request.app[INSTANCES].end((await read_form(request)).get("number", ""))
    return see_other(asked_for(request.query, time.time()).address())


def _fits(entry: Entry, query: Query) -> bool:
    """Whether a running request matches the search, as far as its fields are known yet."""
    if query.outcome or (query.until is not None and entry.at >= query.until):
        return False
    text = "\n".join((entry.id, entry.asked, entry.model, entry.key, entry.client)).casefold()
    return (
        (query.since is None or entry.at >= query.since)
        and query.key in ("", entry.key)
        and query.model in ("", entry.model or entry.asked)
        and query.account in ("", entry.account)
        and all(word in text for word in query.words)
    )


def _words_of(ending: str) -> str:
    """An outcome in words."""
    word = ending.removesuffix(HERE).replace("_", " ")
    return f"{word}, here" if ending.endswith(HERE) else word
