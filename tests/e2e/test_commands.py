"""The commands as a person or a script meets them: what stands on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import pty
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
from click.testing import CliRunner, Result
from hostile_api import STEERING, event, hostile, steers
from model_entries import entry
from running import RunningBridge
from session_cookies import cookie

from bridge.state.admin import Admin, admin_document
from bridge.state.documents import WATCH_SECONDS, StateFolder
from bridge.state.state import accounts_document, models_document
from handlers.commands.main import COMMANDS, main
from handlers.request.appkeys import CLIENT
from upstream.accounts import Account
from upstream.arena import Arena, Line, Session, Until
from upstream.protocol import cookies
from upstream.protocol.errors import Reason
from upstream.protocol.models import read_entries

#: How long a process may take on a busy machine, whatever it does.
SECONDS = 60.0
CHECKOUT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "bridge"]
STOP = Line("ad", {"finishReason": "stop"})
WORDS = [
    *([name] for name in COMMANDS),
    *(["keys", word] for word in ("add", "list", "set", "rotate", "revoke")),
    *(["accounts", word] for word in ("add", "list", "test", "rename", "pause", "resume", "remove")),
    *(["config", word] for word in ("show", "path", "check")),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder and a home outside the checkout."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LMARENA_BRIDGE_")]:
        monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT), "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    for name in ("XDG_CONFIG_HOME", "STATE_DIRECTORY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def run(*words: str, stdin: str = "", **env: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, words, input=stdin, env=env)


async def arun(*words: str, stdin: str = "", **env: str) -> Result:
    """Run a command in a thread, while the arena or a bridge lives on this loop."""
    return await asyncio.to_thread(run, *words, stdin=stdin, **env)


ADD_ACCOUNT = ("accounts", "add")

#: A configuration for a daemon that would listen: the default port may be taken by a bridge of this machine's user.
ANY_PORT = "[server]\nport = 0\n"


async def spawn(*words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own."""

    def process() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words], input=stdin, env={**os.environ, **env}, capture_output=True, text=True, timeout=SECONDS
        )

    return await asyncio.to_thread(process)


def configure(arena: Arena) -> None:
    """Write a configuration for a daemon that talks to `arena`, on any free port."""
    Path("bridge.toml").write_text(f'{ANY_PORT}[upstream]\nbase_url = "{arena.origin}"\n')


# --- the command line itself ---


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_command_answers_help_and_takes_a_configuration(words: list[str]) -> None:
    result = run(*words, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert ("--config FILE" in result.stdout) is (words != ["replay"])  # a recording has all that its replay needs


def test_help_lists_every_command_in_its_own_words() -> None:
    listed = run("--help").stdout
    for name, (module, about) in COMMANDS.items():
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        assert command.get_short_help_str(100).rstrip(".") == about.rstrip(".")
        assert f"  {name} " in listed


def test_help_does_not_wait_for_the_daemons_libraries() -> None:
    script = "import sys, handlers.commands; print(sorted({'aiohttp', 'rich'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout == b"[]\n"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["nope"], id="no such command"),
        pytest.param(["serve", "extra"], id="too many words"),
        pytest.param(["keys"], id="a group alone"),
        pytest.param(["keys", "add"], id="a key without a name"),
        pytest.param(["keys", "add", "--name", "a/b"], id="a name that no key may have"),
        pytest.param(["keys", "add", "--name", "a", "--rpm", "0"], id="a rate out of range"),
        pytest.param(["keys", "set", "a"], id="nothing to change"),
        pytest.param(["accounts", "add", "--label", "a\nb"], id="a label of two lines"),
        pytest.param(["chat", "--key", "k", "--url", "nowhere", "hi"], id="a url that is none"),
        pytest.param(["chat", "hi"], id="no key"),
    ],
)
def test_wrong_usage_exits_2(words: list[str]) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage:" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--config", "own.toml", "keys", "list"], id="before"),
        pytest.param(["keys", "--config", "own.toml", "list"], id="between"),
        pytest.param(["keys", "list", "--config", "own.toml"], id="behind"),
        pytest.param(["--config", "other.toml", "keys", "list", "--config", "own.toml"], id="the last one counts"),
    ],
)
def test_the_configuration_stands_before_or_after_the_command_words(words: list[str]) -> None:
    Path("own.toml").write_text('[server]\nstate_dir = "own"\n')
    assert run("keys", "add", "--name", "mine", "--config", "own.toml").exit_code == 0
    assert "mine" in run(*words).stdout
    assert "mine" not in run("keys", "list").stdout


def test_a_bad_configuration_names_every_problem_and_exits_1() -> None:
    Path("bridge.toml").write_text('[server]\nport = "x"\nhots = "y"\n')
    result = run("keys", "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "bridge.toml:2: server.port" in result.stderr
    assert "did you mean server.host?" in result.stderr


# --- serve ---


@asynccontextmanager
async def serving(*words: str, **env: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A daemon as a process of its own, once it says that it is ready, and where."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *words, stderr=asyncio.subprocess.PIPE, env={**os.environ, **env}
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            async for line in process.stderr:
                if ready := re.search(r"LMArena Bridge is ready on (http://\S+)/v1$", line.decode().rstrip()):
                    yield process, ready[1]
                    break
            else:
                raise AssertionError("the daemon never became ready")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("words", [["serve"], []], ids=["serve", "no command"])
async def test_the_daemon_serves_until_it_is_told_to_stop(words: list[str], arena: Arena) -> None:
    configure(arena)
    secret = (await arun("keys", "add", "--name", "me")).stdout.strip()
    await arun("accounts", "add", stdin=arena.sign_in().cookie_value)
    async with serving(*words) as (process, origin):
        answer = await arun("chat", "--url", origin, "/say", "all", "is", "well", OPENAI_API_KEY=secret)
        assert (answer.stdout, answer.exit_code) == ("all is well\n", 0)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        pytest.param("bridge.toml", "[server]\nport = -1\n", "server.port", id="value out of range"),
        pytest.param("bridge.toml", "[server\n", "is not TOML", id="no TOML"),
        pytest.param("bridge.toml", '[server]\ntls_cert = "a"\ntls_key = "b"\n', "tls_cert", id="no certificate"),
        pytest.param("state/keys.json", "{", "is not JSON", id="broken keys"),
        pytest.param("state/accounts.json", "[]", "accounts.json", id="broken accounts"),
    ],
)
async def test_a_bad_configuration_or_state_file_exits_78(file: str, text: str, said: str, tmp_path: Path) -> None:
    tmp_path.joinpath("state").mkdir(mode=0o700)
    tmp_path.joinpath("bridge.toml").write_text(ANY_PORT)
    path = tmp_path / file
    path.write_text(text)
    served = await spawn("serve")
    assert served.returncode == 78
    assert said in served.stderr
    assert "Traceback" not in served.stderr
    assert path.read_text() == text


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        pytest.param(lambda path: os.mkfifo(path), "is a pipe", id="a pipe"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "is a device", id="a device"),
        pytest.param(lambda path: path.mkdir(), "Is a directory", id="a directory"),
        pytest.param(_huge, "bytes or more", id="a huge file"),
        pytest.param(lambda path: path.write_text("[" * 100_000), "is not|nested too", id="nested"),
    ],
)
@pytest.mark.parametrize("file", ["bridge.toml", "state/keys.json", "state/accounts.json", "state/admin.json"])
def test_what_is_no_file_of_ours_exits_78_at_once(
    file: str, place: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    tmp_path.joinpath("state").mkdir(mode=0o700)
    if file != "bridge.toml":
        tmp_path.joinpath("bridge.toml").write_text(ANY_PORT)
    place(tmp_path / file)
    served = run("serve")
    assert served.exit_code == 78
    assert file in served.stderr
    assert re.search(said, served.stderr)
    assert "Traceback" not in served.stderr


@pytest.mark.parametrize(
    ("place", "said"),
    [
        pytest.param(os.mkfifo, "a pipe", id="a pipe"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "a device", id="a device"),
        pytest.param(Path.mkdir, "a directory", id="a directory"),
    ],
)
def test_a_certificate_that_is_no_file_exits_78(place: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    tmp_path.joinpath("bridge.toml").write_text('[server]\ntls_cert = "cert.pem"\ntls_key = "cert.pem"\n')
    place(tmp_path / "cert.pem")
    served = run("serve")
    assert served.exit_code == 78
    assert f"must be regular files; this is {said}" in served.stderr


@pytest.mark.parametrize("error", ["ENOSPC", "EROFS", "EDQUOT", "EIO", "EACCES"])
def test_a_disk_that_refuses_at_the_start_exits_75(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses to make or change files."""
    number = getattr(errno, error)
    real = os.open

    def refuse(path: str, flags: int, *args: Any, **options: Any) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, flags, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        served = run("serve")
    assert served.exit_code == 75
    assert os.strerror(number) in served.stderr
    assert "Traceback" not in served.stderr


async def test_a_state_folder_in_use_exits_78_and_names_the_daemon(arena: Arena) -> None:
    configure(arena)
    async with serving() as (process, _):
        second = await spawn("serve")
        assert second.returncode == 78
        assert f"process id {process.pid}" in second.stderr


async def test_reload_reaches_the_daemon_and_a_single_process_is_not_restarted(arena: Arena) -> None:
    configure(arena)
    nobody = await arun("reload")
    assert (nobody.exit_code, nobody.stdout) == (1, "")
    assert "no daemon runs with the state folder" in nobody.stderr
    async with serving() as (process, _):
        assert process.stderr is not None
        reloaded = await arun("reload")
        assert (reloaded.exit_code, f"process {process.pid}" in reloaded.stdout) == (0, True)
        while b"the configuration was reloaded" not in await process.stderr.readline():
            pass
        refused = await arun("reload", "--restart")
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "server.workers is 1" in refused.stderr
        process.send_signal(signal.SIGUSR1)  # as one would who believes that it has workers
        while b"nothing is restarted" not in await process.stderr.readline():
            pass
        assert process.returncode is None


async def test_a_port_that_is_taken_exits_1_and_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served = await spawn("serve", LMARENA_BRIDGE_SERVER__PORT=str(port))
    assert served.returncode == 1
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use; that may be another" in served.stderr


async def test_a_port_on_which_a_bridge_listens_is_named_as_such(bridge: RunningBridge) -> None:
    served = await spawn("serve", "--port", str(urlsplit(bridge.base_url).port))
    assert served.returncode == 1
    assert "it is another lmarena-bridge, or its demo: stop it" in served.stderr


# --- keys ---


def _closed() -> None:
    os.close(1)


def _full() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def _unread() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)


@pytest.mark.parametrize("spoil", [_closed, _full, _unread], ids=["closed", "full", "nobody reads"])
def test_a_key_that_cannot_be_shown_is_not_kept(spoil: Callable[[], None]) -> None:
    words = [*COMMAND, "keys", "add", "--name", "ci"]
    made = subprocess.run(words, stderr=subprocess.PIPE, preexec_fn=spoil, text=True, timeout=SECONDS, check=False)
    assert made.returncode != 0
    assert "shown" in made.stderr
    assert "sk-lmab-" not in made.stderr
    assert "No key yet" in run("keys", "list").stderr
    assert run("keys", "add", "--name", "ci").exit_code == 0


@pytest.mark.parametrize("spoil", [_closed, _full, _unread], ids=["closed", "full", "nobody reads"])
def test_a_secret_that_cannot_be_shown_replaces_none(spoil: Callable[[], None]) -> None:
    run("keys", "add", "--name", "ci")
    before = stored("keys")
    words = [*COMMAND, "keys", "rotate", "ci"]
    made = subprocess.run(words, stderr=subprocess.PIPE, preexec_fn=spoil, text=True, timeout=SECONDS, check=False)
    assert made.returncode != 0
    assert "shown" in made.stderr
    assert "sk-lmab-" not in made.stderr
    assert stored("keys") == before


def test_a_key_is_shown_though_nobody_reads_the_notes() -> None:
    with Path("/dev/full").open("w") as full:
        words = [*COMMAND, "keys", "add", "--name", "ci"]
        made = subprocess.run(words, stdout=subprocess.PIPE, stderr=full, text=True, timeout=SECONDS, check=False)
    assert (made.returncode, made.stdout[:8]) == (0, "sk-lmab-")
    assert "ci" in run("keys", "list").stdout


@pytest.mark.parametrize("words", [["accounts", "add"], ["password"], ["chat", "--model", "any"]], ids=" ".join)
@pytest.mark.parametrize("source", ["/dev/zero", "/dev/urandom", "closed"])
def test_standard_input_is_never_read_without_a_bound(words: list[str], source: str) -> None:
    """2 GiB of memory would not be enough for what a device gives, and 600 MB are for what may be read."""

    def confine() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (600_000_000, 600_000_000))
        if source == "closed":
            os.close(0)

    with Path("/dev/null" if source == "closed" else source).open("rb") as stdin:
        given = subprocess.run(
            [*COMMAND, *words],
            stdin=stdin,
            env={**os.environ, "OPENAI_API_KEY": "sk-lmab-x"},
            preexec_fn=confine,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert given.returncode == 1
    assert given.stderr.startswith("Error: ")
    assert len(given.stderr) < 300


def test_a_new_key_stands_alone_on_stdout() -> None:
    result = run("keys", "add", "--name", "ci")
    assert re.fullmatch(r"sk-lmab-[A-Za-z0-9]{32}\n", result.stdout)
    assert "cannot be shown again" in result.stderr
    assert result.stdout.strip() not in result.stderr
    assert result.stdout.strip() not in Path("state/keys.json").read_text()


def test_keys_are_listed_changed_and_revoked() -> None:
    run("keys", "add", "--name", "ci", "--rpm", "5", "--models", "gpt*, claude*", "--stealth")
    (key,) = stored("keys")
    assert (key["rpm"], key["models"], key["stealth"], key["metrics"]) == (5, ["gpt*", "claude*"], True, False)
    listed = run("keys", "list").stdout
    row = rf"ci +{key['id']} +sk-lmab-…{key['hint']} +good +5 +100 \(default\) +any +gpt\*, claude\* +yes +no"
    assert re.search(row, listed)

    assert run("keys", "set", "ci", "--rpm", "0", "--models", "", "--no-stealth", "--metrics").exit_code == 0
    (key,) = stored("keys")
    assert (key["rpm"], key["models"], key["stealth"], key["metrics"]) == (None, [], False, True)
    assert run("keys", "set", "ci", "--no-metrics").exit_code == 0
    (key,) = stored("keys")
    assert not key["metrics"]
    assert run("keys", "set", key["id"], "--concurrency", "3").exit_code == 0
    assert stored("keys") == [{**key, "concurrency": 3}]

    assert run("keys", "revoke", "ci").exit_code == 0
    assert stored("keys") == []
    assert run("keys", "list").stdout == ""


def test_a_key_has_an_end_and_a_budget_is_paused_and_rotated() -> None:
    made = ("--expires", "30d", "--day-requests", "500", "--note", "for the cat")
    secret = run("keys", "add", "--name", "laptop", *made).stdout.strip()
    assert re.search(r"ends in (29|30) days .* 500 requests .* for the cat", run("keys", "list").stdout)
    assert run("keys", "set", "laptop", "--paused", "--expires", "never", "--day-requests", "0").exit_code == 0
    (key,) = json.loads(run("keys", "list", "--json").stdout)
    assert (key["paused"], key["expires"], key["day_requests"]) == (True, None, None)
    assert "paused" in run("keys", "list").stdout
    rotated = run("keys", "rotate", "laptop")
    assert re.fullmatch(r"sk-lmab-\w{32}\n", rotated.stdout)
    assert rotated.stdout.strip() != secret
    assert "24 hours more" in rotated.stderr
    assert run("keys", "add", "--name", "b", "--expires", "soon").exit_code == 2


def test_a_key_for_metrics() -> None:
    run("keys", "add", "--name", "prometheus", "--metrics")
    assert [(key["stealth"], key["metrics"]) for key in stored("keys")] == [(False, True)]


def test_a_stealth_key_is_told_that_the_configuration_has_a_say_too() -> None:
    assert "models.stealth" in run("keys", "add", "--name", "a", "--stealth").stderr
    allowed = run("keys", "add", "--name", "b", "--stealth", LMARENA_BRIDGE_MODELS__STEALTH="true")
    assert "models.stealth" not in allowed.stderr


@pytest.mark.parametrize("words", [["add", "--name", "ci"], ["set", "nobody", "--rpm", "1"], ["revoke", "nobody"]])
def test_a_change_that_cannot_be_made_exits_1(words: list[str]) -> None:
    run("keys", "add", "--name", "ci")
    before = stored("keys")
    result = run("keys", *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words[-1] in result.stderr or "nobody" in result.stderr
    assert stored("keys") == before


async def test_a_running_daemon_takes_a_new_key_within_two_seconds(bridge: RunningBridge) -> None:
    made = await arun("keys", "add", "--name", "late", LMARENA_BRIDGE_SERVER__STATE_DIR=str(bridge.folder.path))
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    assert WATCH_SECONDS < 2
    async with asyncio.timeout(SECONDS):
        status = 401
        while status == 401:
            async with bridge.http.get(f"{bridge.base_url}/models", headers=headers) as answer:
                status = answer.status


def stored(name: str) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = json.loads(Path(f"state/{name}.json").read_text())[name]
    return values


# --- accounts ---

AGENT = "Mozilla/5.0 (X11; Linux x86_64) Chrome/142"


def as_value(session: Session) -> str:
    return session.cookie_value


def as_pieces(session: Session) -> str:
    value = session.cookie_value
    return f"arena-auth-prod-v1.1\t{value[1000:]}\narena-auth-prod-v1.0\t{value[:1000]}\n"


def as_header(session: Session) -> str:
    return f"Cookie: theme=dark; arena-auth-prod-v1={session.cookie_value}; lang=en\r\n"


def as_curl(session: Session) -> str:
    cookies = f"cf_clearance=clear.123; arena-auth-prod-v1={session.cookie_value}"
    return f"curl 'https://lmarena.ai/' \\\n  -H 'user-agent: {AGENT}' \\\n  -b '{cookies}' \\\n  --compressed\n"


@pytest.mark.parametrize("paste", [as_value, as_pieces, as_header, as_curl])
def test_an_account_is_added_from_whatever_can_be_pasted(paste: Any) -> None:
    session = Arena().sign_in("ada@example.org")
    result = run("accounts", "add", "--label", "ada", stdin=paste(session))
    assert result.exit_code == 0
    assert result.stdout.startswith("Added account 'ada': ada@example.org; its login renews itself.\n")
    assert stored("accounts") == [
        {"label": "ada", "cookie": session.cookie_value, "expired": False, "resting": {}, "bar": None}
    ]
    assert re.search(r"ada +ada@example\.org +renews itself +usable", run("accounts", "list").stdout)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"expired": True}, "the site no longer accepts its login"),
        ({"bar": Reason.GUEST}, "the session is a guest's, who may not choose a model"),
        ({"bar": Reason.TERMS}, "the site's terms of use have not been accepted by this account"),
        ({"resting": {"chat": 900, "image": -9}}, r"on cooldown for chat for (900|8\d\d) s after a 429"),
        (
            {"resting": {"everything": 1200}},
            r"LMArena doubts that a human uses this account: it is not used for 1(200|1\d\d) s\. Its own page .* flag",
        ),
        ({"resting": {"chat": -1}}, "usable"),
    ],
)
async def test_the_list_of_accounts_says_how_each_is(state: dict[str, Any], said: str) -> None:
    now = time.time()
    account = Account("ada", cookies.decode(Arena().sign_in("ada@example.org").cookie_value), **state)
    account = replace(account, cooldowns={kind: now + seconds for kind, seconds in account.cooldowns.items()})
    folder = StateFolder(Path("state"))
    folder.prepare()
    await accounts_document(folder).save((account,))
    result = await asyncio.to_thread(run, "accounts", "list")
    assert re.search(rf"^ada +ada@example\.org +renews itself +{said} *$", result.stdout, re.MULTILINE)


def test_a_session_that_cannot_be_renewed_says_when_it_ends() -> None:
    session = Arena().sign_in("ada@example.org", expires_in=7 * 86_400, renewable=False)
    end = r"in \d days \(\d{4}-\d\d-\d\d \d\d:\d\d \S+\)"
    added = run("accounts", "add", "--label", "ada", stdin=as_value(session))
    assert re.fullmatch(rf"Added account 'ada': ada@example\.org; the session ends for good {end}\.\n", added.stdout)
    assert re.search(rf"ada +ada@example\.org +ends for good {end} +usable", run("accounts", "list").stdout)


def test_what_is_missing_is_said() -> None:
    session = Arena().sign_in()
    assert "Also useful, should the site show a challenge page" in run(*ADD_ACCOUNT, stdin=as_value(session)).stderr
    assert "Also useful" not in run(*ADD_ACCOUNT, stdin=as_curl(session)).stderr
    assert "Also useful" not in run(*ADD_ACCOUNT, stdin=as_value(session)).stderr, "the clearance was stored"
    late = run("accounts", "add", stdin=as_value(Arena().sign_in(expires_in=-7300)))
    assert "its login renews itself." in late.stdout
    assert "This session has ended" not in late.stderr


@pytest.mark.parametrize(
    ("left", "end", "missing"),
    [
        pytest.param(7300, r"ends for good in 2 hours \(\d{4}-\d\d-\d\d \d\d:\d\d \S+\)", False, id="it still holds"),
        pytest.param(
            -7300, r"ended 2 hours ago \(\d{4}-\d\d-\d\d \d\d:\d\d \S+\) and cannot be renewed", True, id="it has ended"
        ),
    ],
)
def test_a_session_that_cannot_renew_itself_says_when_it_ends(left: float, end: str, missing: bool) -> None:
    added = run("accounts", "add", stdin=cookie(refresh_token=..., expires_at=time.time() + left))
    assert re.fullmatch(rf"Added account 'ada@example\.org': ada@example\.org; the session {end}\.\n", added.stdout)
    assert ("This session has ended and cannot renew itself" in added.stderr) is missing
    assert re.search(rf"ada@example\.org +{end} +usable", run("accounts", "list").stdout)


def test_a_guest_is_told_to_sign_in() -> None:
    result = run("accounts", "add", stdin=cookie(user={"id": "u-1", "is_anonymous": True}))
    assert result.exit_code == 1
    assert "this is a guest's session" in result.stderr
    assert "sign in on the site in that window, then copy again" in result.stderr
    assert run("accounts", "list").stderr.startswith("No account yet")


def test_the_help_says_how_to_copy_a_login_that_lasts() -> None:
    shown = " ".join(run("accounts", "add", "--help").stdout.split())
    for step in ("in a private window", "send one message there", "close that window without logging out"):
        assert step in shown
    assert "Never use the same login in a browser and in the bridge at the same time" in shown


def test_the_same_user_is_renewed_and_keeps_the_label() -> None:
    arena = Arena()
    run("accounts", "add", "--label", "ada", stdin=as_value(arena.sign_in("ada@example.org")))
    run("accounts", "add", stdin=as_value(arena.sign_in("bob@example.org")))
    fresh = arena.sign_in("ada@example.org")
    result = run("accounts", "add", stdin=as_value(fresh))
    assert result.stdout.startswith("Renewed account 'ada': ada@example.org")
    assert [account["label"] for account in stored("accounts")] == ["ada", "bob@example.org"]
    assert stored("accounts")[0]["cookie"] == fresh.cookie_value


@pytest.mark.parametrize(
    ("paste", "reason"),
    [
        pytest.param("", "no session cookie in it", id="nothing"),
        pytest.param("hello", "no session cookie in it", id="something else"),
        pytest.param("arena-auth-prod-v1.1=abc", "piece 0 of the session cookie is missing", id="a piece is missing"),
        pytest.param("arena-auth-prod-v1=base64-e30", "has no access_token", id="no session"),
        pytest.param("cf_clearance=abc", "arena-auth-prod-v1 is missing", id="a clearance only"),
        pytest.param(
            "curl https://arena.ai -H 'user-agent: M'", "this request carried no cookie", id="a cURL line of no one"
        ),
    ],
)
def test_what_cannot_be_used_exits_1_with_the_reason(paste: str, reason: str) -> None:
    result = run("accounts", "add", stdin=paste)
    assert result.exit_code == 1
    assert reason in result.stderr
    assert not Path("state/accounts.json").exists()


async def test_an_account_is_renamed_paused_resumed_and_tested(arena: Arena) -> None:
    session = arena.sign_in()
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin}
    await arun("accounts", "add", "--label", "ada", stdin=session.cookie_value)
    await arun("accounts", "add", "--label", "bob", stdin=arena.sign_in("bob@example.org").cookie_value)
    assert "labelled 'eve' now" in (await arun("accounts", "rename", "ada", "eve")).stdout
    for label, said in (("bob", "another account is labelled 'bob'"), ("a\x1b[2J", "label: must be 1 to 64")):
        refused = await arun("accounts", "rename", "eve", label)
        assert (refused.exit_code, said in refused.stderr) == (1, True)
    assert (await arun("accounts", "pause", "eve")).exit_code == 0
    row, _ = json.loads((await arun("accounts", "list", "--json")).stdout)
    assert (row["label"], row["paused"], row["state"]) == ("eve", True, "paused")
    assert "paused by its owner" in (await arun("accounts", "list")).stdout
    tested = json.loads((await arun("accounts", "test", "eve", "--json", **env)).stdout)
    assert (tested["label"], tested["state"], tested["error"]) == ("eve", "paused", None)
    assert tested["milliseconds"] > 0
    await arun("accounts", "resume", session.user_id)
    assert "the site accepts its login" in (await arun("accounts", "test", "eve", **env)).stdout
    arena.expire(session)
    failed = await arun("accounts", "test", "eve", **env)
    assert (failed.exit_code, "does not accept" in failed.stderr) == (1, True)
    assert stored("accounts")[0]["expired"]
    for word in ("pause", "resume", "test"):
        missing = await arun("accounts", word, "evee", **env)
        assert (missing.exit_code, "did you mean 'eve'" in missing.stderr) == (1, True)


def test_a_label_is_one_accounts_only() -> None:
    arena = Arena()
    run("accounts", "add", "--label", "me", stdin=as_value(arena.sign_in("ada@example.org")))
    result = run("accounts", "add", "--label", "me", stdin=as_value(arena.sign_in("bob@example.org")))
    assert result.exit_code == 1
    assert "another account is labelled 'me'" in result.stderr


def test_an_account_is_removed_by_its_label() -> None:
    run("accounts", "add", "--label", "ada", stdin=as_value(Arena().sign_in()))
    assert run("accounts", "remove", "bob").exit_code == 1
    assert run("accounts", "remove", "ada").exit_code == 0
    assert stored("accounts") == []


def test_a_pasted_clearance_is_stored_and_never_shown() -> None:
    result = run("accounts", "add", stdin=as_curl(Arena().sign_in()))
    assert "clear.123" not in result.output
    assert re.search(r"Received [\d,]+ characters: session ✓, cf_clearance ✓, user agent ✓\.", result.stderr)
    assert "The browser's cf_clearance and user agent are used from now on." in result.stdout
    assert json.loads(Path("state/admin.json").read_text())["admin"]["clearance"]["value"] == "clear.123"


def test_a_clearance_alone_is_stored_too() -> None:
    result = run("accounts", "add", stdin="curl x -H 'user-agent: M' -b 'cf_clearance=abc'")
    assert (result.exit_code, "Received" in result.stderr) == (0, True)
    assert json.loads(Path("state/admin.json").read_text())["admin"]["clearance"]["user_agent"] == "M"
    assert not Path("state/accounts.json").exists()


async def test_a_running_daemon_uses_a_clearance_that_a_command_stored(bridge: RunningBridge) -> None:
    stored = await arun(
        "accounts",
        "add",
        stdin="curl x -H 'user-agent: Mine' -b 'cf_clearance=fresh'",
        LMARENA_BRIDGE_SERVER__STATE_DIR=str(bridge.folder.path),
    )
    assert stored.exit_code == 0
    async with asyncio.timeout(SECONDS):
        while bridge.app[CLIENT].settings.cf_clearance != "fresh":  # noqa: ASYNC110 — the watch sets no event
            await asyncio.sleep(0.05)
    assert bridge.app[CLIENT].settings.user_agent == "Mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("keys", "revoke", "loptap"), "no key named 'loptap'; did you mean 'laptop'?"),
        (("keys", "set", "x", "--rpm", "3"), "no key named 'x'; there are 'laptop', 'script'"),
        (("accounts", "remove", "nobody"), "no account labelled 'nobody': there is none yet"),
    ],
)
def test_a_name_that_does_not_exist_is_answered_with_those_that_do(words: tuple[str, ...], said: str) -> None:
    for name in ("laptop", "script"):
        run("keys", "add", "--name", name)
    result = run(*words)
    assert (result.exit_code, said in result.stderr) == (1, True)


def test_on_a_terminal_nothing_is_deleted_without_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    run("keys", "add", "--name", "laptop")
    monkeypatch.setattr("handlers.commands.confirming.is_terminal", lambda: True)
    refused = run("keys", "revoke", "laptop", stdin="n\n")
    assert (refused.exit_code, "Revoke the key 'laptop'?" in refused.stderr) == (1, True)
    assert len(stored("keys")) == 1
    assert run("keys", "revoke", "laptop", "--yes").exit_code == 0
    assert stored("keys") == []


def test_json_is_one_document_without_secrets() -> None:
    session = Arena().sign_in("ada@example.org")
    run("accounts", "add", "--label", "ada", stdin=as_value(session))
    secret = run("keys", "add", "--name", "laptop", "--rpm", "7").stdout.strip()
    (key,) = json.loads(run("keys", "list", "--json").stdout)
    assert (key["name"], key["rpm"], "hash" in key) == ("laptop", 7, False)
    shown = run("accounts", "list", "--json").stdout
    (account,) = json.loads(shown)
    assert (account["label"], account["email"], account["state"]) == ("ada", "ada@example.org", "usable")
    assert secret not in shown
    assert session.cookie_value[20:60] not in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_by_a_printed_script(shell: str) -> None:
    assert "_LMARENA_BRIDGE_COMPLETE" in run("completion", shell).stdout


def test_names_of_keys_are_completed() -> None:
    run("keys", "add", "--name", "laptop")
    words = {"COMP_WORDS": "lmarena-bridge keys revoke la", "COMP_CWORD": "3"}
    completed = CliRunner(env={"_LMARENA_BRIDGE_COMPLETE": "bash_complete", **words}).invoke(
        main, prog_name="lmarena-bridge"
    )
    assert completed.stdout == "plain,laptop\n"


@pytest.mark.parametrize("end", [b"\x04", b"\n\n"], ids=["Ctrl-D", "Enter twice"])
def test_a_paste_into_a_terminal_may_have_long_lines(end: bytes) -> None:
    session = Arena().sign_in("ada@example.org")
    paste = as_curl(session).replace("cf_clearance", f"other={'x' * 5000}; cf_clearance").rstrip()
    code, shown = typed(["accounts", "add"], b"Ctrl-D", paste.encode() + end)
    assert code == 0
    assert stored("accounts")[0]["cookie"] == session.cookie_value
    assert "session ✓, cf_clearance ✓, user agent ✓" in shown
    assert "clear.123" not in shown
    assert session.cookie_value not in shown


def typed(words: list[str], prompt: bytes, text: bytes) -> tuple[int, str]:
    """Run a command on a terminal and type `text` once it shows `prompt`; return its exit code and what was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's other end is closed: the command has ended
        while data := os.read(ours, 65536):
            shown += data
            if prompt in shown and text:
                for start in range(0, len(text), 1024):
                    os.write(ours, text[start : start + 1024])
                text = b""
    os.close(ours)
    return process.wait(SECONDS), shown.decode()


# --- models ---


async def test_models_are_read_once_and_shown_as_a_table(arena: Arena) -> None:
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin}
    first = await arun("models", **env)
    assert first.exit_code == 0
    assert re.search(
        r"^name +organization +modality +input +output +rank +display name\s*$", first.stdout, re.MULTILINE
    )
    assert re.search(r"^gemini-4-pro +google +chat +image, text +text, web +1 ", first.stdout, re.MULTILINE)
    assert re.search(r"^amber-otter@[0-9a-f]{4} +stealth +chat ", first.stdout, re.MULTILINE)
    rows = first.stdout.splitlines()[2:]
    assert len(rows) == sum(model.user_selectable for model in arena.models)
    gone, arena.models = arena.models[3:], arena.models[:3]
    assert (await arun("models", **env)).stdout == first.stdout
    refreshed = await arun("models", "--refresh", **env)
    assert len(refreshed.stdout.splitlines()[2:]) == 3
    assert re.search(r"^gone: .* and \d+ more$", refreshed.stderr, re.MULTILINE)
    arena.models = (*arena.models, gone[0])
    assert f"new: {gone[0].public_name}" in (await arun("models", "--refresh", **env)).stderr


async def test_models_are_found_by_words_and_by_what_they_do(arena: Arena) -> None:
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin}
    found = json.loads((await arun("models", "GEMINI", "google", "--sees", "--json", **env)).stdout)
    assert found
    assert all("gemini" in each["name"] and "image" in each["input"] for each in found)
    drawing = json.loads((await arun("models", "--draws", "--json", **env)).stdout)
    assert all("image" in each["output"] for each in drawing)
    none = await arun("models", "nonsense", **env)
    assert (none.exit_code, "no model has all of that" in none.stderr) == (1, True)


async def test_a_glob_that_no_model_matches_is_told(arena: Arena) -> None:
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin}
    assert "matches" not in (await arun("keys", "add", "--name", "a", "--models", "nonsense*", **env)).stderr
    await arun("models", **env)
    made = await arun("keys", "add", "--name", "b", "--models", "nonsense*,gemini*", **env)
    assert made.stderr.count("No model matches") == 1
    assert "No model matches 'nonsense*' now" in made.stderr


async def test_models_with_display_names_have_a_column_for_those_that_differ() -> None:
    listed = [
        entry(id="1", publicName="otter-1", displayName="Otter One"),
        entry(id="2", publicName="otter-2", displayName="otter-2"),
        entry(id="3", publicName="otter-3", userSelectable=False),
    ]
    folder = StateFolder(Path("state"))
    folder.prepare()
    await models_document(folder).save(read_entries(listed).models)
    head, _, first, second = (await arun("models")).stdout.splitlines()
    assert re.fullmatch(r"name +organization +modality +input +output +rank +display name *", head)
    assert re.fullmatch(r"otter-1 +google +chat +image, text +text, web +1 +Otter One *", first)
    assert re.fullmatch(r"otter-2 +google +chat +image, text +text, web +1 *", second)
    await models_document(folder).save(read_entries(listed[1:]).models)
    assert "display name" not in (await arun("models")).stdout


async def test_the_dashboard_s_favourites_are_the_first_models(arena: Arena) -> None:
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin}
    folder = StateFolder(Path("state"))
    folder.prepare()
    await admin_document(folder).save(Admin(favourites=("glm-5.2",)))
    assert (await arun("models", **env)).stdout.splitlines()[2].startswith("glm-5.2 ")
    first, second, *_ = json.loads((await arun("models", "--json", **env)).stdout)
    assert (first["name"], first["favourite"], second["favourite"]) == ("glm-5.2", True, False)


async def test_models_that_cannot_be_read_exit_1(arena: Arena) -> None:
    arena.clearance = "another"
    result = await arun("models", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "cf_clearance" in result.stderr


# --- chat ---


async def test_chat_answers_with_the_first_model_listed(bridge: RunningBridge) -> None:
    result = await spawn("chat", "--url", bridge.origin, "Hello", "there", OPENAI_API_KEY=bridge.key)
    assert (result.returncode, result.stderr) == (0, "")
    assert bridge.arena.chats[-1].model_id == bridge.arena.models[0].id
    assert "played by the embedded arena" in result.stdout


async def test_chat_takes_its_text_from_a_pipe_and_keeps_thoughts_off_stdout(bridge: RunningBridge) -> None:
    words = ["chat", "--url", bridge.base_url, "--model", bridge.model(), "--key", bridge.key]
    result = await spawn(*words, stdin="/think /say wörld 👋")
    assert (result.returncode, result.stdout) == (0, "wörld 👋\n")
    assert "short and kind" in result.stderr


async def test_chat_shows_each_delta_as_it_comes(bridge: RunningBridge) -> None:
    release = asyncio.Event()
    bridge.arena.script = lambda _: [Line("a0", "first"), Until(release), Line("a0", " second"), STOP]
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "chat", "--url", bridge.origin, "hi",
        env={**os.environ, "OPENAI_API_KEY": bridge.key}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readexactly(5) == b"first"
    release.set()
    assert await process.stdout.read() == b" second\n"
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("words", "key", "said"),
    [
        pytest.param(["--model", "nope"], None, "The model 'nope' does not exist", id="unknown model"),
        pytest.param([], "sk-lmab-wrong", "Incorrect or missing API key", id="wrong key"),
    ],
)
async def test_a_refusal_is_told_in_the_apis_own_words(
    bridge: RunningBridge, words: list[str], key: str | None, said: str
) -> None:
    result = await spawn("chat", "--url", bridge.origin, *words, "hi", OPENAI_API_KEY=key or bridge.key)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {said}")


@pytest.mark.parametrize("fault", ["model_failed_middle", "reset_middle", "eof_middle"])
async def test_an_answer_that_breaks_off_exits_1(bridge: RunningBridge, fault: str) -> None:
    bridge.arena.faults.arm(fault, after=1)
    result = await spawn("chat", "--url", bridge.origin, "/say one two three", OPENAI_API_KEY=bridge.key)
    assert result.returncode == 1
    assert result.stdout == "one \n"
    assert result.stderr.startswith("Error: ")


HOSTILE_ANSWERS: dict[str, tuple[int, bytes]] = {
    "a refusal": (400, json.dumps({"error": {"message": STEERING}}).encode()),
    "an error in a stream": (200, event(error={"message": STEERING})),
    "an error after a delta": (
        200,
        event(choices=[{"delta": {"content": "hi"}}]) + event(error={"message": STEERING}),
    ),
    "no JSON": (500, STEERING.encode(errors="replace")),
    "JSON nested too deeply": (400, b"[" * 100_000),
    "an event nested too deeply": (200, b"data: " + b"[" * 100_000 + b"\n\n"),
    "a line without an end": (200, b"data: " + b"x" * 5_000_000),
    "an answer without an end": (400, b"x" * 17_000_000),
}


@pytest.mark.parametrize(("status", "body"), HOSTILE_ANSWERS.values(), ids=HOSTILE_ANSWERS)
async def test_a_hostile_server_steers_no_terminal(status: int, body: bytes) -> None:
    async with hostile(status, body) as origin:
        result = await spawn("chat", "--url", origin, "hi", OPENAI_API_KEY="k")
    assert result.returncode == 1
    assert "Error: " in result.stderr
    assert "Traceback" not in result.stderr
    assert not steers(result.stderr)


def test_chat_says_when_no_bridge_runs() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        env = {"LMARENA_BRIDGE_SERVER__PORT": str(unused.getsockname()[1]), "OPENAI_API_KEY": "k"}
        result = run("chat", "hi", **env)
    assert result.exit_code == 1
    assert "no bridge answers at http://127.0.0.1:" in result.stderr
    assert "Is it running?" in result.stderr
