"""Names of the headers of an answer that aiohttp's `hdrs` has not (docs/behaviour.md, "Headers about an answer").

They are `istr`: from a plain name, a table of headers makes two strings of its own for every answer.
"""

from __future__ import annotations

from typing import Final

from multidict import istr

REQUEST_ID: Final[str] = istr("x-request-id")
#: The same in Anthropic's API.
ANTHROPIC_REQUEST_ID: Final[str] = istr("request-id")
#: The word of diagnosis, `ok` on a whole answer.
REASON: Final[str] = istr("x-bridge-reason")
CONVERSATION: Final[str] = istr("x-bridge-conversation")
EVALUATION: Final[str] = istr("x-bridge-evaluation")
MODEL: Final[str] = istr("x-bridge-model")
IGNORED: Final[str] = istr("x-bridge-ignored")
TOOLS: Final[str] = istr("x-bridge-tools")
#: SDKs do not repeat a request by themselves where it is `false`.
SHOULD_RETRY: Final[str] = istr("x-should-retry")

#: What a key may ask in a minute: the limit, what remains of it, and when all of it is there again.
OPENAI_LIMITS: Final[tuple[str, ...]] = (
    istr("x-ratelimit-limit-requests"),
    istr("x-ratelimit-remaining-requests"),
    istr("x-ratelimit-reset-requests"),
)
ANTHROPIC_LIMITS: Final[tuple[str, ...]] = (
    istr("anthropic-ratelimit-requests-limit"),
    istr("anthropic-ratelimit-requests-remaining"),
    istr("anthropic-ratelimit-requests-reset"),
)

#: What an answer says of itself, besides its reason.
ABOUT_ANSWER: Final = (CONVERSATION, EVALUATION, MODEL, IGNORED, TOOLS)

CONTENT_TYPE_OPTIONS: Final[str] = istr("X-Content-Type-Options")
#: nginx sends on what it is sent at once if it is `no`.
BUFFERING: Final[str] = istr("X-Accel-Buffering")
