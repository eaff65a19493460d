"""Runs a daemon for half an hour under conditions that can lose logins; every account must be valid at the end.

python tests/attacks/lost_logins.py [--minutes 30] [--callers 12] [--accounts 3]
(loopback only; root for the small disk)

Every tenth answer of the site replaces the session cookie, one call in six fails, and tokens expire after five minutes;
9 % of the callers disconnect at a random moment; the disk is full twice; files of the state folder are moved away for a
moment; and the daemon is stopped with SIGTERM and restarted three times under load.
The exit status is 1 if a login was lost, a daemon did not stop in time, the full disk caused no failed write, or
requests fail after the site has recovered.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROOT: Final = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/harness")]  # the imports below need it: hence their E402

import aiohttp  # noqa: E402 — the path is set above
from process import DaemonProcess, Home  # noqa: E402 — the path is set above
from running import add_accounts  # noqa: E402 — the path is set above
from soak_site import BadSite  # noqa: E402 — the path is set above

from bridge.state.state import accounts_document  # noqa: E402 — the path is set above
from bridge.tasks import TaskOwner  # noqa: E402 — the path is set above

LEAVING: Final = 0.2  # more than half of these callers are answered first, so that 9 % of all disconnect
DISK: Final = 32 * 1024 * 1024
#: The exit status of a daemon that is started while the disk is full.
DISK_REFUSES: Final = 75
#: When the disk is full (from, to) and when the daemon is restarted, as shares of the run.
FULL_AT: Final = ((0.15, 0.25), (0.55, 0.65))
RESTARTS_AT: Final = (0.3, 0.5, 0.8)
#: The time limit for stopping a daemon, in seconds; it drains for up to three of them.
STOP_SECONDS: Final = 8.0
#: The interval between measurements of the daemon's memory, in seconds.
MEMORY_SECONDS: Final = 60.0


class Trial:
    """The daemon under test, its callers, and the faults that are injected."""

    def __init__(self, site: BadSite, home: Home, chance: random.Random) -> None:
        self.site = site
        self.home = home
        self.chance = chance
        self.daemon: DaemonProcess | None = None
        self.statuses: Counter[str] = Counter()
        self.exits: list[int] = []
        self.stops: list[float] = []
        self.resident: list[int] = []
        self.full = 0
        self.moved = 0
        self.log: list[str] = []

    async def serve(self, restarts: asyncio.Queue[bool]) -> None:
        """Run one daemon after another; True in `restarts` replaces the daemon, False stops the last one."""
        while True:
            async with self.home.launch() as daemon:
                try:
                    await daemon.is_ready()
                except AssertionError:
                    if await daemon.ends() != DISK_REFUSES:
                        raise
                    await asyncio.sleep(2)  # as systemd does
                    continue
                self.daemon = daemon
                go_on = await restarts.get()
                self._note_memory(daemon)
                self.daemon = None
                status, seconds = await daemon.stop()
                self.exits.append(status)
                self.stops.append(seconds)
                self.log += daemon.log
            if not go_on:
                return

    async def watch_memory(self) -> None:
        """Record the daemon's resident memory, in MiB, at intervals."""
        while True:
            await asyncio.sleep(MEMORY_SECONDS)
            if self.daemon is not None:
                self._note_memory(self.daemon)

    def _note_memory(self, daemon: DaemonProcess) -> None:
        pages = int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1])
        self.resident.append(pages * os.sysconf("SC_PAGE_SIZE") // 2**20)

    async def call(self, http: aiohttp.ClientSession, model: str) -> None:
        """Send requests as one caller until cancelled."""
        while True:
            await asyncio.sleep(self.chance.uniform(0.02, 0.3))
            if (daemon := self.daemon) is None:
                continue
            leaves = self.chance.random() < LEAVING
            timeout = aiohttp.ClientTimeout(total=self.chance.uniform(0.0, 0.12) if leaves else 60)
            status = await self._ask(http, daemon, model, timeout)
            if leaves:
                status = "left" if status == "no answer in time" else "meant to leave, was too late"
            self.statuses[status] += 1

    async def _ask(
        self, http: aiohttp.ClientSession, daemon: DaemonProcess, model: str, timeout: aiohttp.ClientTimeout
    ) -> str:
        stream = self.chance.random() < 0.5
        prompt = f"/count 5 times, question {self.chance.randrange(1000)}"  # some prompts repeat
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream}
        url = f"{daemon.origin}/v1/chat/completions"
        try:
            async with http.post(url, json=body, headers=self.home.headers, timeout=timeout) as response:
                text = await response.text()
        except TimeoutError:
            return "no answer in time"
        except aiohttp.ClientError:
            return "connection refused or cut" if self.daemon is daemon else "daemon stopped"
        if response.status == 200 and '"error"' in text:
            return "200, then an error event"
        return f"{response.status} {response.headers.get('x-bridge-reason', '')}".strip()

    @asynccontextmanager
    async def full_disk(self) -> AsyncIterator[None]:
        """Fill the disk of the state folder or, if that is not a small disk, block writes to its files."""
        self.full += 1
        folder = self.home.folder.path
        if os.path.ismount(folder):  # noqa: ASYNC240 — one system call on a local disk
            async with TaskOwner() as tasks:
                tasks.spawn(_fill(folder), name="fill")
                yield
            (folder / "filler").unlink()
            return
        obstacles = [folder / f".{name}.json.tmp" for name in ("accounts", "stats", "models", "site")]
        for obstacle in obstacles:
            while not obstacle.is_dir():
                with suppress(FileExistsError, FileNotFoundError):
                    obstacle.mkdir()
        yield
        for obstacle in obstacles:
            obstacle.rmdir()

    async def move_files(self) -> None:
        """Move a file of the state folder away for a moment, at random intervals."""
        while True:
            await asyncio.sleep(self.chance.uniform(2, 8))
            path = self.home.folder.path / f"{self.chance.choice(['keys', 'accounts', 'admin'])}.json"
            aside = path.with_suffix(".aside")
            if self.daemon is None or not path.exists():
                continue
            path.rename(aside)
            self.moved += 1
            await asyncio.sleep(self.chance.uniform(0.05, 2.0))
            aside.rename(path)  # replaces a file that was written in the meantime, as an editor does


async def _fill(folder: Path) -> None:
    """Fill a disk, and refill the space that becomes free when the daemon removes a file."""
    with (folder / "filler").open("wb", buffering=0) as file:
        while True:
            with suppress(OSError):
                while True:
                    file.write(bytes(4096))
            await asyncio.sleep(0.02)


async def befall(trial: Trial, seconds: float, restarts: asyncio.Queue[bool]) -> None:
    """Inject the restarts and the full disk at their times."""
    events = [(at * seconds, "restart") for at in RESTARTS_AT]
    events += [(begin * seconds, f"full for {(end - begin) * seconds}") for begin, end in FULL_AT]
    began = time.monotonic()
    for at, what in sorted(events):
        await asyncio.sleep(max(0.0, began + at - time.monotonic()))
        print(f"{time.monotonic() - began:6.0f} s: {what}; {dict(trial.statuses)}", flush=True)
        if what == "restart":
            restarts.put_nowait(True)
        else:
            async with trial.full_disk():
                await asyncio.sleep(float(what.rpartition(" ")[2]))
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))


async def main(minutes: float, callers: int, accounts: int, seed: int) -> bool:
    """Run the trial; return whether it passed."""
    chance = random.Random(seed)
    with ExitStack() as stack:
        path = Path(stack.enter_context(TemporaryDirectory()))
        state = path / "state"
        state.mkdir(mode=0o700)
        mount = ("mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "none", str(state))
        if mounted := os.geteuid() == 0 and subprocess.call(mount, stderr=subprocess.DEVNULL) == 0:  # noqa: ASYNC221
            stack.callback(subprocess.check_call, ("umount", "-l", str(state)))
        print("a disk of", f"{DISK} bytes" if mounted else "the machine's own size", "seed", seed)
        async with BadSite(chance) as site, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            home = Home(site, path)
            await home.prepare()
            home.configure(
                {
                    "server": {"state_dir": str(state), "drain_seconds": 3},
                    "upstream": {"first_byte_timeout": 1.5, "idle_timeout": 1.5, "connect_timeout": 5},
                }
            )
            more = tuple(site.sign_in(f"user{at}@example.org", expires_in=300.0) for at in range(accounts - 1))
            await add_accounts(home.folder, *more)
            site.sessions = (home.session, *more)
            return await _run(Trial(site, home, chance), http, minutes * 60, callers)


async def _run(trial: Trial, http: aiohttp.ClientSession, seconds: float, callers: int) -> bool:
    model = next(
        model.public_name for model in trial.site.models if set(model.outputs) == {"text"} and model.organization
    )
    restarts = asyncio.Queue[bool]()
    async with TaskOwner() as tasks:
        serving = tasks.spawn(trial.serve(restarts), name="serve")
        while trial.daemon is None:  # noqa: ASYNC110 — nothing tells of it
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        trial.site.bad = True
        async with TaskOwner() as attackers:
            for _ in range(callers):
                attackers.spawn(trial.call(http, model), name="caller")
            attackers.spawn(trial.watch_memory(), name="watch memory")
            moving = attackers.spawn(trial.move_files(), name="move files")
            await befall(trial, seconds, restarts)
            moving.cancel()
        for aside in trial.home.folder.path.glob("*.aside"):
            aside.rename(aside.with_suffix(".json"))
        trial.site.bad = False
        worked = await _afterwards(trial, http, model)
        restarts.put_nowait(False)
        await serving
    return await _report(trial, worked)


async def _afterwards(trial: Trial, http: aiohttp.ClientSession, model: str) -> Counter[str]:
    """Send requests after the site has recovered, for as long as the bridge may rest a failed account."""
    asked: Counter[str] = Counter()
    for _ in range(60):
        if trial.daemon is not None:
            timeout = aiohttp.ClientTimeout(total=30)
            asked[await trial._ask(http, trial.daemon, model, timeout)] += 1
        await asyncio.sleep(0.5)
    return asked


async def _report(trial: Trial, worked: Counter[str]) -> bool:
    site, sessions = trial.site, trial.site.sessions
    on_disk = {account.user_id: account for account in await accounts_document(trial.home.folder).load()}
    alive = 0
    for session in sessions:
        account = on_disk.get(session.user_id)
        kept = account is not None and account.session.value == session.cookie_value and not account.expired
        alive += kept and session.alive and not session.revoked
        if not kept:
            print("lost:", session.email, account, "revoked" if session.revoked else "")
    calls = sum(trial.statuses.values())
    left = sum(number for status, number in trial.statuses.items() if status == "left")
    refused = sum("not saved; retrying" in line for line in trial.log)
    print(f"calls: {calls}, of which left: {left} ({left / max(calls, 1):.1%})")
    print("answers:", dict(trial.statuses.most_common()))
    print("faults:", dict(site.failed.most_common()))
    print(
        f"cookies replaced: {site.rotations}, renewals: {[session.refreshes for session in sessions]}, "
        f"refresh tokens used twice: {sum(session.spent_twice for session in sessions)}"
    )
    print(f"disk full: {trial.full} times (said in the log: {refused}), files moved away: {trial.moved}")
    print("daemons ended with", trial.exits, "after seconds:", [round(each, 1) for each in trial.stops])
    print("resident MiB, each minute and at each end:", trial.resident)
    print(
        "cookies lost by the log:",
        sum("LOST" in line for line in trial.log),
        "tracebacks:",
        sum("Traceback" in line for line in trial.log),
    )
    for line in trial.log:
        if "LOST" in line or "could not be saved" in line:
            print(line)
    print("afterwards:", dict(worked))
    print(f"accounts alive at the end: {alive} of {len(sessions)}")
    ended_well = worked["200"] + worked["200 ok"] == sum(worked.values())
    stopped_well = set(trial.exits) == {0} and max(trial.stops) <= STOP_SECONDS
    return alive == len(sessions) and stopped_well and ended_well and refused > 0


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=30)
    options.add_argument("--callers", type=int, default=12)
    options.add_argument("--accounts", type=int, default=3)
    options.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = options.parse_args()
    sys.exit(0 if asyncio.run(main(given.minutes, given.callers, given.accounts, given.seed)) else 1)
