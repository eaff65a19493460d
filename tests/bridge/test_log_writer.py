"""The log's thread: it keeps the order, never makes its callers wait, and reports what it lost."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import logging
import os
import socket
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from bridge import log
from bridge.log_writer import MAX_WAITING_BYTES, Writer

LINE = b"x" * 999 + b"\n"
#: The lines of each process; those of all processes together are more than a pipe holds.
SHARED_LINES = 2000


def lost(lines: int) -> bytes:
    return f"lost {lines}\n".encode()


def numbered(number: int) -> bytes:
    return f"{number:07d} ".encode() + LINE


class Reader:
    """The other end of a pipe, a socket or a terminal, which reads only when asked."""

    def __init__(self, kind: str) -> None:
        if kind == "pipe":
            self.end, self.writing = os.pipe()
        elif kind == "terminal":
            self.end, self.writing = os.openpty()
            tty.setraw(self.writing)
        else:
            ours, theirs = socket.socketpair()
            self.end, self.writing = ours.detach(), theirs.detach()
        if kind == "nonblocking pipe":
            os.set_blocking(self.writing, False)
        self.data = b""
        self._open = {self.end, self.writing}

    def read_until(self, text: bytes) -> list[bytes]:
        while text not in self.data:
            self.data += os.read(self.end, 1 << 16)
        return self.data.splitlines(keepends=True)

    def leave(self) -> None:
        os.close(self.end)
        self._open.discard(self.end)

    def close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)


KINDS = ("pipe", "socket", "terminal", "nonblocking pipe")


@pytest.fixture(params=KINDS)
def reader(request: pytest.FixtureRequest) -> Iterator[Reader]:
    reader = Reader(request.param)
    yield reader
    reader.close()


def fill(writer: Writer, lines: int) -> None:
    for number in range(lines):
        writer.write(lambda number=number: numbered(number), lost)  # type: ignore[misc]


def test_log_lines_keep_their_order(reader: Reader) -> None:
    writer = Writer(reader.writing)
    fill(writer, 200)
    assert reader.read_until(b"0000199 ")[:199] == [numbered(number) for number in range(199)]
    writer.close()


def test_processes_that_share_a_pipe_do_not_cut_each_others_lines() -> None:
    """Each line comes from one process only, although all write as fast as they can."""
    reader = Reader("pipe")
    writers = [Writer(reader.writing, shared=True) for _ in range(3)]
    for number in range(SHARED_LINES):
        for name, writer in zip(b"abc", writers, strict=True):
            line = bytes([name]) * (number % 200 + 1) + b"\n"
            writer.write(lambda line=line: line, lost)  # type: ignore[misc]
    while reader.data.count(b"\n") < 3 * SHARED_LINES:
        reader.data += os.read(reader.end, 1 << 12)
    for writer in writers:
        writer.close()
    reader.close()
    assert all(len(set(line)) == 1 for line in reader.data.splitlines())


def test_logging_does_not_wait_for_a_missing_reader(reader: Reader) -> None:
    writer = Writer(reader.writing)
    fill(writer, 10_000)  # ten times what may wait: writing on this thread would hang the test
    kept = 10_000 - writer.lost
    assert MAX_WAITING_BYTES // len(numbered(0)) <= kept < 10_000
    writer.flush(lost)  # this returns, too
    reader.read_until(numbered(kept - 1)[:8])
    writer.flush(lost)
    writer.write(lambda: b"again\n", lost)
    lines = reader.read_until(b"again\n")
    assert lines == [*(numbered(number) for number in range(kept)), lost(10_000 - kept), b"again\n"]
    writer.close()


def test_dropped_lines_are_not_formatted() -> None:
    reader = Reader("pipe")
    writer = Writer(reader.writing)
    fill(writer, 5_000)
    made: list[int] = []
    writer.write(lambda: made.append(1) or b"line\n", lost)  # type: ignore[func-returns-value]
    assert made == []
    reader.close()


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_closed_reader_loses_lines_without_an_error(kind: str) -> None:
    reader = Reader(kind)
    reader.leave()
    writer = Writer(reader.writing)
    for _ in range(100):
        fill(writer, 100)
        writer.flush(lost)
    assert writer.lost > 0
    writer.close()
    reader.close()


def test_lines_are_complete_again_after_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real, room = os.write, [15]

    def write(descriptor: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = real(descriptor, data[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr("bridge.log_writer.os.write", write)
    with (tmp_path / "log").open("wb") as file:
        writer = Writer(file.fileno())
        for text in (b"first line\n", b"second line\n", b"third line\n"):
            writer.write(lambda text=text: text, lost)  # type: ignore[misc]
            writer.flush(lost)
        room[0] = 1000
        writer.write(lambda: b"fourth line\n", lost)
        writer.flush(lost)
        writer.close()
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert lines[0] == b"first line"
    assert lines[1] == b"seco"
    assert sum(int(line.split()[1]) for line in lines if line.startswith(b"lost")) >= 2
    assert lines[-1] == b"fourth line"


# --- as logging uses it ---


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("journal", [False, True], ids=["plain", "journal"])
def test_lost_lines_are_reported_in_the_format_of_the_log(form: Literal["text", "json"], *, journal: bool) -> None:
    reader = Reader("pipe")
    status = os.fstat(reader.writing)
    environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"} if journal else {}
    logger = logging.getLogger("bridge.tests")
    stream = os.fdopen(reader.writing, "w")
    log.configure("info", form, stream, threaded=True, environ=environ)
    for number in range(5_000):
        log.event(logger, logging.INFO, f"line {number} {'y' * 1000}")
    seen = b""
    while b"line 0 " not in seen or len(seen) < MAX_WAITING_BYTES:
        seen += os.read(reader.end, 1 << 16)
    log.configure("info", form, stream, threaded=True, environ=environ)  # as on a reload, which loses no line
    logger.info("the last")
    while b"the last" not in seen:
        seen += os.read(reader.end, 1 << 16)
    lines = seen.decode().splitlines()
    assert all(line.startswith("<") for line in lines) == journal
    told = next(at for at, line in enumerate(lines) if "lines of the log are missing here" in line)
    assert told == len(lines) - 2
    if form == "json":
        entry = json.loads(lines[told].partition(">")[2] if journal else lines[told])
        assert (entry["level"], entry["lines"]) == ("warning", 5_000 - told)
    else:
        assert f"lines={5_000 - told}" in lines[told]
    stream.close()
    os.close(reader.end)


def test_a_stream_without_a_file_descriptor_is_written_at_once() -> None:
    stream = io.StringIO()
    log.configure("info", "text", stream, threaded=True)
    logging.getLogger("bridge.tests").info("hello")
    assert stream.getvalue().endswith("INFO  hello\n")


def test_errors_in_finalizers_are_logged() -> None:
    stream = io.StringIO()
    log.configure("info", "text", stream, threaded=True)

    class Failing:
        def __del__(self) -> None:
            raise LookupError("in a finalizer")

    Failing()
    assert "LookupError: in a finalizer" in stream.getvalue()


def test_the_pipe_of_these_tests_is_smaller_than_the_queue_of_the_writer() -> None:
    """Otherwise the tests above would prove nothing."""
    reader = Reader("pipe")
    assert fcntl.fcntl(reader.writing, fcntl.F_GETPIPE_SZ) < MAX_WAITING_BYTES
    reader.close()
