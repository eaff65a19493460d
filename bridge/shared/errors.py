"""Why the shared state is unavailable. Without the client library, so that every file may import this."""

from __future__ import annotations

from bridge.state.documents import StateUnavailable


class SharedStateDown(StateUnavailable):
    """Redis cannot be used now; the text says why, and what that means for the caller."""


class CommandRefused(StateUnavailable):
    """Redis refuses one command, mostly since a key holds something that is not the bridge's."""
