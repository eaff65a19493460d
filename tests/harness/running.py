"""Runs a complete bridge in this process, on real sockets, with an embedded arena."""

from __future__ import annotations

import io
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import openai
from aiohttp import web

from bridge.access import keys
from bridge.access.keys import ApiKey
from bridge.answering.relay import Relay
from bridge.config.schema import Config, LogSection
from bridge.dialects.dialect import Dialect
from bridge.state.documents import StateFolder
from bridge.state.state import State, accounts_document, keys_document
from handlers.api.routes import add_dialect
from handlers.daemon.accepting import Listener
from handlers.daemon.app import build_app
from handlers.daemon.listening import listen
from handlers.daemon.sockets import open_sockets
from handlers.request.appkeys import CLIENT, LIMITER, RELAY, RENEWALS, STATE
from upstream.accounts import Account
from upstream.arena import Arena, Session
from upstream.protocol import cookies
from upstream.protocol.renewal import FIRST_REPEAT_SECONDS

#: Configuration values by section and key.
Overrides = Mapping[str, Mapping[str, object]]


class Front:
    """What callers need to use a bridge, or several bridges behind one address."""

    arena: Arena
    origin: str
    key: str
    http: aiohttp.ClientSession

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def chat(self, *messages: str, **body: object) -> dict[str, object]:
        """The body of a chat request: the texts are user messages, unless `messages` is given."""
        return {
            "model": self.model(),
            "messages": [{"role": "user", "content": text} for text in messages],
            **body,
        }

    def model(self, *, output: str = "text", thinking: bool = False) -> str:
        """The name of a suitable model of the arena that has an organization and whose name is unique."""
        names = [model.public_name for model in self.arena.models]
        for model in self.arena.models:
            outputs = set(model.outputs)
            if (
                model.organization
                and names.count(model.public_name) == 1
                and output in outputs
                and (output != "text" or outputs == {"text"})
                and ("thinking" in model.public_name) == thinking
            ):
                return model.public_name
        raise LookupError(output)

    async def post(self, body: object, **options: Any) -> aiohttp.ClientResponse:
        """POST a chat with the key."""
        sent: dict[str, Any] = {"data" if isinstance(body, bytes | str | io.BytesIO) else "json": body}
        headers = {**self.headers, **options.pop("headers", {})}
        return await self.http.post(f"{self.base_url}/chat/completions", **sent, headers=headers, **options)


@dataclass
class RunningBridge(Front):
    """A running bridge, and what tests need to access it."""

    app: web.Application
    arena: Arena
    folder: StateFolder
    origin: str
    key: str
    http: aiohttp.ClientSession
    runner: web.AppRunner
    listeners: list[Listener]
    _stack: AsyncExitStack = field(repr=False)
    _passed: float = 0.0  # the total length of the skipped pauses, in seconds

    @property
    def state(self) -> State:
        return self.app[STATE]

    @property
    def relay(self) -> Relay:
        return self.app[RELAY]

    @property
    def calls_held(self) -> int:
        """The number of slots and accounts that calls hold at present."""
        return self.app[LIMITER].running + self.state.pool.held

    async def logins_checked(self) -> None:
        """Wait until the login of each account has been checked, so that no such call is pending."""
        for account in self.state.pool:
            assert await self.app[RENEWALS].is_alive(account)

    async def login_checked_again(self) -> bool | None:
        """Skip the pause after a failed check of the only account's login, and check it again."""
        (account,) = self.state.pool
        clock = self.app[CLIENT].clock
        self._passed += FIRST_REPEAT_SECONDS
        clock.skew = self._passed
        alive = await self.app[RENEWALS].is_alive(account)
        clock.skew = 0.0
        return alive

    def sdk(self, **options: Any) -> openai.AsyncOpenAI:
        """The real SDK, without retries by default. It is closed with the bridge."""
        client = openai.AsyncOpenAI(**{"base_url": self.base_url, "api_key": self.key, "max_retries": 0, **options})
        self._stack.push_async_callback(client.close)
        return client


@asynccontextmanager
async def running_bridge(
    arena: Arena,
    path: Path,
    overrides: Overrides | None = None,
    *,
    sessions: tuple[Session, ...] | None = None,
    key_options: Mapping[str, Any] | None = None,
    tls: ssl.SSLContext | None = None,
    dialects: Mapping[str, Dialect] | None = None,
    extend: Callable[[web.Application], None] = lambda _: None,
) -> AsyncIterator[RunningBridge]:
    """Run a bridge for `arena`, with an account for each session (by default a new one) and one key.

    With `tls` its `http` accepts any certificate. `dialects` are further front APIs by path; `extend` adds to the app.
    """
    folder = StateFolder(path)
    folder.prepare()
    secret, key = keys.generate("test", now=time.time(), **{"rpm": 1_000_000, **(key_options or {})})
    await keys_document(folder).update(lambda kept: keys.add((k for k in kept if k.name != key.name), key))
    if sessions is None:
        sessions = (arena.sign_in(),)
    await add_accounts(folder, *sessions)
    config = config_for(arena, path, overrides)
    async with bridge_for(arena, config, folder, secret, tls=tls, dialects=dialects, extend=extend) as bridge:
        yield bridge


@asynccontextmanager
async def bridge_for(
    arena: Arena,
    config: Config,
    folder: StateFolder,
    secret: str,
    *,
    tls: ssl.SSLContext | None = None,
    dialects: Mapping[str, Dialect] | None = None,
    extend: Callable[[web.Application], None] = lambda _: None,
    reread: Callable[[], Config] | None = None,
    log_as: Callable[[LogSection], None] = lambda _: None,
) -> AsyncIterator[RunningBridge]:
    """Run a bridge with a prepared state folder; `secret` is that of a key in it."""
    async with AsyncExitStack() as stack:
        app = build_app(config, folder, reread, log_as)
        for route, dialect in (dialects or {}).items():
            add_dialect(app, route, dialect)
        extend(app)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        sockets = open_sockets("127.0.0.1", 0)
        listeners = await listen(runner, sockets, tls)
        for listener in listeners:
            stack.callback(listener.close)
        connector = aiohttp.TCPConnector(ssl=tls is None)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        origin = f"{'https' if tls else 'http'}://127.0.0.1:{sockets[0].getsockname()[1]}"
        yield RunningBridge(app, arena, folder, origin, secret, http, runner, listeners, stack)


def config_for(arena: Arena, path: Path, overrides: Overrides | None = None) -> Config:
    """The configuration of a bridge for `arena`."""
    sections: dict[str, dict[str, object]] = {
        "server": {"state_dir": str(path), "port": 0},
        "upstream": {"base_url": arena.origin},
    }
    for section, values in (overrides or {}).items():
        sections.setdefault(section, {}).update(values)
    return Config.read(sections)


async def add_accounts(folder: StateFolder, *sessions: Session) -> None:
    """Add accounts to a state folder, like `lmarena-bridge accounts add`."""
    added = tuple(Account(session.email, cookies.decode(session.cookie_value)) for session in sessions)
    users = {account.user_id for account in added}
    await accounts_document(folder).update(
        lambda kept: (*(account for account in kept if account.user_id not in users), *added)
    )


def api_key(**options: Any) -> tuple[str, ApiKey]:
    """A new key: its secret, and the stored form."""
    return keys.generate(**{"name": "another", "now": time.time(), "rpm": 1_000_000, **options})


def many_keys(number: int) -> tuple[ApiKey, ...]:
    """A number of keys, `Tool 0` and so on, the newest last, without known secrets."""
    return tuple(
        ApiKey(f"{at:08x}", f"Tool {at}", f"{at:064x}", f"{at:04d}", created=float(at)) for at in range(number)
    )
