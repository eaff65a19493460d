"""Descriptions of the response headers (docs/behaviour.md, "Headers about an answer")."""

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

#: The headers of an error, by its status.
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
#: Statuses of refusals that are sent before the request is read, so that no header about the answer is known.
REFUSED_AT_ONCE: Final = frozenset((401, 414, 431, 505))
HEADERS: Final[Mapping[str, tuple[str, Schema]]] = {
    REQUEST_ID: (
        "The request's id, which every log line about it has. A valid id that the client sends is used.",
        string(),
    ),
    ANTHROPIC_REQUEST_ID: ("The request's id, under the name that Anthropic's API uses.", string()),
    REASON: ("The word of diagnosis; `ok` on a complete answer that is not streamed.", literal(*Reason)),
    CONVERSATION: (
        "How the chat is continued on the site: `new`, `follow-up`, `regenerate` or `joined`, with the cause.",
        string(pattern="^(new|follow-up|regenerate|joined)(; why=.+)?$"),
    ),
    EVALUATION: ("The address of the conversation on the site, for a browser.", string()),
    MODEL: ("The name of the model that answers; the request may have used an alias.", string()),
    IGNORED: ("The names of parameters that have no effect; `images` if the model accepts none.", string()),
    TOOLS: (
        "How the answer used the request's tools; only on answers that are not streamed.",
        literal("called", "repaired", "none", "unparsed"),
    ),
    SHOULD_RETRY: ("Tells an SDK not to repeat the request automatically.", literal("false")),
    "Retry-After": ("The seconds to wait before the next attempt.", integer(minimum=1)),
    "Allow": ("The methods that the path supports.", string()),
    "Accept-Encoding": ("The content codings that the bridge supports.", string()),
    "WWW-Authenticate": ("Bearer.", string()),
    OPENAI_LIMITS[0]: ("The requests per minute that the key may make.", integer()),
    OPENAI_LIMITS[1]: ("The requests that are left in the current minute.", integer()),
    OPENAI_LIMITS[2]: ("The time until all requests are available again, such as `1.2s`.", string()),
    ANTHROPIC_LIMITS[0]: ("The requests per minute that the key may make.", integer()),
    ANTHROPIC_LIMITS[1]: ("The requests that are left in the current minute.", integer()),
    ANTHROPIC_LIMITS[2]: ("The moment at which all requests are available again.", string(format="date-time")),
    "ETag": ("Changes with the content; send it back in `If-None-Match`.", string()),
}
