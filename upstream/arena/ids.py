"""UUIDs: validation of the callers' ids, and the arena's own ids, which are the same in each run."""

from __future__ import annotations

import re
import uuid
from hashlib import sha256

UUIDV7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

_FIRST_MS = 1_735_689_600_000  # 2025-01-01, the earliest time within our UUIDv7
_YEAR_MS = 365 * 86_400_000


def milliseconds_of(uuid7: str) -> int:
    """The time within a UUIDv7, in unix milliseconds."""
    return int(uuid7[:8] + uuid7[9:13], 16)


def fixed_uuid(seed: str, version: int) -> str:
    """A UUID of version 4 or 7 that depends only on the seed; the time within a version 7 is in 2025."""
    digest = sha256(seed.encode()).digest()
    if version == 7:
        milliseconds = _FIRST_MS + int.from_bytes(digest[16:24]) % _YEAR_MS
        digest = milliseconds.to_bytes(6) + digest[6:]
    bits = int.from_bytes(digest[:16])
    bits = bits & ~(0xF << 76) | version << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=bits))
