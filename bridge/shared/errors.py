"""Why the shared state is not to be had. Without the client library: everyone may know these."""

from __future__ import annotations

from bridge.state.documents import StateUnavailable


class SharedStateDown(StateUnavailable):
    """Redis cannot be used now; the text says why, and what that means for whoever wanted it."""


class CommandRefused(StateUnavailable):
    """Redis refuses one command, mostly since a key holds something that is not the bridge's."""
