"""Names of response headers that aiohttp's `hdrs` does not have (docs/behaviour.md, "Headers about an answer").

They are `istr`, because multidict makes two new strings of a plain `str` for every answer.
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
#: If it is `false`, SDKs do not repeat the request by themselves.
SHOULD_RETRY: Final[str] = istr("x-should-retry")

#: A key's requests per minute: the limit, what remains of it, and when all of it is available again.
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

#: What an answer says about itself, besides its reason.
ABOUT_ANSWER: Final = (CONVERSATION, EVALUATION, MODEL, IGNORED, TOOLS)

CONTENT_TYPE_OPTIONS: Final[str] = istr("X-Content-Type-Options")
#: If it is `no`, nginx forwards an answer without buffering it.
BUFFERING: Final[str] = istr("X-Accel-Buffering")
