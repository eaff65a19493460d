"""`check` run against the embedded arena, and the lines of its report."""

from __future__ import annotations

import asyncio

from click.testing import Result
from commands import run

from upstream.arena import Arena, Session

DOES_NOT = "The bridge cannot serve chats."


async def check(arena: Arena, *sessions: Session, **env: str) -> Result:
    """Check a bridge with these sessions' accounts and one key, in a thread; the site is `arena`."""
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin, "LMARENA_BRIDGE_SERVER__PORT": "0", **env}

    def all_of_it() -> Result:
        run("keys", "add", "--name", "me")
        for session in sessions:
            run("accounts", "add", "--label", session.email.partition("@")[0], stdin=session.cookie_value)
        return run("check", **env)

    return await asyncio.to_thread(all_of_it)


def line(result: Result, part: str) -> str:
    """The only line about `part`, including its mark."""
    (found,) = (line for line in result.stdout.splitlines() if line[2:].startswith(f"{part}: "))
    return found


def shown_logins(arena: Arena) -> list[str]:
    """The kinds of calls that showed a login to the site."""
    return [call.kind for call in arena.calls if "arena-auth" in call.headers.get("cookie", "")]
