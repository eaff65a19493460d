"""`lmarena-bridge password`: input from a terminal or a pipe; weak passwords are refused; no password is shown."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from bridge.access.passwords import verify
from bridge.state.admin import Admin, Clearance, admin_document
from bridge.state.documents import StateFolder

CHECKOUT = Path(__file__).parents[2]
GOOD = "correct horse battery"
SET = "The password is set. A running daemon notices this within two seconds, and ends all existing logins.\n"
FIRST = b"New password, at least 12 characters: "
SECOND = b"Repeat the password: "


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The command line, with a separate configuration."""
    config = tmp_path / "bridge.toml"
    config.write_text('[server]\nstate_dir = "state"\n')
    return [sys.executable, "-m", "bridge", "password", "--config", str(config)]


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


def piped(command: list[str], stdin: bytes) -> tuple[int, str, str]:
    """Run the command with `stdin`; return its exit code, stdout and stderr."""
    done = subprocess.run(command, input=stdin, capture_output=True, cwd=CHECKOUT, timeout=20)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def at_terminal() -> None:
    """Make stdin the controlling terminal, and handle SIGINT by default: background processes inherit it as ignored."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def typed(command: list[str], *answers: tuple[bytes, bytes]) -> tuple[int, str]:
    """Run the command on a terminal and type each answer at its prompt; return its exit code and output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=CHECKOUT,
        start_new_session=True,  # so that it does not prompt on the terminal of the test run
        preexec_fn=at_terminal,
    )
    os.close(theirs)
    shown, pending = b"", list(answers)
    with contextlib.suppress(OSError):  # the terminal's other end is closed: the command has ended
        while data := os.read(ours, 65536):
            shown += data
            if pending and shown.endswith(pending[0][0]):
                os.write(ours, pending.pop(0)[1])
    os.close(ours)
    return process.wait(20), shown.decode().replace("\r\n", "\n")


async def password_is(folder: StateFolder, password: str) -> bool:
    admin = await admin_document(folder).load()
    return admin.password_hash is not None and verify(admin.password_hash, password)


@pytest.mark.parametrize(
    "stdin",
    [
        pytest.param(f"{GOOD}\n", id="a line"),
        pytest.param(f"{GOOD}\r\n", id="a line of another system"),
        pytest.param(GOOD, id="no line end"),
        pytest.param(f"{GOOD}\nand more\n", id="the first of two lines"),
    ],
)
async def test_the_first_line_from_a_pipe_is_the_password(command: list[str], folder: StateFolder, stdin: str) -> None:
    assert piped(command, stdin.encode()) == (0, SET, "")
    assert await password_is(folder, GOOD)


async def test_a_terminal_prompts_twice_and_does_not_show_the_password(command: list[str], folder: StateFolder) -> None:
    code, shown = typed(command, (FIRST, GOOD.encode() + b"\n"), (SECOND, GOOD.encode() + b"\n"))
    assert code == 0
    assert shown.endswith(SET)
    assert GOOD not in shown
    assert await password_is(folder, GOOD)


async def test_a_new_password_leaves_the_stored_clearance_unchanged(command: list[str], folder: StateFolder) -> None:
    folder.prepare()
    clearance = Clearance.replacing("", "clear.1", "Mozilla/5.0")
    await admin_document(folder).save(Admin(None, clearance))
    assert piped(command, GOOD.encode())[0] == 0
    assert (await admin_document(folder).load()).clearance == clearance


@pytest.mark.parametrize(
    ("stdin", "reason"),
    [
        pytest.param(b"", "too short", id="nothing"),
        pytest.param(b"\n" + GOOD.encode(), "too short", id="an empty line"),
        pytest.param(b"password48151623\n", "easy to guess", id="weak"),
        pytest.param(b"correct horse \xff\n", "not valid text", id="not UTF-8"),
    ],
)
def test_a_weak_password_exits_1_and_changes_nothing(
    command: list[str], folder: StateFolder, stdin: bytes, reason: str
) -> None:
    code, stdout, stderr = piped(command, stdin)
    assert (code, stdout) == (1, "")
    assert reason in stderr
    assert stderr.endswith("Nothing was changed.\n")
    assert not folder.path.exists()


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        pytest.param([(FIRST, b"password48151623\n")], "easy to guess", id="weak: not asked again"),
        pytest.param(
            [(FIRST, GOOD.encode() + b"\n"), (SECOND, b"another\n")], "the two passwords differ", id="mistyped"
        ),
        pytest.param([(FIRST, b"\x04")], "Aborted!", id="Ctrl-D"),
        pytest.param([(FIRST, b"\x03\n")], "Aborted!", id="Ctrl-C"),  # the newline ends a read that begins after it
    ],
)
def test_a_refused_or_aborted_entry_on_a_terminal_changes_nothing(
    command: list[str], folder: StateFolder, answers: list[tuple[bytes, bytes]], reason: str
) -> None:
    code, shown = typed(command, *answers)
    assert code == 1
    assert reason in shown
    assert not folder.path.exists()


def test_a_password_as_an_argument_is_a_usage_error(command: list[str]) -> None:
    code, stdout, stderr = piped([*command, "correct-horse-battery"], b"")
    assert (code, stdout) == (2, "")
    assert "Usage:" in stderr


def test_a_damaged_admin_file_exits_1_and_stays_unchanged(command: list[str], folder: StateFolder) -> None:
    folder.prepare()
    path = admin_document(folder).path
    path.write_text("{")
    code, stdout, stderr = piped(command, GOOD.encode())
    assert (code, stdout) == (1, "")
    assert f"{path} is not JSON" in stderr
    assert path.read_text() == "{"
