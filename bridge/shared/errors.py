"""Why the shared state is unavailable. This module does not need the client library, so any other may import it."""

from __future__ import annotations

from bridge.state.errors import StateUnavailable


class SharedStateDown(StateUnavailable):
    """Redis cannot be used now. The text says why, and may add what that means for the caller."""


class CommandRefused(StateUnavailable):
    """Redis refuses one command, mostly because a key holds something that the bridge did not write."""
