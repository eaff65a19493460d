"""Accounts for tests of renewals, and checks of their logins."""

from __future__ import annotations

from keeping import Keeping

from upstream.arena import Arena, Session

HOUR = 3600.0
DAY = 24 * HOUR


def sign_in(arena: Arena, number: int = 1, expires_in: float = HOUR) -> tuple[Session, ...]:
    """Sign in this many users, with access tokens that expire after `expires_in` seconds."""
    return tuple(arena.sign_in(f"user{at}@example.org", expires_in=expires_in) for at in range(number))


def kept(session: Session) -> bool:
    """Whether the login is still valid at the site, and no refresh token was used twice."""
    return session.alive and not session.revoked and session.spent_twice == 0


async def is_current(keeping: Keeping, session: Session) -> bool:
    """Whether memory and disk have the cookie that the site issued last."""
    return {
        keeping.account(session).session.value,
        (await keeping.on_disk(session)).session.value,
    } == {session.cookie_value}
