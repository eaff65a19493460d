"""Where a request carries its API key. Which key it is, `bridge.access.keys` knows."""

from __future__ import annotations

from typing import Final

from multidict import MultiMapping

#: The headers that Anthropic's and Azure's clients send a key in, in the order in which they are looked at.
_BARE_HEADERS: Final = ("x-api-key", "api-key")


def sent_key(headers: MultiMapping[str]) -> str | None:
    """The key in `Authorization`, else in `x-api-key`, else in `api-key`; None where none of them has one.

    A header that is sent twice carries no key, since nobody can tell which one is meant.
    """
    sent = headers.getall("Authorization", ())
    if len(sent) == 1 and (key := _authorization_key(sent[0])):
        return key
    if len(sent) > 1:
        return None
    for name in _BARE_HEADERS:
        sent = headers.getall(name, ())
        if sent:
            return sent[0].strip() or None if len(sent) == 1 else None
    return None


def _authorization_key(value: str) -> str | None:
    """The key behind the word `Bearer`, or alone; None for any other scheme, such as a proxy's `Basic`."""
    match value.split():
        case [key] if key.lower() != "bearer":
            return key
        case [scheme, key] if scheme.lower() == "bearer":
            return key
    return None
