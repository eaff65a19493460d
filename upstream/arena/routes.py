"""Routing: the kind of a call by its method and path, for each era."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

from upstream.arena.traits import Era, Traits

_STREAM: Final = "/nextjs-api/stream"
_API: Final = (
    ("GET", r"/_next/static/chunks/[^/]+\.js", "script"),
    ("POST", rf"{_STREAM}/create-evaluation", "create"),
    ("POST", rf"{_STREAM}/post-to-evaluation/(?P<evaluation>[^/]+)", "follow-up"),
    (
        "PUT",
        rf"{_STREAM}/retry-evaluation-session-message/(?P<evaluation>[^/]+)/messages/(?P<message>[^/]+)",
        "regenerate",
    ),
)
_API_2026: Final = (
    ("GET", r"/nextjs-api/model-catalog", "catalog"),
    ("GET", r"/api/me", "me"),
    ("GET", r"/api/evaluation/(?P<evaluation>[^/]+)", "evaluation"),
    ("GET", r"/api/models", "forbidden"),
)
_ROUTES: Final[Mapping[Era, Sequence[tuple[str, re.Pattern[str], str]]]] = {
    2025: [(method, re.compile(pattern), kind) for method, pattern, kind in _API],
    2026: [(method, re.compile(pattern), kind) for method, pattern, kind in (*_API, *_API_2026)],
}
_SISTER_PAGES: Final = frozenset({"/text/direct", "/search/direct", "/image/direct", "/code/direct"})


def route(traits: Traits, method: str, path: str, query: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """The kind of a call, and the variables in its path. In 2026 a wrong method for a known path is `wrong method`."""
    kind = "unknown"
    for known_method, pattern, known_kind in _ROUTES[traits.era]:
        if found := pattern.fullmatch(path):
            if known_method == method:
                return known_kind, found.groupdict()
            kind = "wrong method" if traits.era == 2026 else "unknown"
    main, _, wanted = traits.page_path.partition("?")
    if path == main and dict(parse_qsl(wanted)).items() <= query.items():
        kind = {"GET": "page", "POST": "action"}.get(method, kind)
    elif traits.era == 2026 and path in _SISTER_PAGES and method == "GET":
        kind = "page"
    return kind, {}


def moved_page(traits: Traits, method: str, path: str) -> str | None:
    """The kind of a call to a former path of the page, `page` or `action`; None for another path."""
    return {"GET": "page", "POST": "action"}.get(method) if path in traits.former_pages else None
