"""Reduces the number of examples of a slow property test to a share of the profile's."""

from __future__ import annotations

from hypothesis import settings


def a_share(of: int) -> settings:
    """Settings with one in `of` of the profile's examples, but at least a hundred."""
    return settings(max_examples=max(100, settings().max_examples // of))
