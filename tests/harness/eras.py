"""The two protocols of LMArena that the embedded arena plays."""

from __future__ import annotations

from typing import Final

from upstream.arena.traits import Era

#: As of autumn 2026, and as of late 2025, which may still apply to some accounts.
ERAS: Final[tuple[Era, ...]] = (2026, 2025)
