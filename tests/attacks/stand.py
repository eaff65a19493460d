"""Measures attacks: the arena, the daemon and the attacker are separate processes, and a bystander keeps streaming.

A script passes its attacks to `main`. For each attack this starts an arena and a daemon in a temporary folder, lets a
bystander with a valid key stream continuously, runs the attack in a separate process, and prints the bystander's time
to the first delta (before, during and after the attack) and the daemon's memory (before, peak, after). ATTACK_LOG names
a file for the daemon's log. Everything runs on loopback and ends by itself.

With `--control` the attack is directed at a bare aiohttp server instead, while the bystander still uses the bridge: its
delays are then the cost of running an attacker on the same processors.

Other programs on the machine delay the bystander too. Linux divides the CPU time between sessions first
(sched_autogroup), so that `nice` has no effect between sessions; the following command (as root) has:
setsid -w sh -c 'echo -15 > /proc/self/autogroup; exec python tests/attacks/no_key.py --repeat 3'
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import BinaryIO

import aiohttp

from bridge.tasks import TaskOwner

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "harness")]

READY = "LMArena Bridge is ready on "
#: How long the bystander is measured before and after an attack, in seconds.
QUIET_SECONDS = 3.0
#: A real attacker has its own processors. Here it shares two with the daemon, the arena and the bystander: at this
#: niceness it gets the CPU time that they leave, so that the figures show the daemon's behaviour.
ATTACKER_NICENESS = 10
#: The bystander's time limit for the first delta, in seconds; a timeout counts with this time.
PATIENCE_SECONDS = 20.0

_ARENA = """
import asyncio, json, sys
from upstream.arena import Arena
async def run():
    async with Arena() as arena:
        session = arena.sign_in()
        chat = next(m.public_name for m in arena.models if m.organization and m.modality == "chat")
        print(json.dumps([arena.origin, session.email, session.cookie_value, chat]), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(run())
"""

_BARE_SERVER = """
import asyncio, sys
from aiohttp import web
async def answer(request):
    await request.read()
    return web.json_response({}, status=401)
async def run():
    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(run())
"""


@dataclass(frozen=True)
class Target:
    """The daemon as an attacker sees it; `key` is the attacker's key, which only some attacks use."""

    port: int
    key: str
    model: str
    tls: bool = False
    host: str = "127.0.0.1"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection, with TLS if the daemon uses it."""
        context = None
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return await asyncio.open_connection(self.host, self.port, ssl=context)


#: The attacker's actions; cancelled at the end of the attack.
Attack = Callable[[Target], Awaitable[None]]


@dataclass
class Figures:
    """The bystander's times to the first delta, in ms, and its failures."""

    times: list[float] = field(default_factory=list)
    failures: int = 0

    def at(self, share: float) -> float:
        """The time that `share` of the requests did not exceed."""
        times = sorted(self.times)
        return times[min(len(times) - 1, int(share * len(times)))] if times else float("nan")

    def __str__(self) -> str:
        return f"p50 {self.at(0.5):6.0f}  p99 {self.at(0.99):6.0f}  n {len(self.times):4d}  failed {self.failures}"


def rss_mib(pid: int) -> float:
    """The resident memory of a process, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


async def in_parallel(count: int, attack: Callable[[int], Awaitable[None]], *, again: bool = True) -> None:
    """Run `count` attackers concurrently; with `again` each restarts when it ends or its connection fails."""

    async def attacking(number: int) -> None:
        while True:
            try:
                await attack(number)
            except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
                await asyncio.sleep(0.01)
            if not again:
                await asyncio.Event().wait()

    await asyncio.gather(*(attacking(number) for number in range(count)))


async def flood(target: Target, head: bytes, piece: bytes, *, pause: float = 0) -> None:
    """Send a head, then repeat one piece until the daemon closes the connection, with a pause after each."""
    reader, writer = await target.connect()
    try:
        async with TaskOwner() as tasks:
            discarding = tasks.spawn(_discard(reader), name="discard the answers")
            writer.write(head)
            while not discarding.done():
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
    finally:
        writer.transport.abort()


async def _discard(reader: asyncio.StreamReader) -> None:
    """Read and drop everything until the connection ends."""
    with suppress(OSError):
        while await reader.read(65536):
            pass


async def burst(target: Target, sent: bytes, seconds: float = 0.4) -> None:
    """Send as much of this as the daemon accepts within `seconds`, then abort the connection."""
    reader, writer = await target.connect()
    try:
        async with asyncio.timeout(seconds):
            writer.write(sent)
            await _drop(reader)
    except TimeoutError:
        pass
    finally:
        writer.transport.abort()


async def _drop(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


async def hold(target: Target, sent: bytes) -> None:
    """Send something, then wait until the daemon closes the connection."""
    reader, writer = await target.connect()
    try:
        writer.write(sent)
        await _drop(reader)
    finally:
        writer.transport.abort()


async def _bystand(target: Target, figures: Figures, *, keep: bool) -> None:
    """Stream chats until cancelled; record the time to the first delta of each."""
    connector = aiohttp.TCPConnector(ssl=False, force_close=not keep)
    body = {"model": target.model, "stream": True, "messages": [{"role": "user", "content": "/say hello"}]}
    url = f"{'https' if target.tls else 'http'}://{target.host}:{target.port}/v1/chat/completions"
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {target.key}"}) as http:
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS), http.post(url, json=body) as answer:
                    if answer.status != 200:
                        raise aiohttp.ClientError(f"{answer.status}: {await answer.text()}")
                    await answer.content.readuntil(b'"content":"')
                    figures.times.append(1000 * (time.monotonic() - began))
                    await answer.read()
            except (TimeoutError, aiohttp.ClientError, OSError, asyncio.IncompleteReadError):
                figures.failures += 1
                figures.times.append(1000 * (time.monotonic() - began))
            await asyncio.sleep(0.02)


@asynccontextmanager
async def _process(words: Sequence[str], **options: object) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, **options)  # type: ignore[arg-type]
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _environ() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "harness"))),
    }


@asynccontextmanager
async def _bare_server() -> AsyncIterator[int]:
    """Run a bare aiohttp server; yield its port."""
    pipe = asyncio.subprocess.PIPE
    words = (sys.executable, "-c", _BARE_SERVER)
    async with _process(words, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL) as server:
        assert server.stdout is not None
        yield int(await server.stdout.readline())


async def _prepare(
    folder: Path, origin: str, email: str, cookie: str, overrides: Mapping[str, Mapping[str, object]], *, tls: bool
) -> tuple[str, str]:
    """Write a state folder with two keys and an account, and a bridge.toml; return the secrets of the keys."""
    from certificates import server_context
    from daemon import toml
    from running import api_key

    from bridge.state.documents import StateFolder
    from bridge.state.state import accounts_document, keys_document
    from upstream.accounts import Account
    from upstream.protocol import cookies

    state = StateFolder(folder / "state")
    state.prepare()
    (good, kept), (bad, attackers) = api_key(name="bystander"), api_key(name="attacker", rpm=60)
    await keys_document(state).update(lambda _: (kept, attackers))
    await accounts_document(state).update(lambda _: (Account(email, cookies.decode(cookie)),))
    sections: dict[str, dict[str, object]] = {"server": {"port": 0}, "upstream": {"base_url": origin}}
    if tls:
        server_context(folder)
        sections["server"] |= {"tls_cert": str(folder / "cert.pem"), "tls_key": str(folder / "key.pem")}
    for name, values in overrides.items():
        sections.setdefault(name, {}).update(values)
    (folder / "bridge.toml").write_text(toml(sections))
    return good, bad


async def _ready(daemon: asyncio.subprocess.Process) -> int:
    """Wait until the daemon is ready; return the port on which it listens."""
    assert daemon.stderr is not None
    while line := (await daemon.stderr.readline()).decode():
        if READY in line:
            return int(line.partition(READY)[2].split()[0].removesuffix("/v1").rpartition(":")[2])
    raise RuntimeError("the daemon did not start")


async def _count(daemon: asyncio.subprocess.Process, log: list[int], shown: BinaryIO | None) -> None:
    assert daemon.stderr is not None
    while data := await daemon.stderr.read(65536):
        log[0] += len(data)
        if shown is not None:
            shown.write(data)


async def measure(
    name: str,
    script: str,
    *,
    seconds: float,
    after: float = QUIET_SECONDS,
    tls: bool = False,
    keep: bool = False,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    open_files: int | None = None,
    nice: int = ATTACKER_NICENESS,
    control: bool = False,
    shown: BinaryIO | None = None,
) -> tuple[Figures, float]:
    """Run one attack and print its figures; return the bystander's during the attack, and the peak memory in MiB."""
    with tempfile.TemporaryDirectory(prefix="attack-") as path:
        folder = Path(path)
        pipe = asyncio.subprocess.PIPE
        python = sys.executable
        async with _process((python, "-c", _ARENA), stdin=pipe, stdout=pipe, env=_environ()) as arena:
            assert arena.stdout is not None
            origin, email, cookie, model = json.loads(await arena.stdout.readline())
            good, bad = await _prepare(folder, origin, email, cookie, overrides or {}, tls=tls)
            serve: tuple[str, ...] = (python, "-m", "bridge", "serve", "--config", str(folder / "bridge.toml"))
            if open_files is not None:
                serve = ("sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh", *serve)
            async with _process(serve, stderr=pipe, env=_environ()) as daemon, asyncio.TaskGroup() as tasks:
                log = [0]
                port = await _ready(daemon)
                counting = tasks.create_task(_count(daemon, log, shown))
                target = Target(port, good, model, tls=tls)
                phases = {phase: Figures() for phase in ("quiet", "attack", "after")}
                memory = {"before": rss_mib(daemon.pid), "peak": 0.0}

                async def stand(phase: str, seconds: float) -> None:
                    bystander = tasks.create_task(_bystand(target, phases[phase], keep=keep))
                    until = time.monotonic() + seconds
                    while time.monotonic() < until and daemon.returncode is None:
                        memory["peak"] = max(memory["peak"], rss_mib(daemon.pid))
                        await asyncio.sleep(0.1)
                    bystander.cancel()

                await stand("quiet", QUIET_SECONDS)
                memory["before"] = rss_mib(daemon.pid)
                before = log[0]
                async with AsyncExitStack() as stack:
                    attacked = await stack.enter_async_context(_bare_server()) if control else port
                    attack = ["nice", "-n", str(nice), python, script, "--attack", name, "--port", str(attacked)]
                    attack += ["--key", bad, "--model", model, *(["--tls"] if tls else [])]
                    await stack.enter_async_context(_process(attack, env=_environ()))
                    await stand("attack", seconds)
                logged = log[0] - before
                began = time.monotonic()
                await stand("after", after)
                ended = daemon.returncode
                left = rss_mib(daemon.pid) if ended is None else float("nan")
                how = f"{' (TLS)' if tls else ''}{', kept connection' if keep else ''}{', control' if control else ''}"
                print(f"{name}{how}, attacker's niceness {nice}")
                for phase, figures in phases.items():
                    print(f"   {phase:6}  {figures}")
                first = next((each / 1000 for each in phases["after"].times), time.monotonic() - began)
                print(
                    f"   memory  before {memory['before']:.0f}  peak {memory['peak']:.0f}  after {left:.0f} MiB"
                    f"   log {logged / 1024:.0f} KiB   first answer after {first:.2f} s"
                    + (f"   THE DAEMON ENDED: {ended}" if ended is not None else ""),
                    flush=True,
                )
                if ended is None:
                    daemon.terminate()
                await daemon.wait()
                await counting
                return phases["attack"], memory["peak"]


def main(script: str, attacks: Mapping[str, Attack], *, open_files: int | None = None) -> None:
    """Run the attacks named on the command line, or all of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help=f"attacks: {', '.join(attacks)}; all without any")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each attack goes on")
    parser.add_argument("--after", type=float, default=QUIET_SECONDS, help="how long it is watched after the attack")
    parser.add_argument("--nice", type=int, default=ATTACKER_NICENESS, help="the attacker's niceness")
    parser.add_argument("--control", action="store_true", help="attack a bare aiohttp server, not the daemon")
    parser.add_argument("--repeat", type=int, default=1, help="how often each attack is run")
    parser.add_argument("--keep", action="store_true", help="let the bystander keep its connection")
    parser.add_argument("--tls", action="store_true", help="let the daemon serve https")
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--key", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.attack:
        target = Target(chosen.port, chosen.key, chosen.model, tls=chosen.tls)
        asyncio.run(_attack(attacks[chosen.attack], target))
        return

    log = Path(os.environ["ATTACK_LOG"]).open("ab") if "ATTACK_LOG" in os.environ else None  # noqa: SIM115

    async def run() -> None:
        for name in chosen.names or attacks:
            runs = [
                await measure(
                    name,
                    script,
                    seconds=chosen.seconds,
                    after=chosen.after,
                    tls=chosen.tls,
                    keep=chosen.keep,
                    open_files=open_files,
                    nice=chosen.nice,
                    control=chosen.control,
                    shown=log,
                )
                for _ in range(chosen.repeat)
            ]
            if len(runs) > 1:
                p50, p99 = (median(each.at(share) for each, _ in runs) for share in (0.5, 0.99))
                worst, peak = max(each.at(0.99) for each, _ in runs), median(peak for _, peak in runs)
                print(f"   medians of {len(runs)}: p50 {p50:.0f}  p99 {p99:.0f} (worst {worst:.0f})  peak {peak:.0f}")

    asyncio.run(run())


async def _attack(attack: Attack, target: Target) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    await attack(target)
