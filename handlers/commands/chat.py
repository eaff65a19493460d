"""`chat`: chat in the terminal through the API of a running bridge."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import click

from bridge.config.schema import Config
from handlers.commands.chat_client import AnswerStream, Bridge, ListedModel
from handlers.commands.config_option import config_option, read_config
from handlers.commands.standard_input import is_terminal, read_all
from upstream.protocol.printable import readable

#: The largest question on standard input.
_MAX_QUESTION_BYTES: Final = 16 * 1024 * 1024
_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 — an address to connect to


key_option: Final = click.option(
    "--key",
    envvar="OPENAI_API_KEY",
    show_envvar=True,
    metavar="KEY",
    help="An API key. It is safer in the environment, where other users cannot see it.",
)
url_option: Final = click.option(
    "--url",
    envvar="OPENAI_BASE_URL",
    show_envvar=True,
    help="The bridge's URL; by default the address in the configuration.",
)


@click.command()
@config_option
@click.option("--model", metavar="NAME", help="The model; by default the first one that the bridge lists.")
@key_option
@url_option
@click.argument("text", nargs=-1)
def chat(model: str | None, key: str | None, url: str | None, text: tuple[str, ...]) -> None:
    """Chat in the terminal through a running bridge.

    With TEXT, or with text on standard input, it streams one answer; otherwise it prompts for messages until Ctrl-D,
    with commands such as /model and /help. On a terminal, answers are rendered as Markdown, otherwise they are plain.
    """
    bridge = bridge_at(url, key)
    if not text and is_terminal() and sys.stdout.isatty():
        from handlers.commands.chat_session import converse  # deferred: its imports take a quarter of a second

        listed = bridge.models()
        converse(bridge, _chosen(listed, model), listed)
        return
    words = " ".join(text) or read_all(_MAX_QUESTION_BYTES).decode(errors="replace")
    if not words.strip():
        raise click.UsageError("there is no text to send")
    asked = bridge.answer(model or _chosen(bridge.models(), None).name, [{"role": "user", "content": words}])
    if sys.stdout.isatty():
        from handlers.commands.chat_screen import Screen

        shown = Screen().show(asked)
        if shown.error is not None:
            raise click.ClickException(shown.error or "the answer was stopped")
    else:
        _write(asked)


def bridge_at(url: str | None, key: str | None) -> Bridge:
    """The bridge at a URL, by default at the configured address. Raises UsageError."""
    key = (key or "").strip()
    if not (key and key.isascii() and key.isprintable()):
        raise click.UsageError("an API key is required: set OPENAI_API_KEY (lmarena-bridge keys add creates a key)")
    return Bridge(_base_url(url) if url else _configured_url(read_config()), key)


def _chosen(listed: Sequence[ListedModel], name: str | None) -> ListedModel:
    """The named model, which need not be listed, since it may be an alias; without a name, the first one."""
    if name is None:
        if not listed:
            raise click.ClickException("the bridge lists no model for this key: name one with --model")
        return listed[0]
    return next((model for model in listed if model.name == name), ListedModel(name, draws=False))


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
        named = bool(parts.hostname and parts.hostname.encode("idna"))
        usable = named and parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:  # or UnicodeError, if it is not a valid host name
        usable = False
    else:
        url = url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")
    if not (usable and url.isascii() and url.isprintable() and " " not in url):
        raise click.UsageError("--url (or OPENAI_BASE_URL): must be a URL such as http://127.0.0.1:8000/v1")
    return url


def _write(asked: AnswerStream) -> None:
    """Stream an answer: its text to stdout as it is, its reasoning to stderr."""
    thinking = begun = False
    with asked:
        try:
            for delta in asked:
                if delta.thought:
                    thinking = True
                    shown = readable(delta.thought) if sys.stderr.isatty() else delta.thought
                    click.secho(shown, nl=False, err=True, dim=True)
                if delta.text:
                    if thinking:
                        thinking = False
                        click.echo("\n", err=True)
                    begun = True
                    click.echo(delta.text, nl=False)
        except click.ClickException:
            if begun:
                click.echo()  # ends the line of the text so far
            raise
    click.echo()
