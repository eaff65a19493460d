"""The headers of answers, described (docs/behaviour.md, "Headers about an answer")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.schema import Schema, integer, literal, string
from bridge.headers import (
    ANTHROPIC_LIMITS,
    ANTHROPIC_REQUEST_ID,
    CONVERSATION,
    EVALUATION,
    IGNORED,
    MODEL,
    OPENAI_LIMITS,
    REASON,
    REQUEST_ID,
    SHOULD_RETRY,
    TOOLS,
)
from upstream.protocol.errors import Reason

#: Of an error with one of these statuses.
OF_STATUS: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    415: ("Accept-Encoding",),
    429: ("Retry-After", SHOULD_RETRY),
    502: (SHOULD_RETRY,),
    503: ("Retry-After", SHOULD_RETRY),
    504: (SHOULD_RETRY,),
    529: ("Retry-After", SHOULD_RETRY),
}
#: Statuses of a refusal that comes before anything of a request is read: none of its answer's headers is known.
REFUSED_AT_ONCE: Final = frozenset((401, 414, 431, 505))
HEADERS: Final[Mapping[str, tuple[str, Schema]]] = {
    REQUEST_ID: ("The request's id: the caller's own, if it sent a sane one. The log has it in each line.", string()),
    ANTHROPIC_REQUEST_ID: ("The same, as Anthropic's API has it.", string()),
    REASON: ("The word of diagnosis; ok on a whole answer.", literal(*Reason)),
    CONVERSATION: (
        "How the chat is continued at the site: new, follow-up, regenerate or joined, with why.",
        string(pattern="^(new|follow-up|regenerate|joined)(; why=.+)?$"),
    ),
    EVALUATION: ("Where to look at it in a browser.", string()),
    MODEL: ("The model that answers, by its own name.", string()),
    IGNORED: ("Names of parameters without effect, or images.", string()),
    TOOLS: (
        "What became of the tools, on whole answers.",
        literal("called", "repaired", "none", "unparsed"),
    ),
    SHOULD_RETRY: ("An SDK must not repeat the request by itself.", literal("false")),
    "Retry-After": ("When to ask again, in seconds.", integer(minimum=1)),
    "Allow": ("The methods that are served.", string()),
    "Accept-Encoding": ("The codings that are known.", string()),
    "WWW-Authenticate": ("Bearer.", string()),
    OPENAI_LIMITS[0]: ("Requests of this key in a minute.", integer()),
    OPENAI_LIMITS[1]: ("How many are left.", integer()),
    OPENAI_LIMITS[2]: ("When all are there again, such as 1.2s.", string()),
    ANTHROPIC_LIMITS[0]: ("Requests of this key in a minute.", integer()),
    ANTHROPIC_LIMITS[1]: ("How many are left.", integer()),
    ANTHROPIC_LIMITS[2]: ("When all are there again.", string(format="date-time")),
    "ETag": ("Changes with the content; send it as If-None-Match.", string()),
}
