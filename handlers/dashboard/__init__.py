"""The dashboard: the operator's pages, protected by a password."""

from __future__ import annotations


def holds(path: str) -> bool:
    """Whether a path is under the dashboard, even without a page. Used for headers, never for access control."""
    return path == "/dashboard" or path.startswith("/dashboard/")
