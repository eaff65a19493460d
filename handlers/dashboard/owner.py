"""The API key of the dashboard's own calls: never stored, never shown."""

from __future__ import annotations

from typing import Final

from bridge.access.keys import ApiKey

#: No known text has this hash, so that no caller can send the key.
OWNER: Final = ApiKey(id="0000", name="dashboard", hash="0" * 64, hint="0000", stealth=True)
