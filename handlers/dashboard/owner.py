"""The key of whoever is logged in: in no file, shown to nobody, for the dashboard's own calls."""

from __future__ import annotations

from typing import Final

from bridge.access.keys import ApiKey

#: No text has this hash, so that no caller can show it.
OWNER: Final = ApiKey(id="0000", name="dashboard", hash="0" * 64, hint="0000", stealth=True)
