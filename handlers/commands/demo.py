"""`demo`: run the daemon against the embedded arena, in a temporary state folder."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click

from bridge import log
from bridge.access import keys, passwords
from bridge.access.keys import ApiKey
from bridge.config.file import load
from bridge.config.schema import Config
from bridge.state.admin import Admin, admin_document
from bridge.state.documents import StateFolder
from bridge.state.state import accounts_document, keys_document
from handlers.commands.config_option import config_option, config_path
from handlers.commands.demo_history import DAY, TOOLS, live_in
from handlers.commands.trouble import PATH as TROUBLE
from handlers.commands.trouble import add_trouble
from handlers.daemon.service import Service
from handlers.daemon.sockets import open_sockets
from upstream.accounts import Account
from upstream.arena import JSON_MODEL, Arena, builtin_models, tool_models
from upstream.protocol import cookies

#: The pause before each delta, in seconds: about as fast as a model writes.
PACE_SECONDS: Final = 0.03
HOST: Final = "127.0.0.1"
PROGRAM: Final = "lmarena-bridge"
#: How long a lived-in demo seems to have run.
DAYS: Final = 30
#: Models that call tools: one correctly, one wrongly until it is asked for a correction.
TOOL_MODELS: Final = ("tools-asked-for", "tools-wrong-first")


@click.command()
@config_option
@click.option("--host", default=HOST, show_default=True, help="Address of the bridge; the arena stays on loopback.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="Port of the bridge.")
@click.option(
    "--lived-in",
    is_flag=True,
    help="Start with a made-up month of requests, so that the dashboard's pages have content.",
)
def demo(host: str, port: int, lived_in: bool) -> None:
    """Run the daemon against an embedded arena.

    It needs no account and no network: it makes a key and an account in a temporary state folder, and prints a command
    to paste. It reads no configuration except that of --config, and sets address, state and upstream itself.
    """
    with TemporaryDirectory(prefix="lmarena-bridge-demo-") as folder, suppress(KeyboardInterrupt):
        asyncio.run(_run(Path(folder), config_path(), host, port, lived_in=lived_in))


async def _run(folder: Path, path: Path | None, host: str, port: int, *, lived_in: bool) -> None:
    models = (*builtin_models(), *tool_models(*TOOL_MODELS, JSON_MODEL))
    async with Arena(pace=PACE_SECONDS, models=models) as arena:
        config = _config(folder, path, arena)
        log.configure(config.log.level, config.log.format, threaded=True)
        state = StateFolder(config.server.state_dir)
        state.prepare()
        secret, key = keys.generate("demo", now=time.time())
        password = secrets.token_urlsafe(12)
        await keys_document(state).save((key,))
        await accounts_document(state).save((_account("demo", arena),))
        await admin_document(state).save(Admin(passwords.hash_password(password)))
        if lived_in:
            await _live_in(state, key, arena)
        with _sockets(host, port) as sockets:
            service = Service(
                config,
                lambda: config,
                lambda url, _: _introduce(url, secret, password, arena),
                sockets,
                extend=partial(add_trouble, arena=arena),
            )
            await service.run()


def _account(label: str, arena: Arena) -> Account:
    return Account(label, cookies.decode(arena.sign_in(f"{label}@example.org").cookie_value))


async def _live_in(state: StateFolder, key: ApiKey, arena: Arena) -> None:
    """Fill the state with a month of requests, and with their keys and accounts."""
    click.echo("Making up a month of requests, which takes some seconds …", err=True)
    now = time.time()
    labels = ("demo", "office")
    models = [model.public_name for model in arena.models if model.organization][:14]
    await live_in(state, models, labels, now=now, days=DAYS)
    await accounts_document(state).save(tuple(_account(label, arena) for label in labels))
    await keys_document(state).save((key, *(tool.key(at=now - DAYS * DAY)[1] for tool in TOOLS)))


def _config(folder: Path, path: Path | None, arena: Arena) -> Config:
    """The configuration of `path`, or the defaults, with the demo's own address, state and upstream."""
    if path is None:
        path = folder / "bridge.toml"
        path.touch()
    own = {
        "SERVER__STATE_DIR": str(folder / "state"),
        "SERVER__HOST": HOST,  # without effect, since the sockets are bound already
        "SERVER__TLS_CERT": "",
        "SERVER__TLS_KEY": "",
        "SERVER__DRAIN_SECONDS": "0",  # a demo stops at once
        "UPSTREAM__BASE_URL": arena.origin,
        "UPSTREAM__ORIGINS": "[]",
        "UPSTREAM__CF_CLEARANCE": "",
    }
    return load(path, {f"LMARENA_BRIDGE_{name}": value for name, value in own.items()})


@contextmanager
def _sockets(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Sockets on `port`, or on any free port if it is taken."""
    try:
        sockets = open_sockets(host, port)
    except OSError as error:
        try:
            sockets = open_sockets(host, 0)
        except OSError:
            raise click.ClickException(f"cannot listen on {host}: {error.strerror}") from error
        click.echo(f"Port {port} is not available ({error.strerror}), so the demo uses another one.", err=True)
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def _program() -> str:
    """The command that runs this program: its name, if the shell finds it."""
    if shutil.which(PROGRAM):
        return PROGRAM
    called = Path(sys.argv[0])
    return str(called) if called.name == PROGRAM else f"{sys.executable} -m bridge"


def _introduce(url: str, secret: str, password: str, arena: Arena) -> None:
    body = {"model": arena.models[0].public_name, "stream": True, "messages": [{"role": "user", "content": "Hello!"}]}
    faults = f"curl {arena.origin}/_arena/faults"
    click.echo(
        f"LMArena Bridge is ready on {url}/v1\n"
        "\n"
        f"curl -N {url}/v1/chat/completions -H 'Authorization: Bearer {secret}'"
        f" -H 'Content-Type: application/json' -d '{json.dumps(body)}'\n"
        "\n"
        f"export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={secret}   # for tools that read these variables\n"
        f"{_program()} chat --url {url}/v1   # chat in this terminal, after the line above\n"
        "\n"
        "Messages that the models understand: /say TEXT, /count N, /think, /cite, /draw (image models), /fail\n"
        "Two entries of the model list are unreadable on purpose: the real list has such entries too.\n"
        "\n"
        f"base URL       {url}/v1\n"
        f"API key        {secret}\n"
        f"dashboard      {url}/dashboard\n"
        f"password       {password}\n"
        f"trouble        {url}{TROUBLE}   (arm faults of the site with a click)\n"
        f'arm a fault    {faults} -d \'{{"name": "model_failed_middle"}}\'\n'
        f"list faults    {faults}\n"
        "\n"
        "Ctrl-C stops the demo; nothing is kept."
    )
