"""The headers of answers, described (docs/behaviour.md, "Headers about an answer")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.messages.errors import ANTHROPIC
from bridge.dialects.schema import Schema, integer, literal, string
from upstream.protocol.errors import Reason

#: Every answer has it.
REQUEST_ID: Final = "x-request-id"
REASON: Final = "x-bridge-reason"
#: Of an error with one of these statuses.
OF_STATUS: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    415: ("Accept-Encoding",),
    429: ("Retry-After", "x-should-retry"),
    502: ("x-should-retry",),
    503: ("Retry-After", "x-should-retry"),
    504: ("x-should-retry",),
    529: ("Retry-After", "x-should-retry"),
}
#: Statuses of a refusal that comes before anything of a request is read: none of its answer's headers is known.
REFUSED_AT_ONCE: Final = frozenset((401, 414, 431, 505))
ABOUT_ANSWER: Final = (
    "x-bridge-conversation",
    "x-bridge-evaluation",
    "x-bridge-model",
    "x-bridge-ignored",
    "x-bridge-tools",
)
OPENAI_LIMITS: Final = (
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)
ANTHROPIC_LIMITS: Final = (
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
)

HEADERS: Final[Mapping[str, tuple[str, Schema]]] = {
    REQUEST_ID: ("The request's id: the caller's own, if it sent a sane one. The log has it in each line.", string()),
    ANTHROPIC.request_id_header: ("The same, as Anthropic's API has it.", string()),
    REASON: ("The word of diagnosis; ok on a whole answer.", literal(*Reason)),
    "x-bridge-conversation": (
        "How the chat is continued at the site: new, follow-up, regenerate or joined, with why.",
        string(pattern="^(new|follow-up|regenerate|joined)(; why=.+)?$"),
    ),
    "x-bridge-evaluation": ("Where to look at it in a browser.", string()),
    "x-bridge-model": ("The model that answers, by its own name.", string()),
    "x-bridge-ignored": ("Names of parameters without effect, or images.", string()),
    "x-bridge-tools": (
        "What became of the tools, on whole answers.",
        literal("called", "repaired", "none", "unparsed"),
    ),
    "x-should-retry": ("An SDK must not repeat the request by itself.", literal("false")),
    "Retry-After": ("When to ask again, in seconds.", integer(minimum=1)),
    "Allow": ("The methods that are served.", string()),
    "Accept-Encoding": ("The codings that are known.", string()),
    "WWW-Authenticate": ("Bearer.", string()),
    "x-ratelimit-limit-requests": ("Requests of this key in a minute.", integer()),
    "x-ratelimit-remaining-requests": ("How many are left.", integer()),
    "x-ratelimit-reset-requests": ("When all are there again, such as 1.2s.", string()),
    "anthropic-ratelimit-requests-limit": ("Requests of this key in a minute.", integer()),
    "anthropic-ratelimit-requests-remaining": ("How many are left.", integer()),
    "anthropic-ratelimit-requests-reset": ("When all are there again.", string(format="date-time")),
    "ETag": ("Changes with the content; send it as If-None-Match.", string()),
}
