"""The session cookie that identifies an account in calls, and its rotation by the site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Credentials:
    """The session cookie for the next request, and a callback for when the site rotates it.

    One call may take several requests, for example after a redirect: each sends the cookie of the previous response.
    """

    session: str = field(repr=False)
    on_rotated: Callable[[str], None] = field(repr=False)
    #: The account's limit from the last answer that reported one: the headers `ratelimit` and `ratelimit-policy`.
    limit: tuple[str, str] | None = None

    def rotate(self, session: str) -> None:
        """Switch to the cookie with which the site has replaced the current one."""
        self.session = session
        self.on_rotated(session)
