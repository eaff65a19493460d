"""Runs the daemon under mixed load and faults for hours: nothing may grow, get lost, or be mixed up. `make soak`

python tests/attacks/soak.py [--minutes 480] [--rate 4] [--out docs/soak/NAME]      (loopback only)

Callers hold conversations of up to six turns in every dialect, streamed and not streamed, with tools and pictures, and
sometimes disconnect; the models answer with the turns that they saw, so that each answer is known in advance. One in
twelve calls to the site fails, every tenth answer replaces the session cookie of some accounts, and every fourth
follow-up is refused because the site demands a battle. A token lives for 1/24 of the run, an hour of a simulated day;
the tokens of the other accounts expire and are renewed. The daemon is restarted under load:

minute of 480    0      27     53     80             160                                        456        480
                 │ start │restart│restart│restart: warm │ from here on nothing may grow             │ restart  │ end

The fitted time is the period in which nothing may grow. The exit status is 1 if, in this time, a line fitted to the
daemon's memory rises by 1 MiB per hour or more, or the number of descriptors, tasks or threads grows; if an answer was
not the expected one, or a model saw two conversations in one or a message twice; if the bridge's statistics do not add
up or differ from its callers' counts; if a refresh token was used twice, an account was lost, no token was renewed, or
a daemon did not stop in time; if a caller had no answer within a minute; or if requests fail after the site has
recovered. If the fitted time is shorter than 54 minutes, memory may rise by 1 MiB during the whole of it; if it is
shorter than 30 minutes, memory is not judged, since the daemon is still warming up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROOT: Final = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/harness")]  # the imports below need it: hence their E402

import aiohttp  # noqa: E402 — the path is set above
from process import DaemonProcess, Home  # noqa: E402 — the path is set above
from running import add_accounts  # noqa: E402 — the path is set above
from soak_curve import Sample, judged, looked_at, write  # noqa: E402 — the path is set above
from soak_daemon import WAITS  # noqa: E402 — the path is set above
from soak_site import BadSite, Witness  # noqa: E402 — the path is set above
from soak_traffic import KINDS, Chat, Conversation, Failed, Models, ask, chosen  # noqa: E402 — the path is set above

from bridge.state.state import accounts_document  # noqa: E402 — the path is set above
from bridge.statistics.file import stats_document  # noqa: E402 — the path is set above
from bridge.tasks import TaskOwner  # noqa: E402 — the path is set above

#: When the daemon is restarted and when the fitted time begins, as shares of the whole.
RESTARTS_AT: Final = (1 / 18, 2 / 18, 3 / 18, 0.95)
FITTED_FROM: Final = 1 / 3
SIMULATED_HOURS: Final = 24
FAILING: Final = 1 / 12
BATTLE_EVERY: Final = 4
LEAVING: Final = 0.08
#: How long a caller waits for an answer, in seconds, and how long before that the daemon is asked where its tasks wait.
PATIENCE_SECONDS: Final = 60.0
ASKED_BEFORE_SECONDS: Final = 10.0
#: The time limit for stopping a daemon, in seconds; it drains for up to three of them.
STOP_SECONDS: Final = 15.0
#: The maximum number of measurements of the daemon during the run.
MOST_SAMPLES: Final = 240
DAEMON: Final = ROOT / "tests/attacks/soak_daemon.py"


@dataclass
class Tally:
    """The callers' counts by API: complete answers, errors, and calls whose outcome they do not know."""

    answered: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Unanswered:
    """A request without an answer in time: its description, and the daemon's log lines about it."""

    what: str
    lines: list[str]


class Soak:
    """The daemon under test, its callers, and their results."""

    def __init__(self, site: BadSite, home: Home, chance: random.Random, models: Models, tasks_file: Path) -> None:
        self.site = site
        self.home = home
        self.chance = chance
        self.models = models
        self.tally = Tally()
        self.daemon: DaemonProcess | None = None
        self.samples: list[Sample] = []
        self.exits: list[int] = []
        self.stops: list[float] = []
        self.tracebacks: list[str] = []
        self.unanswered: list[Unanswered] = []
        #: Where the daemon's tasks waited when a caller had been waiting for long.
        self.waits: list[str] = []
        self._lines: dict[str, list[str]] = {}  # lines of the daemon's log, by the id of a pending request
        self._tasks_file = tasks_file
        self._began = time.monotonic()
        self._conversations = 0

    @property
    def seconds(self) -> float:
        """Seconds since the start of the run."""
        return time.monotonic() - self._began

    async def serve(self, restarts: asyncio.Queue[bool]) -> None:
        """Run one daemon after another; True in `restarts` replaces the daemon, False stops the last one."""
        program = (sys.executable, str(DAEMON))
        paths = os.pathsep.join((str(ROOT), str(ROOT / "tests/harness")))
        go_on = True
        while go_on:
            environ = {"SOAK_TASKS": str(self._tasks_file), "PYTHONPATH": paths}
            async with self.home.serve(program=program, environ=environ) as daemon:
                self.daemon = daemon
                go_on = await restarts.get()
                self.daemon = None
                status, seconds = await daemon.stop()
                self.exits.append(status)
                self.stops.append(seconds)
            self._read_log(daemon)

    def _read_log(self, daemon: DaemonProcess) -> None:
        for at, line in enumerate(daemon.log):
            if "Traceback" in line or "LOST" in line:
                self.tracebacks += daemon.log[max(0, at - 1) : at + 30]
            if line.startswith(WAITS):
                self.waits.append(f"{self.seconds:.0f} s: {line}")
            for request_id, lines in self._lines.items():
                if request_id in line:
                    lines.append(line)
        daemon.log.clear()

    # Callers

    async def call(self, http: aiohttp.ClientSession, pause: float) -> None:
        """Hold one conversation after another, with an average pause of `pause` seconds before each turn."""
        while True:
            self._conversations += 1
            conversation = chosen(f"c{self._conversations}", self.models, self.chance)
            for turn in range(1, self.chance.randint(1, conversation.turns) + 1):
                conversation.turn = turn
                await asyncio.sleep(self.chance.expovariate(1 / pause))
                if not await self.say(http, conversation):
                    break

    async def say(self, http: aiohttp.ClientSession, conversation: Conversation) -> bool:
        """Send one turn; return whether the conversation can continue."""
        while (daemon := self.daemon) is None:  # noqa: ASYNC110 — the daemon's start sets no event, here and below
            await asyncio.sleep(0.1)
        api, tally = conversation.api, self.tally
        leaves = self.chance.random() < LEAVING
        stream = conversation.streams and self.chance.random() < 0.6
        timeout = self.chance.uniform(0.0, 0.3) if leaves else PATIENCE_SECONDS
        request_id, asked_at = f"soak-{conversation.name}-{conversation.turn}.", self.seconds
        lines = self._lines[request_id] = []
        loop = asyncio.get_running_loop()
        late = loop.call_later(PATIENCE_SECONDS - ASKED_BEFORE_SECONDS, daemon.signal, signal.SIGWINCH)
        try:
            told = await ask(http, daemon.origin, conversation, stream=stream, timeout=timeout, request_id=request_id)
        except asyncio.CancelledError:  # the run is over
            tally.unknown[api] += 1
            raise
        except TimeoutError:
            tally.unknown[api] += 1
            tally.words["left" if leaves else "NO ANSWER IN TIME"] += 1
            if not leaves:
                what = f"{request_id} {api}, {'streamed' if stream else 'whole'}, asked at {asked_at:.0f} s"
                what += "" if self.daemon is daemon else "; its daemon has been stopped since"
                self.unanswered.append(Unanswered(what, lines))
                print(f"no answer in time: {what}", flush=True)
            return False
        except Failed as failed:
            tally.failed[api] += 1
            tally.words[str(failed)] += 1
            return False
        except (aiohttp.ClientError, OSError) as cut:
            tally.unknown[api] += 1
            tally.words["cut by a restart" if self.daemon is not daemon else f"CUT: {type(cut).__name__}"] += 1
            return False
        except (AssertionError, LookupError, ValueError, TypeError) as unread:
            tally.wrong.append(f"{conversation.path}: {type(unread).__name__}: {unread}")
            return False
        finally:
            late.cancel()
            if not any(each.lines is lines for each in self.unanswered):
                del self._lines[request_id]
        tally.answered[api] += 1
        tally.words["answered"] += 1
        if not _same(told, conversation.expected):
            tally.wrong.append(
                f"{conversation.path}, turn {conversation.turn}: {told!r}, not {conversation.expected!r}"
            )
        return True

    # Measurements

    async def watch(self, http: aiohttp.ClientSession, every: float) -> None:
        """Scrape /metrics and measure the daemon every `every` seconds."""
        while True:
            await asyncio.sleep(every)
            if (daemon := self.daemon) is None:
                continue
            try:
                url = f"{daemon.origin}/metrics"
                async with http.get(url, timeout=aiohttp.ClientTimeout(total=30)) as answer:
                    await answer.read()
                await self._look(daemon)
                self._read_log(daemon)
            except (aiohttp.ClientError, OSError, TimeoutError):
                continue  # it is being stopped

    async def _look(self, daemon: DaemonProcess) -> None:
        self._tasks_file.unlink(missing_ok=True)
        daemon.signal(signal.SIGUSR2)
        async with asyncio.timeout(30):
            while not self._tasks_file.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        rss, descriptors, threads = looked_at(daemon.process.pid)
        tally = self.tally
        counts = (tally.answered.total(), tally.failed.total(), tally.words["left"])
        tasks = int(self._tasks_file.read_text())
        sample = Sample(self.seconds, len(self.exits), rss, descriptors, tasks, threads, *counts)
        self.samples.append(sample)


def _same(told: str, expected: str) -> bool:
    if expected.startswith("{"):
        try:
            return bool(json.loads(told) == json.loads(expected))
        except ValueError:
            return False
    return told == expected


async def main(minutes: float, rate: float, callers: int, seed: int, out: Path | None) -> bool:
    """Run the soak test; return whether it passed."""
    chance = random.Random(seed)
    seconds = minutes * 60
    token = max(20.0, seconds / SIMULATED_HOURS)
    print(f"{minutes:g} minutes, {rate:g} requests a second, a token lives for {token:.0f} s, seed {seed}", flush=True)
    with TemporaryDirectory(prefix="soak-") as path:
        async with BadSite(chance, failing=FAILING, token_seconds=token) as site:
            site.battle_every = BATTLE_EVERY
            witness = Witness(site)
            home = Home(site, Path(path))
            home.session.expires_at = int(time.time() + token)
            await home.prepare()
            home.configure(
                {
                    "server": {"drain_seconds": 3},
                    "upstream": {
                        "first_byte_timeout": 3,
                        "image_first_byte_timeout": 3,
                        "idle_timeout": 3,
                        "connect_timeout": 5,
                    },
                    "log": {"keep_mb": 1},
                }
            )
            more = tuple(site.sign_in(f"user{at}@example.org", expires_in=token) for at in range(4))
            await add_accounts(home.folder, *more)
            site.sessions, site.unrotated = (home.session, *more), more[2:]
            names = Counter(model.public_name for model in site.models)
            plain = [model for model in site.models if model.organization and names[model.public_name] == 1]
            models = Models(
                next(m.public_name for m in plain if set(m.outputs) == {"text"} and "thinking" not in m.public_name),
                next(m.public_name for m in plain if "image" in m.outputs),
            )
            soak = Soak(site, home, chance, models, Path(path) / "tasks")
            limit = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=limit, headers=home.headers) as http:
                good = await _run(soak, http, seconds, callers, rate)
            return await _report(soak, witness, seconds, out) and good


async def _run(soak: Soak, http: aiohttp.ClientSession, seconds: float, callers: int, rate: float) -> bool:
    restarts = asyncio.Queue[bool]()
    async with TaskOwner() as tasks:
        serving = tasks.spawn(soak.serve(restarts), name="serve")
        while soak.daemon is None:
            if serving.done():
                await serving  # it has failed
            await asyncio.sleep(0.05)
        soak.site.bad = True
        async with TaskOwner() as attackers:
            for _ in range(callers):
                attackers.spawn(soak.call(http, callers / rate), name="caller")
            attackers.spawn(soak.watch(http, max(1.0, seconds / MOST_SAMPLES)), name="watch")
            for at in RESTARTS_AT:
                await asyncio.sleep(max(0.0, at * seconds - soak.seconds))
                print(f"{soak.seconds:6.0f} s: restart; {dict(soak.tally.words.most_common(4))}", flush=True)
                restarts.put_nowait(True)
            await asyncio.sleep(max(0.0, seconds - soak.seconds))
        soak.site.bad = False
        worked = await _afterwards(soak, http)
        restarts.put_nowait(False)
        await serving
    print("afterwards:", dict(worked))
    return set(worked) == {"answered"}


async def _afterwards(soak: Soak, http: aiohttp.ClientSession) -> Counter[str]:
    """Send requests after the site has recovered, once the longest rest of a failed account is over."""
    worked: Counter[str] = Counter()
    await asyncio.sleep(30)
    for at in range(20):
        while (daemon := soak.daemon) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        conversation = Chat(f"afterwards{at}", soak.models)
        try:
            told = await ask(http, daemon.origin, conversation, stream=bool(at % 2), timeout=60)
        except Failed as failed:
            soak.tally.failed[Chat.api] += 1
            worked[str(failed)] += 1
            continue
        soak.tally.answered[Chat.api] += 1
        worked["answered" if told == conversation.expected else told] += 1
    return worked


async def _report(soak: Soak, witness: Witness, seconds: float, out: Path | None) -> bool:
    site, tally = soak.site, soak.tally
    print("answers:", dict(tally.words.most_common()))
    print("faults:", dict(site.failed.most_common()), "battles wanted:", site.battles)
    begins = FITTED_FROM * seconds
    steady = [each for each in soak.samples if begins <= each.seconds < RESTARTS_AT[-1] * seconds]
    lines, good = judged(steady)
    print(*lines, sep="\n")
    twice = sum(session.spent_twice for session in site.sessions)
    print(
        f"cookies replaced: {site.rotations}, renewals: {[session.refreshes for session in site.sessions]}, "
        f"refresh tokens used twice: {twice}"
    )
    renewals = sum(session.refreshes for session in site.unrotated)
    print(f"renewals of accounts whose cookies no answer replaces: {renewals}" if renewals else "NO TOKEN WAS RENEWED")
    print("daemons ended with", soak.exits, "after seconds:", [round(each, 1) for each in soak.stops])
    print(f"wrong answers: {len(tally.wrong)}", *tally.wrong[:10], sep="\n  ")
    print(f"mixed up: {len(witness.mixed)}", *witness.mixed[:10], sep="\n  ")
    print(f"lines of tracebacks and losses in the log: {len(soak.tracebacks)}", *soak.tracebacks[:40], sep="\n  ")
    for each in soak.unanswered:
        print("without an answer:", each.what, *(each.lines or ["nothing in the log"]), sep="\n  ")
    if soak.unanswered:
        print("where the daemon's tasks waited then:", *soak.waits, sep="\n  ")
    add_up = await _counts_add_up(soak)
    lost = await _lost(soak)
    if out is not None:
        title = f"{seconds / 60:g} minutes of mixed traffic, faults and restarts"
        await asyncio.to_thread(write, soak.samples, out, title, begins)
    stopped = set(soak.exits) == {0} and max(soak.stops) <= STOP_SECONDS
    unheard = [word for word in tally.words if word.startswith(("NO ANSWER", "CUT"))]
    clean = not (tally.wrong or witness.mixed or soak.tracebacks or twice or lost or unheard)
    clean = clean and renewals > 0
    return good and add_up and clean and stopped


async def _counts_add_up(soak: Soak) -> bool:
    """Whether the statistics agree with each other, and with the callers' counts up to calls of unknown outcome."""
    stats = await stats_document(soak.home.folder, time.time).load()
    totals, tally, good = stats.totals, soak.tally, True
    print(
        f"the bridge counted {totals.requests}: {totals.answered} answered, {totals.errors} failed, {totals.gone} left"
    )
    sums = {
        "APIs": sum(counts.requests for counts in stats.apis.values()),
        "endings": totals.endings.total(),
        "durations": totals.duration.total,
    }
    print("  in all", sums)
    good = all(sums[name] == totals.requests for name in ("APIs", "endings", "durations"))
    for api in sorted({kind.api for kind in KINDS}):
        known, unknown = tally.answered[api] + tally.failed[api], tally.unknown[api]
        counted = stats.apis[api].requests if api in stats.apis else 0
        print(f"  {api}: {counted} by the bridge; callers: {known}, and {unknown} of which they do not know the end")
        good = good and known <= counted <= known + unknown
    unknown = tally.unknown.total()
    good = good and tally.answered.total() <= totals.answered <= tally.answered.total() + unknown
    good = good and tally.failed.total() <= totals.errors <= tally.failed.total() + unknown
    print("the counts add up" if good else "THE COUNTS DO NOT ADD UP")
    return good


async def _lost(soak: Soak) -> int:
    on_disk = {account.user_id: account for account in await accounts_document(soak.home.folder).load()}
    lost = 0
    for session in soak.site.sessions:
        account = on_disk.get(session.user_id)
        kept = account is not None and account.session.value == session.cookie_value and not account.expired
        if not (kept and session.alive and not session.revoked):
            lost += 1
            print("lost:", session.email, "revoked" if session.revoked else "")
    print(f"accounts alive at the end: {len(soak.site.sessions) - lost} of {len(soak.site.sessions)}")
    return lost


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=480)
    options.add_argument("--rate", type=float, default=4, help="requests a second, of all callers together")
    options.add_argument("--callers", type=int, default=8)
    options.add_argument("--seed", type=int, default=random.randrange(10**6))
    options.add_argument("--out", type=Path, help="where to write the curve: two files, .csv and .svg")
    given = options.parse_args()
    good = asyncio.run(main(given.minutes, given.rate, given.callers, given.seed, given.out))
    print("all is well" if good else "NOT ALL IS WELL")
    sys.exit(0 if good else 1)
