"""Misspelled paths: which ones are served all the same, and what a 404 says about the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, Final, NoReturn, TypeAlias

from aiohttp import web
from yarl import URL

from handlers import dashboard

#: The segments of the API's prefixes, `/v1` and `/api/v1`.
_PREFIX_SEGMENTS: Final = frozenset({"api", "v1"})
#: Longer paths are not compared with the served ones: those are all shorter, and comparing takes time.
_MAX_COMPARED_CHARS: Final = 60
#: How similar a served path must be to be suggested, from 0 to 1.
_MIN_SIMILARITY: Final = 0.6

#: OpenAI's APIs that the bridge cannot serve, by a segment of their paths.
_UNSUPPORTED: Final = {
    "embeddings": "LMArena has no embeddings; use another provider for them.",
    "moderations": "LMArena has no moderation model; use another provider for it.",
    "audio": "LMArena has no speech and no transcription; use another provider for them.",
    "realtime": "LMArena has no realtime API; use POST /v1/chat/completions.",
    "files": "The bridge keeps no files; send a picture or a PDF within the message.",
    "uploads": "The bridge keeps no files; send a picture or a PDF within the message.",
    "vector_stores": "The bridge keeps no files, and so has no vector stores; send the text within the message.",
    "batches": "The bridge has no batches; send the requests one by one.",
    "assistants": "The bridge has no Assistants API; use POST /v1/chat/completions.",
    "threads": "The bridge has no Assistants API; use POST /v1/chat/completions.",
    "fine_tuning": "LMArena has no fine-tuning; GET /v1/models lists the models that there are.",
    "fine-tunes": "LMArena has no fine-tuning; GET /v1/models lists the models that there are.",
}

#: The API's calls as (method, path below the prefix).
Calls: TypeAlias = Sequence[tuple[str, str]]


def served_path(path: str) -> str:
    """`path` normalised: without doubled and trailing slashes, and with one prefix."""
    prefix, rest = _split(path)
    return "/".join((prefix, *rest)) or "/"


def is_below(path: str, segment: str) -> bool:
    """Whether a path is at or below `segment` of the API; it need not have a route."""
    return list(_split(path.lower())[1][:1]) == [segment]


def base_url_hint(path: str, calls: Calls) -> str:
    """The message of a 404 for the API's base URL; '' if the path is another."""
    prefix, rest = _split(path.lower())
    if rest or not prefix:
        return ""
    served = ", ".join(dict.fromkeys(f"{method} {prefix}{below}" for method, below in calls if "{" not in below))
    return f"{prefix} is the API's base URL, not a call: give it to your client as it is. Below it are {served}."


def hint(method: str, path: str, calls: Calls) -> str:
    """The hint in a 404 for `path`: why it does not exist, or the most similar of `calls`; '' if there is none."""
    prefix, rest = _split(path.lower())
    for segment in rest:
        if segment in _UNSUPPORTED:
            return _UNSUPPORTED[segment]
    below = "" if prefix else "The API is under /v1."
    near = _nearest(method, rest, calls)
    return " ".join(filter(None, (below, near and f"Did you mean {near[0]} {prefix or '/v1'}{near[1]}?")))


def _split(path: str) -> tuple[str, Sequence[str]]:
    """Split a path into its prefix, which may be empty, and the segments after it."""
    segments = [segment for segment in path.split("/") if segment]
    leading = list(takewhile(_PREFIX_SEGMENTS.__contains__, segments))
    if "v1" not in leading:
        return "", segments
    return ("/api/v1" if leading[0] == "api" else "/v1"), segments[len(leading) :]


def _nearest(method: str, rest: Sequence[str], calls: Calls) -> tuple[str, str] | None:
    """The call that the path ends with, is the beginning of, or resembles most; preferably with the same method."""
    method = "GET" if method == "HEAD" else method
    fixed = sorted((call for call in calls if "{" not in call[1]), key=lambda call: call[0] != method)
    path = "/".join(("", *rest))
    if ending := [call for call in fixed if path.endswith(call[1])]:
        return max(ending, key=lambda call: len(call[1]))
    if longer := [call for call in fixed if call[1].startswith(f"{path}/")]:
        return longer[0]
    if len(path) > _MAX_COMPARED_CHARS:
        return None
    similar = get_close_matches(path, [call[1] for call in fixed], 1, _MIN_SIMILARITY)
    return next((call for call in fixed if call[1] in similar), None)


class MisspelledPaths(web.AbstractResource):
    """The last resource of the router: it serves a misspelled path as the path that is meant."""

    def __init__(self, router: web.UrlDispatcher) -> None:
        super().__init__()
        self._router = router

    @property
    def canonical(self) -> str:
        """The path by which the router indexes this resource: the root, looked up after all more specific paths."""
        return "/"

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """Find the route of the path that is meant. The dashboard's paths must be spelled exactly."""
        sent = request.rel_url.raw_path
        path = served_path(sent)
        if path == sent or not sent.startswith("/"):
            return None, set()
        meant = request.rel_url.with_path(path, encoded=True, keep_query=True)
        if dashboard.holds(meant.path):
            return None, set()
        found = await self._router.resolve(request.clone(rel_url=meant))
        match found.http_exception:
            case None:
                return found, set()
            case web.HTTPMethodNotAllowed(allowed_methods=methods):
                return None, set(methods)
        return None, set()

    def raw_match(self, path: str) -> bool:  # noqa: ARG002 — it has no path of its own
        """False: no route is added to this resource."""
        return False

    def get_info(self) -> Any:
        """Nothing."""
        return {}

    def add_prefix(self, prefix: str) -> NoReturn:
        """Not supported: it is not used in nested applications."""
        raise NotImplementedError

    def url_for(self, **_: str) -> URL:
        """Not supported: it has no URL of its own."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter(())

    def __len__(self) -> int:
        return 0
