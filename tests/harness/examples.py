"""Reduces the number of examples of a slow property test to a share of the profile's."""

from __future__ import annotations

from hypothesis import settings


def a_share(of: int) -> settings:
    """Settings with one in `of` of the profile's examples, but at least as many as the quick run tries."""
    quick = settings.get_profile("default").max_examples
    return settings(max_examples=max(quick, settings().max_examples // of))
