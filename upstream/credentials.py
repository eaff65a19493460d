"""What a call shows the site to be known as an account's, and what becomes of it when the site answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Credentials:
    """The session cookie that the next call shows, and who is told when upstream rotates it.

    A call may be several requests, after a redirect for one: each shows what the one before has brought.
    """

    session: str = field(repr=False)
    on_rotated: Callable[[str], None] = field(repr=False)

    def rotate(self, session: str) -> None:
        """Take over the cookie that the site has put in this one's place."""
        self.session = session
        self.on_rotated(session)
