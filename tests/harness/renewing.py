"""Accounts whose logins are renewed, and the watch over them."""

from __future__ import annotations

from keeping import Keeping

from upstream.arena import Arena, Session

HOUR = 3600.0
DAY = 24 * HOUR


def sign_in(arena: Arena, number: int = 1, expires_in: float = HOUR) -> tuple[Session, ...]:
    """So many accounts, with tokens of an hour unless `expires_in` is said."""
    return tuple(arena.sign_in(f"user{at}@example.org", expires_in=expires_in) for at in range(number))


def kept(session: Session) -> bool:
    """Whether the site still has the login, and never saw one of its refresh tokens twice."""
    return session.alive and not session.revoked and session.spent_twice == 0


async def is_current(keeping: Keeping, session: Session) -> bool:
    """Whether memory and disk have the cookie that the site knows."""
    return {
        keeping.account(session).session.value,
        (await keeping.on_disk(session)).session.value,
    } == {session.cookie_value}
