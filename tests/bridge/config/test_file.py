"""Faults of bridge.toml: whatever is in its place, reading ends at once and reports it; and a daemon that reads the
file again accepts it only if it is complete."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from no_files import NO_FILES

from bridge.config.file import MAX_FILE_BYTES, MAX_PROBLEMS, ConfigSource, load
from bridge.config.problems import ConfigError, ConfigUnavailable
from bridge.config.schema import Config

WHOLE = '[limits]\nrpm = 7\n\n[upstream]\nbase_url = "https://example.org"\nmax_attempts = 2\n# as agreed\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bridge.toml"


def complaint(act: Callable[[], Config]) -> str:
    with pytest.raises(ConfigError) as caught:
        act()
    return str(caught.value)


# --- nested too deeply ---


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[limits]\nrpm = " + "[" * 5000 + "]" * 5000, id="lists"),
        pytest.param("rpm = " + "[" * 100_000, id="unclosed lists"),
        pytest.param("[limits]\nrpm = " + "{a = " * 5000 + "1" + "}" * 5000, id="inline tables"),
        pytest.param("[limits]\nrpm = " + "[{a = " * 3000 + "1" + "}]" * 3000, id="both in turn"),
        pytest.param("[limits]\n" + ".".join("a" * 5000) + " = 1", id="a dotted key"),
        pytest.param("[" + ".".join("a" * 5000) + "]\nb = 1", id="a table's name"),
        pytest.param("[[" + ".".join("a" * 5000) + "]]\nb = 1", id="a list of tables"),
        pytest.param("[limits]\nrpm = " + "[" * 250 + "]" * 250, id="nested, but readable"),
    ],
)
def test_a_deeply_nested_configuration_file_is_rejected(path: Path, text: str) -> None:
    path.write_text(text)
    assert complaint(lambda: load(path, {})).startswith(str(path))


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, "{a = " * 5000 + "1" + "}" * 5000, "[" * 50_000])
@pytest.mark.parametrize("place", ["variable", "credential"])
def test_a_deeply_nested_value_of_a_variable_or_credential_is_rejected(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "limits.rpm").write_text(text)
    credential = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    environ = {"LMARENA_BRIDGE_LIMITS__RPM": text} if place == "variable" else credential
    assert "limits.rpm" in complaint(lambda: load(None, environ))


def test_the_number_of_reported_problems_is_bounded(path: Path) -> None:
    path.write_text("[limits]\n" + "".join(f"rpn{number} = 1\n" for number in range(10_000)))
    lines = complaint(lambda: load(path, {})).splitlines()
    assert len(lines) == MAX_PROBLEMS + 1
    assert lines[-1].endswith(f"{10_000 - MAX_PROBLEMS:,} more problems")


# --- paths that are not files ---


PLACED: dict[str, tuple[Callable[[Path], object], str]] = {
    **{name: (NO_FILES[name][0], "pipe") for name in ("a pipe", "a link to a pipe")},
    **{name: NO_FILES[name] for name in ("a socket", "a device", "a terminal")},
    "a huge file": (NO_FILES["a huge file"][0], f"the limit is {MAX_FILE_BYTES:,}"),
    "a directory": (Path.mkdir, "Is a directory"),
    "a loop": (lambda p: p.symlink_to(p), "Too many levels"),
    "a link to nothing": (lambda p: p.symlink_to("nowhere"), "No such file"),
}


@pytest.mark.parametrize(("place", "said"), PLACED.values(), ids=PLACED)
@pytest.mark.parametrize("when", ["start", "reload"])
def test_a_path_that_is_no_regular_file_is_rejected_by_name_without_blocking(
    path: Path, monkeypatch: pytest.MonkeyPatch, place: Callable[[Path], object], said: str, when: str
) -> None:
    monkeypatch.chdir(path.parent)
    source = ConfigSource(path, {})
    if when == "reload":
        path.write_text(WHOLE)
        source.load()
        path.unlink()
    place(path)
    told = complaint(source.reload if when == "reload" else source.load)
    assert said in told
    assert str(path) in told


def test_dev_null_is_read_as_an_empty_configuration_file() -> None:
    source = ConfigSource(Path("/dev/null"), {})
    assert source.load() == source.reload() == Config.read({}, Path("/dev/null"))


@pytest.fixture
def pipe() -> Iterator[tuple[Path, int]]:
    """The path of a pipe, as the shell's <(…) passes it, and the descriptor of its writing end."""
    reading, writing = os.pipe()
    yield Path(f"/dev/fd/{reading}"), writing
    os.close(reading)


def test_a_configuration_from_a_pipe_is_read_once_and_cannot_be_reloaded(pipe: tuple[Path, int]) -> None:
    path, writing = pipe
    os.write(writing, WHOLE.encode())
    os.close(writing)
    source = ConfigSource(path, {})
    assert source.load().limits.rpm == 7
    assert "a pipe can be read only once: restart the daemon" in complaint(source.reload)


def test_reading_a_pipe_that_is_not_closed_times_out(pipe: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    path, writing = pipe
    monkeypatch.setattr("bridge.state.regular_file.PIPE_SECONDS", 0.01)
    os.write(writing, WHOLE.encode())
    assert "whose writer did not close it" in complaint(lambda: load(path, {}))
    os.close(writing)


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOMEM])
def test_a_temporary_disk_error_is_reported_as_unavailable_not_as_a_bad_configuration(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path.write_text(WHOLE)

    def refuse(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigUnavailable, match=os.strerror(number)):
        load(path, {})


# --- reloading ---


@pytest.fixture
def source(path: Path) -> ConfigSource:
    path.write_text(WHOLE)
    os.utime(path, (0, 0))
    source = ConfigSource(path, {})
    assert source.load().limits.rpm == 7
    return source


def put(path: Path, text: str) -> None:
    """Write a file with an old modification time, so that it does not look as if it were being written."""
    path.write_text(text)
    os.utime(path, (0, 0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "is empty now", id="nothing"),
        pytest.param(" \n\t\n\n", "is empty now", id="white space"),
        pytest.param("\N{BYTE ORDER MARK}", "is empty now", id="a mark"),
        pytest.param("# to be written\n", "is empty now", id="a comment"),
        pytest.param("[limits]\n", "has lost its end", id="cut after a table's name"),
        pytest.param("[limits]\nrpm = 7\n", "has lost its end", id="cut after a line"),
        pytest.param(WHOLE[: WHOLE.index("max_att")], "has lost its end", id="cut before the last line"),
        pytest.param("[limits]\nrpm", "is not TOML", id="cut within a key"),
        pytest.param("[limits]\nrpm = 7\n[upstr", "is not TOML", id="another text, cut"),
        pytest.param("\0" * 100, "is not TOML", id="zeros, as after a crash"),
    ],
)
def test_an_incomplete_file_is_rejected_on_reload(path: Path, source: ConfigSource, text: str, said: str) -> None:
    put(path, text)
    told = complaint(source.reload)
    assert said in told or "has lost its end" in told
    assert str(path) in told
    put(path, WHOLE)
    assert source.reload().limits.rpm == 7


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(WHOLE, id="the same"),
        pytest.param(WHOLE.removesuffix("# as agreed\n"), id="without a comment at its end"),
        pytest.param(WHOLE.rstrip(), id="without the last line break"),
        pytest.param('[upstream]\nbase_url = "https://example.org"\n', id="without its beginning"),
        pytest.param("[limits]\nrpm = 7\n# end\n", id="cut, and meant so"),
        pytest.param(WHOLE + "[server]\nport = 9000\n", id="longer"),
        pytest.param("[server]\nport = 9000\n", id="another"),
    ],
)
def test_a_complete_changed_file_is_accepted_on_reload(path: Path, source: ConfigSource, text: str) -> None:
    put(path, text)
    assert source.reload() == load(path, {})


def test_a_file_that_sets_nothing_may_become_empty_before_a_reload(path: Path) -> None:
    put(path, "# nothing\n")
    source = ConfigSource(path, {})
    source.load()
    put(path, "")
    assert source.reload() == Config.read({}, path)


def test_a_reload_finds_a_new_file_and_reports_its_later_deletion(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    source = ConfigSource(None, {})
    assert source.load() == Config.read({})
    put(path, WHOLE)
    assert source.reload().limits.rpm == 7
    path.unlink()
    assert "No such file" in complaint(source.reload)


@pytest.mark.parametrize("cuts", [1, 2, 5])
def test_a_reload_waits_until_the_file_is_completely_written(
    path: Path, source: ConfigSource, monkeypatch: pytest.MonkeyPatch, cuts: int
) -> None:
    """The new text arrives in pieces, and each of its beginnings could pass for a complete file."""
    text = "[limits]\nrpm = 8\nconcurrency = 8\nstreams = 800\n[server]\nport = 9000\n"
    lines = text.splitlines(keepends=True)[:cuts]
    path.write_text("".join(lines))
    rest = iter([*text.splitlines(keepends=True)[cuts:]])

    def write_on(_: float) -> None:
        with path.open("a") as file:
            file.write(next(rest, ""))

    monkeypatch.setattr(time, "sleep", write_on)
    assert source.reload() == load(path, {})
    assert path.read_text() == text
