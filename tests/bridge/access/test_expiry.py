"""Expiry dates of keys as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bridge.access.expiry import last_day, read_expiry

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "expires"),
    [
        ("", None),
        ("never", None),
        (" Never ", None),
        ("12h", NOW + 12 * 3600),
        ("30d", NOW + 30 * 86_400),
        ("8 w", NOW + 56 * 86_400),
        ("2026-11-30", datetime(2026, 12, 1, tzinfo=UTC).timestamp()),
        ("2027-02-28", datetime(2027, 3, 1, tzinfo=UTC).timestamp()),
    ],
)
def test_an_expiry_in_words_a_duration_or_a_date_is_parsed(text: str, expires: float | None) -> None:
    assert read_expiry(text, NOW) == expires


@pytest.mark.parametrize("text", ["soon", "0d", "-3d", "30", "2026-11-29", "2026-13-01", "३0d", "1e9d"])
def test_an_invalid_expiry_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expires: must be"):
        read_expiry(text, NOW)


@pytest.mark.parametrize("text", ["2026-11-30", "2027-02-28", "never"])
def test_the_last_day_of_an_expiry_is_written_as_it_was_read(text: str) -> None:
    assert last_day(read_expiry(text, NOW)) == ("" if text == "never" else text)
