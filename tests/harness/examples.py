"""How many examples a property tries whose examples are costly: a share of what the profile says."""

from __future__ import annotations

from hypothesis import settings


def a_share(of: int) -> settings:
    """Try one in `of` of the profile's examples, a hundred at least."""
    return settings(max_examples=max(100, settings().max_examples // of))
