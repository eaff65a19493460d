"""`chat`: chat in the terminal through the API of a running bridge."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from importlib import import_module
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import click

from bridge.config.schema import Config
from handlers.commands.config_option import config_option, read_config
from handlers.commands.standard_input import is_terminal, read_all
from upstream.protocol.printable import printable, readable

ChatMessage: TypeAlias = dict[str, str]

#: The timeout of connecting, in seconds; later the bridge's own timeouts apply.
_CONNECT_SECONDS: Final = 10.0
#: The largest line of a stream, whole answer, and question on standard input.
_MAX_LINE_BYTES: Final = 4 * 1024 * 1024
_MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
_MAX_QUESTION_BYTES: Final = 16 * 1024 * 1024
_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 — an address to connect to


@click.command()
@config_option
@click.option("--model", metavar="NAME", help="The model; by default the first that the bridge lists.")
@click.option(
    "--key",
    envvar="OPENAI_API_KEY",
    show_envvar=True,
    metavar="KEY",
    help="An API key. Safer in the environment, where other users cannot see it.",
)
@click.option("--url", help="The bridge's URL; by default the address in the configuration.")
@click.argument("text", nargs=-1)
def chat(model: str | None, key: str | None, url: str | None, text: tuple[str, ...]) -> None:
    """Chat in the terminal through a running bridge.

    With TEXT, or with text on standard input, it streams one answer; otherwise it prompts for messages until Ctrl-D.
    """
    key = (key or "").strip()
    if not (key and key.isascii() and key.isprintable()):
        raise click.UsageError("an API key is needed: set OPENAI_API_KEY (lmarena-bridge keys add makes one)")
    bridge = _Bridge(_base_url(url) if url else _configured_url(read_config()), key)
    model = model or bridge.first_model()
    if not text and is_terminal():
        _converse(bridge, model)
        return
    words = " ".join(text) or read_all(_MAX_QUESTION_BYTES).decode(errors="replace")
    if not words.strip():
        raise click.UsageError("there is no text to send")
    _answer(bridge, model, [{"role": "user", "content": words}])


def _configured_url(config: Config) -> str:
    server = config.server
    if not server.port:
        raise click.UsageError("server.port is 0 (any free port): give the bridge's URL with --url")
    host = _EVERY_ADDRESS.get(server.host, server.host)
    return f"{'https' if server.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{server.port}/v1"


def _base_url(url: str) -> str:
    """`url`, with the API's prefix appended if it has no path."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    else:
        url = url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")
    if not (usable and url.isascii() and url.isprintable() and " " not in url):
        raise click.UsageError("--url: must be a URL such as http://127.0.0.1:8000/v1")
    return url


def _converse(bridge: _Bridge, model: str) -> None:
    with suppress(ImportError):
        import_module("readline")  # gives the prompt line editing and a history
    click.echo(f"{printable(model)}. Ctrl-C stops an answer, Ctrl-D ends the chat.", err=True)
    history: list[ChatMessage] = []
    while True:
        try:
            words = click.prompt("you", prompt_suffix="> ")
        except click.Abort:
            click.echo(err=True)
            return
        history.append({"role": "user", "content": words})
        try:
            history.append({"role": "assistant", "content": _answer(bridge, model, history)})
        except click.ClickException as error:
            error.show()
            history.pop()
        except KeyboardInterrupt:
            click.echo(err=True)
            history.pop()


def _answer(bridge: _Bridge, model: str, messages: list[ChatMessage]) -> str:
    """Stream an answer: its text to stdout, its reasoning to stderr. Returns the text."""
    parts: list[str] = []
    thinking = False
    with closing(bridge.stream(model, messages)) as deltas:
        for delta in deltas:
            if thought := delta.get("reasoning_content"):
                thinking = True
                click.secho(_for_output(thought, sys.stderr.isatty()), nl=False, err=True, dim=True)
            if text := delta.get("content"):
                if thinking:
                    thinking = False
                    click.echo("\n", err=True)
                parts.append(text)
                click.echo(_for_output(text, sys.stdout.isatty()), nl=False)
    click.echo()
    return "".join(parts)


def _for_output(text: str, on_terminal: bool) -> str:
    """A model's text, on a terminal without control characters."""
    return readable(text) if on_terminal else text


@dataclass(frozen=True, slots=True)
class _Bridge:
    """A client of a bridge's API. Its methods raise ClickException with the API's error message."""

    base_url: str
    key: str = field(repr=False)

    def first_model(self) -> str:
        """The model that the bridge lists first."""
        with closing(self._connect()) as connection:
            response = self._ask(connection, "GET", "/models")
            with self._reporting_errors():
                listed = _object(self._read(response)).get("data")
        match listed:
            case [{"id": str(name)}, *_]:
                return name
        raise click.ClickException("the bridge lists no model for this key: name one with --model")

    def stream(self, model: str, messages: list[ChatMessage]) -> Generator[dict[str, Any]]:
        """Send a request and yield each delta of the answer; raises also if the answer breaks off."""
        body = json.dumps({"model": model, "messages": messages, "stream": True}).encode()
        with closing(self._connect()) as connection:
            response = self._ask(connection, "POST", "/chat/completions", body)
            while True:
                with self._reporting_errors():
                    line = response.readline(_MAX_LINE_BYTES)
                if not line:
                    raise click.ClickException("the answer broke off before its end")
                if len(line) == _MAX_LINE_BYTES:
                    raise click.ClickException(f"{self.base_url} sends lines that are too long: is that a bridge?")
                field_name, _, data = line.strip().partition(b": ")
                if field_name != b"data":
                    continue
                if data == b"[DONE]":
                    return
                with self._reporting_errors():
                    event = _object(data)
                match event:
                    case {"error": {"message": str(message)}}:
                        click.echo()  # ends the line of the text so far
                        raise click.ClickException(readable(message))
                    case {"choices": [{"delta": dict(delta)}, *_]}:
                        yield delta

    def _connect(self) -> HTTPConnection:
        url = urlsplit(self.base_url)
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=_CONNECT_SECONDS)
        try:
            connection.connect()
        except OSError as error:
            why = f"no bridge answers at {self.base_url}: {error.strerror or error}"
            raise click.ClickException(f"{why}. Is it running? lmarena-bridge serve") from error
        connection.sock.settimeout(None)
        return connection

    def _ask(self, connection: HTTPConnection, method: str, path: str, body: bytes | None = None) -> HTTPResponse:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        with self._reporting_errors():
            connection.request(method, urlsplit(self.base_url).path + path, body, headers)
            response = connection.getresponse()
            if response.status == HTTPStatus.OK:
                return response
            text = self._read(response)
        with suppress(ValueError, RecursionError):
            match json.loads(text):
                case {"error": {"message": str(message)}}:
                    raise click.ClickException(readable(message))
        raise click.ClickException(f"{self.base_url} answers {response.status}: is that a bridge?")

    def _read(self, response: HTTPResponse) -> bytes:
        data = response.read(_MAX_ANSWER_BYTES + 1)
        if len(data) > _MAX_ANSWER_BYTES:
            raise click.ClickException(f"{self.base_url} sends an answer that is too long: is that a bridge?")
        return data

    @contextmanager
    def _reporting_errors(self) -> Iterator[None]:
        """Turn errors of the connection and of parsing into ClickException."""
        try:
            yield
        except (OSError, HTTPException) as error:
            raise click.ClickException(f"the connection to {self.base_url} broke") from error
        except (ValueError, RecursionError) as error:
            raise click.ClickException(f"{self.base_url} does not answer with JSON: is that a bridge?") from error


def _object(data: bytes) -> dict[str, Any]:
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value
