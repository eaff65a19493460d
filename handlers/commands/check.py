"""`check`: report line by line what works, and what to do about problems."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import click

from bridge.config.problems import ConfigError
from bridge.config.schema import Config
from bridge.diagnosis import CLOCK_ADVICE, sentence
from bridge.health import clock_difference
from bridge.model_sources import Sources, read_sources
from bridge.state.documents import StateFolder
from bridge.state.errors import StateError
from bridge.state.formats import DocumentSource
from bridge.state.state import MODELS, State
from handlers.commands.chat import bridge_at, key_option, url_option
from handlers.commands.chat_client import Bridge
from handlers.commands.check_accounts import LoginChecks, account_lines, ask_about_logins
from handlers.commands.check_chat import chat_line
from handlers.commands.check_lines import CheckLine, Verdict, advice
from handlers.commands.check_redis import redis_lines
from handlers.commands.config_option import config_option, read_config
from handlers.commands.output import json_option, print_json
from handlers.daemon.sharing import sharing_of
from handlers.daemon.sockets import open_sockets
from handlers.request.clearance import client_settings
from upstream import client
from upstream.actions import UPLOAD_ACTIONS, find_upload_actions
from upstream.client import ArenaClient
from upstream.loop.timers import Timers
from upstream.protocol.errors import Unreachable, UpstreamError
from upstream.protocol.flight import Page
from upstream.protocol.models import ModelList
from upstream.protocol.printable import printable
from upstream.site_clock import TOLERANCE_SECONDS
from upstream.site_location import PAGE_PATHS

#: Less free space than this needs attention: `log.keep_mb` alone is 50 MB.
LITTLE_SPACE_BYTES: Final = 200_000_000


@click.command()
@config_option
@json_option
@click.option(
    "--chat", is_flag=True, help="Also ask a model one question through the running daemon; this needs a key."
)
@key_option
@url_option
@click.pass_context
def check(context: click.Context, as_json: bool, chat: bool, key: str | None, url: str | None) -> None:
    """Report line by line what works.

    ✓ is fine, ! needs attention, ✗ prevents the bridge from serving chats. The exit status is 1 if there is any ✗.
    """
    bridge = bridge_at(url, key) if chat else None
    try:
        config = read_config()
    except ConfigError as error:
        found = [CheckLine(Verdict.BAD, "configuration", str(problem)) for problem in error.problems]
        if not as_json:
            for line in found:
                _show(line)
    else:
        found = asyncio.run(_gather(config, bridge, shown=not as_json))
    serving = all(line.verdict is not Verdict.BAD for line in found)
    if as_json:
        lines = [{"verdict": line.verdict.name.lower(), "part": line.part, "text": line.text} for line in found]
        print_json({"serving": serving, "lines": lines})
    else:
        click.echo("The bridge can serve chats." if serving else "The bridge cannot serve chats.")
    context.exit(0 if serving else 1)


async def _gather(config: Config, bridge: Bridge | None, *, shown: bool) -> list[CheckLine]:
    """Print and return all lines of the report, each as soon as it is known. With `bridge`, a model is asked too."""
    found: list[CheckLine] = []
    async for line in _lines(config, bridge):
        if shown:
            _show(line)
        found.append(line)
    return found


async def _lines(config: Config, bridge: Bridge | None) -> AsyncIterator[CheckLine]:
    async for line in examine(config):
        yield line
    if bridge is not None:
        yield await asyncio.to_thread(chat_line, bridge)


def _show(line: CheckLine) -> None:
    mark, colour = line.verdict.value
    click.echo(f"{click.style(mark, fg=colour)} {printable(f'{line.part}: {line.text}')}")


async def examine(config: Config) -> AsyncIterator[CheckLine]:
    """Check every part as the daemon would. Like the daemon, it saves what the site says about an account."""
    yield _configuration(config)
    if config.upstream.cf_clearance.value and not config.upstream.user_agent:
        advice = "set upstream.user_agent to the User-Agent of the browser that cf_clearance is from"
        yield CheckLine(
            Verdict.WORTH_A_LOOK, "configuration", f"cf_clearance works only with its browser's user agent: {advice}"
        )
    folder = StateFolder(config.server.state_dir)
    yield _state_folder(folder.path)
    async with AsyncExitStack() as stack:
        source: DocumentSource = folder
        daemon_runs = others_may_renew = False
        unsaved_cookies = None
        try:
            if (sharing := sharing_of(config, folder)) is not None:
                folder.prepare()
                await stack.enter_async_context(sharing.connected())
                for line in await redis_lines(sharing):
                    yield line
                source, daemon_runs = sharing.documents, sharing.others_run
                unsaved_cookies, others_may_renew = sharing.waiting_cookies, bool(sharing.trouble)
            state = State(source, time.time, unsaved_cookies=unsaved_cookies, shared=sharing is not None)
            await state.load()
            daemon_runs |= folder.is_held()
        except ConfigError as error:
            yield CheckLine(Verdict.BAD, "configuration", str(error.problems[0]))
            return
        except StateError as error:
            yield CheckLine(Verdict.BAD, "state folder" if source is folder else "Redis", str(error))
            return
        others_may_renew |= daemon_runs
        async for line in _examine(config, state, source, daemon_runs=daemon_runs, others_may_renew=others_may_renew):
            yield line


async def _examine(
    config: Config, state: State, source: DocumentSource, *, daemon_runs: bool, others_may_renew: bool
) -> AsyncIterator[CheckLine]:
    """Check everything except the location of the state. `others_may_renew`: a daemon may run, here or elsewhere."""
    yield _daemon(config, runs=daemon_runs)
    yield _password(state)
    yield _keys(len(state.keys))
    async with client.connect(client_settings(config, state.admin.clearance), Timers()) as arena:
        sources = await read_sources(arena, timeout=config.upstream.connect_timeout)
        site = _site(sources, arena, config)
        yield site
        reached = site.verdict is not Verdict.BAD
        if arena.route:
            yield CheckLine(Verdict.GOOD if reached else Verdict.WORTH_A_LOOK, "proxy", f"calls go {arena.route}")
        if reached:
            yield _clock(arena)
        asked = (
            await ask_about_logins(arena, state, config, others_may_renew=others_may_renew)
            if reached
            else LoginChecks(made=False)
        )
        for line in account_lines(state.pool, asked, arena.clock()):
            yield line
        yield await _models(sources, source)
        if sources.site_page is not None:
            yield await _uploads(sources.site_page, arena, config)


def _configuration(config: Config) -> CheckLine:
    where = str(config.source) if config.source else "no bridge.toml, so the defaults apply"
    return CheckLine(Verdict.GOOD, "configuration", where)


def _state_folder(path: Path) -> CheckLine:
    if not os.access(path, os.F_OK):  # nor if it is within another user's folder
        above = next(each for each in path.parents if os.access(each, os.F_OK))
        if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
            return CheckLine(Verdict.BAD, "state folder", f"this user can neither use nor create {path}")
        return CheckLine(Verdict.GOOD, "state folder", f"{path}, which will be created at the first start")
    if not path.is_dir():
        return CheckLine(Verdict.BAD, "state folder", f"{path} is not a folder: set another server.state_dir")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return CheckLine(Verdict.BAD, "state folder", f"this user cannot read and write {path}")
    free = shutil.disk_usage(path).free
    text = f"{path}, {free / 1e9:,.1f} GB free"
    if free < LITTLE_SPACE_BYTES:
        return CheckLine(
            Verdict.WORTH_A_LOOK,
            "state folder",
            f"{text}: on a full disk, the bridge can save nothing and cannot start",
        )
    return CheckLine(Verdict.GOOD, "state folder", text)


def _daemon(config: Config, *, runs: bool) -> CheckLine:
    """Whether the daemon of this state folder is running, or whether its port is free so that it could."""
    host, port = config.server.host, config.server.port
    if runs:
        return CheckLine(
            Verdict.GOOD, "daemon", f"is running, on {host}, port {port} unless started with other options"
        )
    try:
        for sock in open_sockets(host, port):
            sock.close()
    except OSError as error:
        text = f"is not running, and could not listen on {host}, port {port}: {error.strerror}"
        return CheckLine(Verdict.WORTH_A_LOOK, "daemon", text)
    return CheckLine(
        Verdict.GOOD, "daemon", f"is not running, but could listen on {host}, port {port}: lmarena-bridge serve"
    )


def _password(state: State) -> CheckLine:
    if state.admin.password_hash is None:
        return CheckLine(Verdict.WORTH_A_LOOK, "dashboard", "it has no password yet: lmarena-bridge password")
    return CheckLine(Verdict.GOOD, "dashboard", "its password is set")


def _keys(count: int) -> CheckLine:
    if not count:
        return CheckLine(
            Verdict.WORTH_A_LOOK, "API keys", "none, so no request is accepted: lmarena-bridge keys add --name NAME"
        )
    return CheckLine(Verdict.GOOD, "API keys", str(count))


def _site(sources: Sources, arena: ArenaClient, config: Config) -> CheckLine:
    """The state of the site. Chats need either the catalog or the page, not both."""
    where = f"{arena.location.origin} answers"
    if arena.location.origin != config.upstream.base_url:
        where = f"{where}; {config.upstream.base_url} redirects there"
    if arena.location.page_path != PAGE_PATHS[0]:
        where = f"{where}; its page is now at {arena.location.page_path}"
    if sources.site_page is None and isinstance(sources.page, UpstreamError):
        why = advice(sources.page)
        if not isinstance(sources.catalog, ModelList):
            return CheckLine(Verdict.BAD, "LMArena", f"{arena.location.origin}: {why}")
        return CheckLine(Verdict.WORTH_A_LOOK, "LMArena", f"{where}, but its page cannot be read: {why}")
    if isinstance(sources.catalog, UpstreamError):
        text = f"{where}, but its list of models cannot be read: {advice(sources.catalog)}"
        return CheckLine(Verdict.WORTH_A_LOOK, "LMArena", text)
    return CheckLine(Verdict.GOOD, "LMArena", where)


def _clock(arena: ArenaClient) -> CheckLine:
    if skew := arena.clock.skew:
        return CheckLine(Verdict.WORTH_A_LOOK, "clock", sentence(f"{clock_difference(skew)}: {CLOCK_ADVICE.now}"))
    return CheckLine(Verdict.GOOD, "clock", f"within {TOLERANCE_SECONDS:g} s of LMArena's")


async def _models(sources: Sources, source: DocumentSource) -> CheckLine:
    try:
        found = sources.merged()
    except UpstreamError as error:
        why = error.message.rstrip(".")
    else:
        offered = [model for model in found.models if model.selectable]
        parts = [f"{len(offered)}", f"{sum(model.stealth for model in offered)} of them stealth"]
        if withheld := len(found.models) - len(offered):
            parts.append(f"{withheld} withheld by the site")
        if found.skipped:
            parts.append(f"{found.skipped} entries cannot be read")
        failed = any(isinstance(each, UpstreamError) for each in (sources.catalog, sources.page))
        verdict = Verdict.WORTH_A_LOOK if failed else Verdict.GOOD
        return CheckLine(verdict, "models", f"{', '.join(parts)} ({_origin_of_models(sources)})")
    stored = await source.open(MODELS).load()
    if stored:
        return CheckLine(
            Verdict.WORTH_A_LOOK, "models", f"{why}; {len(stored)} are known from the last time the list was read"
        )
    return CheckLine(Verdict.BAD, "models", f"{why}, and none are known from earlier")


def _origin_of_models(sources: Sources) -> str:
    """Say which sources gave models, and why the other did not."""
    lacks = {
        "catalog": _lack(sources.catalog, "the site has no catalog", "the catalog"),
        "page": _lack(sources.page, "the page has no list", "the page"),
    }
    given = [name for name, lack in lacks.items() if not lack]
    if len(given) == len(lacks):
        return "from the catalog and the page"
    return f"from the {given[0]} only: {'; '.join(filter(None, lacks.values()))}"


def _lack(source: ModelList | UpstreamError | None, absent: str, name: str) -> str:
    """Say why a source gives no models; '' if it does."""
    if source is None:
        return absent
    if isinstance(source, UpstreamError):
        return f"{name} cannot be read"
    return "" if source.models else f"{name} lists none"


async def _uploads(page: Page, arena: ArenaClient, config: Config) -> CheckLine:
    unreachable = False

    async def read_script(path: str) -> str:
        nonlocal unreachable
        if not unreachable:
            try:
                return await arena.read(path, timeout=config.upstream.connect_timeout)
            except UpstreamError as error:
                unreachable = isinstance(error, Unreachable)
        return ""

    missing = UPLOAD_ACTIONS - (await find_upload_actions(page, read_script)).keys()
    if missing:
        text = f"{', '.join(sorted(missing))} not found in the site's scripts: chats work, but pictures cannot be sent"
        return CheckLine(Verdict.WORTH_A_LOOK, "upload action ids", text)
    return CheckLine(Verdict.GOOD, "upload action ids", "found")
