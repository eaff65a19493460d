"""The dashboard: pages for the person who runs the bridge, behind a password."""

from __future__ import annotations


def holds(path: str) -> bool:
    """Whether a path is one of the dashboard's, be there a page or none. It decides on headers, never on access."""
    return path == "/dashboard" or path.startswith("/dashboard/")
