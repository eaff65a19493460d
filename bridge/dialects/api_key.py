"""Finds the API key in a request's headers. `bridge.access.keys` checks it."""

from __future__ import annotations

from typing import Final

from multidict import MultiMapping

#: The headers in which Anthropic's and Azure's clients send a key, in order of precedence.
_BARE_HEADERS: Final = ("x-api-key", "api-key")


def sent_key(headers: MultiMapping[str]) -> str | None:
    """Return the key in `Authorization`, `x-api-key` or `api-key`, in this order; None if there is none.

    A header that is sent twice counts as having no key, since it is ambiguous.
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
    """Return the key after the word `Bearer`, or a bare key; None for other schemes, such as a proxy's `Basic`."""
    match value.split():
        case [key] if key.lower() != "bearer":
            return key
        case [scheme, key] if scheme.lower() == "bearer":
            return key
    return None
