"""Logging: every line is readable and attributable, and none contains a secret, however the secret got in."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Literal, TextIO

import pytest
from aiohttp.http_exceptions import BadHttpMethod, InvalidHeader, LineTooLong, TransferEncodingError

from bridge import log, log_lines

Format = Literal["text", "json"]
FORMATS: tuple[Format, ...] = ("text", "json")

logger = logging.getLogger("bridge.tests")


@pytest.fixture
def start() -> Callable[..., io.StringIO]:
    def start(format: Format = "text", level: str = "debug", environ: dict[str, str] | None = None) -> io.StringIO:  # noqa: A002 - as in configure
        stream = io.StringIO()
        log.configure(level, format, stream, environ=environ or {})
        return stream

    return start


def entries(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class TestSecrets:
    """Each of these secrets contains CANARY, which must never be logged, while the text around it must."""

    SECRETS = (
        pytest.param("sk-lmab-CANARY0123456789abcdefABCDEF012345", id="our key"),
        pytest.param("sk-proj-CANARY0123456789abcdef", id="another's key"),
        pytest.param("base64-eyJhY2Nlc3NfdG9rZW4iOiJDQU5BUlkCANARY", id="session cookie"),
        pytest.param("arena-auth-prod-v1=CANARY", id="named cookie"),
        pytest.param("arena-auth-prod-v1.1=CANARY%3D", id="piece of a cookie"),
        pytest.param("'arena-auth-prod-v1.0': 'CANARY'", id="cookie in a dict"),
        pytest.param("('cf_clearance', 'CANARY')", id="cookie in a pair"),
        pytest.param("cf_clearance=CANARY.abc-1.2.1.1-x_y", id="clearance"),
        pytest.param("Authorization: Bearer CANARY", id="bearer"),
        pytest.param("b'authorization: bearer \\x01CANARY'", id="bearer in bytes"),
        pytest.param("eyJhbGciOiJIUzI1NiJ9.eyJDQU5BUlkCANARY.c2lnCANARY_-", id="JWT"),
        pytest.param(
            "https://r2.test/k?X-Amz-Credential=CANARY%2F2025&X-Amz-Expires=3600", id="signed URL, credential"
        ),
        pytest.param("https://r2.test/k?x-amz-signature=CANARY&x=1", id="signed URL, signature"),
    )

    @pytest.mark.parametrize("secret", SECRETS)
    @pytest.mark.parametrize("format_", FORMATS)
    def test_secrets_are_redacted_anywhere_in_a_record(
        self, start: Callable[..., io.StringIO], secret: str, format_: Format
    ) -> None:
        stream = start(format_)
        logger.info(f"before {secret} after")  # noqa: G004 - a secret in the message itself
        logger.info("before %s and %r after", secret, {"header": secret})
        log.event(logger, logging.INFO, "before after", note=f"before {secret} after", other=[secret])
        try:
            try:
                raise KeyError(secret)
            except KeyError as error:
                raise ValueError(f"before {secret} after") from error
        except ValueError:
            logger.exception("before after")
        logging.getLogger("aiohttp.access").info('127.0.0.1 "GET /%s" before after', secret)
        logger.info("before after", stack_info=True, extra={"fields": {"cookie": secret}})
        with_id = copy_context()
        with_id.run(log.bind_request_id, secret)
        with_id.run(logger.info, "before after")
        written = stream.getvalue()
        assert "CANARY" not in written
        assert written.count("[secret:") >= 7
        assert written.count("before") >= 7
        assert written.count("after") >= 7

    @pytest.mark.parametrize("name", ["cf_clearance", "arena-auth-prod-v1", "x-amz-signature"])
    def test_fields_with_the_name_of_a_secret_are_redacted(self, start: Callable[..., io.StringIO], name: str) -> None:
        stream = start("json")
        log.event(logger, logging.INFO, "cookie", **{name: "CANARY"})
        assert entries(stream)[0][name] == "[secret:6]"

    def test_several_secrets_in_one_line_are_redacted(self) -> None:
        line = "arena-auth-prod-v1.0=base64-abc; arena-auth-prod-v1.1=def; cf_clearance=ghi; theme=dark"
        assert log.redact(line) == (
            "arena-auth-prod-v1.0=[secret:10]; arena-auth-prod-v1.1=[secret:3]; cf_clearance=[secret:3]; theme=dark"
        )

    @pytest.mark.parametrize("secret", SECRETS)
    def test_redacting_twice_changes_nothing_more(self, secret: str) -> None:
        assert log.redact(log.redact(secret)) == log.redact(secret)

    @pytest.mark.parametrize(
        "text",
        [
            "a base64-encoded picture",
            "risk-management-and-disk-space",
            "the key ends in a1b2",
            "https://r2.test/k?v=1",
            "中文 ok",
        ],
    )
    def test_text_without_secrets_is_not_redacted(self, text: str) -> None:
        assert log.redact(text) == text

    def test_arguments_that_do_not_fit_the_message_are_not_logged(
        self, start: Callable[..., io.StringIO], capsys: pytest.CaptureFixture[str]
    ) -> None:
        stream = start()
        record = logger.makeRecord(logger.name, logging.INFO, __file__, 1, "count %d", ("sk-lmab-CANARY",), None)
        logging.getLogger().handlers[-1].handle(record)  # pytest's own handler would fail the test first
        assert "count %d (its arguments do not fit)" in stream.getvalue()
        assert "CANARY" not in stream.getvalue() + capsys.readouterr().err

    @pytest.mark.parametrize(
        "error",
        [
            InvalidHeader(b"X-Odd: CANARY\x01"),
            LineTooLong(b"Cookie: CANARY", 8190),
            BadHttpMethod("CANARY"),
            TransferEncodingError("CANARY"),
        ],
        ids=lambda error: type(error).__name__,
    )
    @pytest.mark.parametrize("format_", FORMATS)
    def test_parse_errors_of_aiohttp_are_logged_in_one_line_without_the_bytes(
        self, start: Callable[..., io.StringIO], error: Exception, format_: Format
    ) -> None:
        stream = start(format_)
        server = logging.getLogger("aiohttp.server")
        server.error("Error handling request from %s", "127.0.0.1", exc_info=error)
        wrapped = RuntimeError("payload CANARY")
        wrapped.__cause__ = error
        server.error("Unhandled exception", exc_info=wrapped)
        written = stream.getvalue()
        assert "CANARY" not in written
        assert written.count("\n") == 2
        assert f"Error handling request from 127.0.0.1: {type(error).__name__}" in written

    def test_other_errors_of_the_aiohttp_server_keep_their_traceback(self, start: Callable[..., io.StringIO]) -> None:
        stream = start()
        logging.getLogger("aiohttp.server").error("Unhandled exception", exc_info=LookupError("what it was"))
        assert "LookupError: what it was" in stream.getvalue()


class TestText:
    def test_a_text_line_has_time_level_message_and_quoted_fields(self, start: Callable[..., io.StringIO]) -> None:
        stream = start()
        log.event(
            logger, logging.INFO, "answered", status=200, model="gemini 3", empty="", quote='a"b', ok=True, none=None
        )
        stamp, rest = stream.getvalue().split(" ", 1)
        assert re.fullmatch(r"\d\d:\d\d:\d\d", stamp)
        assert rest == 'INFO  answered status=200 model="gemini 3" empty="" quote="a\\"b" ok=True none=None\n'

    def test_a_traceback_is_indented_so_that_it_cannot_forge_a_line(self, start: Callable[..., io.StringIO]) -> None:
        stream = start()
        logger.error("failed", exc_info=LookupError("one\n12:00:00 INFO  forged"))
        first, *others = stream.getvalue().splitlines()
        assert first.endswith("ERROR failed")
        assert "    12:00:00 INFO  forged" in others
        assert all(line.startswith("    ") for line in others)

    def test_control_characters_in_a_record_are_escaped(self, start: Callable[..., io.StringIO]) -> None:
        stream = start()
        odd = "\x1b[31m \x9b \u202e \u2066 \u2028 \r\n \x00 \ud83d"
        log.event(logger, logging.INFO, odd, field=odd)
        logger.error("x", exc_info=LookupError(odd))
        written = stream.getvalue()
        assert all(char.isprintable() or char == "\n" for char in written)
        assert "\\x1b[31m \\x9b \\u202e \\u2066 \\u2028 \\r\\n \\x00 \\ud83d" in written

    def test_text_in_any_script_is_logged_unescaped(self, start: Callable[..., io.StringIO]) -> None:
        stream = start()
        logger.info("你好 héllo 👋")
        assert "你好 héllo 👋" in stream.getvalue()


class TestJournal:
    @pytest.fixture
    def journal(self, tmp_path: Path) -> Iterator[TextIO]:
        """A stream that counts as connected to the journal if the variables of `environ` are set."""
        with (tmp_path / "journal").open("w+") as stream:
            yield stream

    def environ(self, stream: TextIO) -> dict[str, str]:
        status = os.fstat(stream.fileno())
        return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}

    def lines(self, stream: TextIO) -> list[str]:
        stream.seek(0)
        return stream.read().splitlines()

    def test_text_lines_for_the_journal_have_a_priority_instead_of_the_time(self, journal: TextIO) -> None:
        log.configure("debug", "text", journal, environ=self.environ(journal))
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.CRITICAL):
            logger.log(level, "hello")
        logger.error("failed", exc_info=LookupError("why"))
        lines = self.lines(journal)
        assert lines[:4] == ["<7>DEBUG hello", "<6>INFO  hello", "<4>WARNING hello", "<2>CRITICAL hello"]
        assert all(line.startswith("<3>") for line in lines[4:])

    def test_json_lines_for_the_journal_have_a_priority_instead_of_the_time(self, journal: TextIO) -> None:
        log.configure("debug", "json", journal, environ=self.environ(journal))
        logger.warning("hello")
        (line,) = self.lines(journal)
        assert line.startswith('<4>{"level": "warning", ')
        assert "time" not in json.loads(line.removeprefix("<4>"))

    @pytest.mark.parametrize("environ", [{}, {"JOURNAL_STREAM": "8:12345"}], ids=["none", "another stream's"])
    def test_lines_for_other_streams_than_the_journal_have_the_time(
        self, journal: TextIO, environ: dict[str, str]
    ) -> None:
        log.configure("debug", "text", journal, environ=environ)
        logger.info("hello")
        (line,) = self.lines(journal)
        assert re.fullmatch(r"\d\d:\d\d:\d\d INFO  hello", line)


class TestWorker:
    def test_each_line_carries_the_number_of_the_worker(self) -> None:
        stream = io.StringIO()
        log.configure("debug", "text", stream, worker=3)
        log.event(logger, logging.INFO, "hello", status=200)
        log.configure("debug", "json", stream, worker=3)
        logger.info("hello")
        text, json_line = stream.getvalue().splitlines()
        assert text.endswith("INFO  hello status=200 worker=3")
        assert json.loads(json_line)["worker"] == 3


class TestJson:
    def test_each_json_line_is_one_object_with_all_fields(self, start: Callable[..., io.StringIO]) -> None:
        stream = start("json")
        log.event(
            logger,
            logging.WARNING,
            "two\nlines \u202e",
            status=200,
            seconds=1.5,
            odd=float("nan"),
            error=LookupError("k"),
        )
        (entry,) = entries(stream)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", str(entry.pop("time")))
        assert entry == {
            "level": "warning",
            "logger": "bridge.tests",
            "message": "two\nlines \u202e",
            "request_id": None,
            "status": 200,
            "seconds": 1.5,
            "odd": "nan",
            "error": "k",
        }
        assert stream.getvalue().isascii()

    def test_an_exception_is_a_field_of_the_json_object(self, start: Callable[..., io.StringIO]) -> None:
        stream = start("json")
        logger.error("failed", exc_info=LookupError("why"))
        assert entries(stream)[0]["exception"] == "LookupError: why"

    def test_a_field_cannot_replace_the_message_or_the_level(self, start: Callable[..., io.StringIO]) -> None:
        stream = start("json")
        log.event(logger, logging.INFO, "real", message="other", level="none")
        assert (entries(stream)[0]["message"], entries(stream)[0]["level"]) == ("real", "info")


@pytest.mark.parametrize("format_", FORMATS)
def test_a_long_record_is_shortened_and_stays_well_formed(start: Callable[..., io.StringIO], format_: Format) -> None:
    stream = start(format_)
    log.event(logger, logging.INFO, "begin" + "\x00" * 100_000, field="y" * 100_000)
    logger.error("begin", exc_info=LookupError("z" * 100_000 + " the end"))
    for line in stream.getvalue().splitlines():
        assert len(line) <= log_lines.MAX_RECORD_CHARS + 1
    assert stream.getvalue().count("begin") == 2
    assert " the end" in stream.getvalue()
    assert " more]" in stream.getvalue()
    if format_ == "json":
        assert len(entries(stream)) == 2


@pytest.mark.parametrize("format_", FORMATS)
async def test_each_line_carries_the_request_id_of_its_context(
    start: Callable[..., io.StringIO], format_: Format
) -> None:
    stream = start(format_)

    async def serve(name: str) -> None:
        log.bind_request_id(name)
        await asyncio.sleep(0)
        log.event(logger, logging.INFO, f"serving {name}")

    async with asyncio.TaskGroup() as group:
        for name in ("req-a", "req-b"):
            group.create_task(serve(name))
    lines = stream.getvalue().splitlines()
    if format_ == "json":
        assert [entry["request_id"] for entry in entries(stream)] == ["req-a", "req-b"]
    else:
        assert [line.split(" ", 1)[1] for line in lines] == [
            "INFO  serving req-a request_id=req-a",
            "INFO  serving req-b request_id=req-b",
        ]


def test_configuring_the_log_again_replaces_only_the_bridges_handler(start: Callable[..., io.StringIO]) -> None:
    others = list(logging.getLogger().handlers)
    first = start("text", "info")
    second = start("json", "warning")
    assert len(logging.getLogger().handlers) == len(others) + 1
    assert all(other in logging.getLogger().handlers for other in others)
    logger.info("too low")
    logger.warning("once")
    assert first.getvalue() == ""
    assert [entry["message"] for entry in entries(second)] == ["once"]


def test_an_unknown_log_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        log.configure("loud", "text", io.StringIO())
