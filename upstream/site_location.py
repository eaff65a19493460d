"""Where the site is: its origin, which may move among the configured ones, and the path of its page.

It learns from redirects and errors, which `upstream.client` reports. No I/O.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from yarl import URL

from upstream.protocol.errors import (
    NotFound,
    ProtocolViolated,
    Redirected,
    ServerFailed,
    SessionExpired,
    SiteChanged,
    StaleAction,
    TimedOut,
    Unavailable,
    Unreachable,
    UpstreamError,
)

#: Known paths of the page with the models, the scripts and the server actions; the likeliest first.
PAGE_PATHS: Final = ("/text/direct", "/?mode=direct")
#: Redirect targets that mean that a login is required.
_LOGIN_PATH: Final = re.compile(r"/(?:log-?in|sign-?in|auth)(?:/|$)", re.IGNORECASE)
#: A redirect's origin: DNS allows host names of 253 characters.
_MAX_ORIGIN_CHARS: Final = 300
#: Errors that suggest that the origin to which the site has moved is down.
_OUTAGE: Final = Unreachable | TimedOut | ServerFailed | Unavailable | Redirected
#: Errors of a chat that suggest that a different site answers at this origin.
_OTHER_SITE: Final = NotFound | SiteChanged | ProtocolViolated


class SiteLocation:
    """The origin and the page's path for the next call. Only `origins` are ever used."""

    def __init__(self, base_url: str, origins: frozenset[str]) -> None:
        self._home = str(URL(base_url).origin())
        self._origins = origins
        #: That of `base_url` until a permanent redirect names another allowed one.
        self.origin = self._home
        #: The last origin other than that of `base_url`; '' if there was none.
        self._moved_to = ""
        #: Learned from redirects, or by trying PAGE_PATHS.
        self.page_path = PAGE_PATHS[0]

    def follow(self, status: int, location: str | None, url: URL, method: str, *, is_page: bool) -> tuple[str, str]:
        """Return the origin and target of a redirect from `url`, and learn from it.

        `is_page`: the request was for the page or one of its actions, so that the redirect shows the page's new path.
        Raises UpstreamError if the redirect must not be followed: cookies are never sent to other origins.
        """
        try:
            target = url.join(URL(location or "about:blank"))  # '' would join to the same URL again
            origin = str(target.origin())
        except ValueError as error:
            raise ProtocolViolated("LMArena sent an invalid redirect.", status=status) from error
        if len(origin) > _MAX_ORIGIN_CHARS:
            raise ProtocolViolated("LMArena sent an invalid redirect.", status=status)
        if origin not in self._origins:
            raise Redirected(f"LMArena redirects to {origin}.", origin=origin, status=status)
        if _LOGIN_PATH.search(target.path):
            raise SessionExpired("LMArena redirects the call to its login page.", status=status)
        permanent = status in (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.PERMANENT_REDIRECT)
        if permanent:
            self.origin = origin
        if is_page and target.raw_path_qs != url.raw_path_qs:
            if permanent:
                self.page_path = target.raw_path_qs
            if method != "GET" and status != HTTPStatus.TEMPORARY_REDIRECT:
                raise StaleAction("LMArena has moved its page.", status=status)
        elif method != "GET" and target.path != url.path:
            raise SiteChanged("LMArena redirects the call to another page.", status=status)
        return origin, target.raw_path_qs

    def note_error(self, error: UpstreamError, origin: str, *, is_get: bool) -> None:
        """Switch to another origin if a call's error shows that `origin` is the wrong one.

        A document missing for a GET does not count against the origin. The next call goes to `base_url` again or, if
        that is unreachable, to the origin to which it redirected before.
        """
        if origin != self.origin:
            return
        if origin != self._home:
            if isinstance(error, _OUTAGE if is_get else _OUTAGE | _OTHER_SITE):
                self._moved_to, self.origin, self.page_path = origin, self._home, PAGE_PATHS[0]
        elif self._moved_to and isinstance(error, _OUTAGE) and error.status is None:
            self.origin = self._moved_to
